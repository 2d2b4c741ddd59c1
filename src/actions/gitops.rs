//! Whether a tool for GitOps looks after an object: what a rule changes of it is changed back then, sooner or later. A hint for people, and nothing else:
//! whoever may write an object can say so of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::target::short;

/// Labels and annotations by which the tools know what is theirs, and the kind that is named by their value.
/// [Argo CD](https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/),
/// [Flux](https://fluxcd.io/flux/faq/#why-are-kubectl-edits-rolled-back-by-flux)
const MARKS: [(&str, &str); 4] = [
    ("argocd.argoproj.io/tracking-id", "Argo CD"),
    ("argocd.argoproj.io/instance", "Argo CD"),
    ("kustomize.toolkit.fluxcd.io/name", "Flux Kustomization"),
    ("helm.toolkit.fluxcd.io/name", "Flux HelmRelease"),
];

/// The end of a message about an object that one of them manages: `; Flux Kustomization web manages it and may change it back`.
pub(super) fn warning(metadata: &ObjectMeta) -> String {
    let value = |key: &str| {
        let in_map = |map: &Option<std::collections::BTreeMap<String, String>>| map.as_ref()?.get(key).cloned();
        in_map(&metadata.annotations).or_else(|| in_map(&metadata.labels))
    };
    let found = MARKS.iter().find_map(|(key, tool)| Some((tool, value(key)?)));
    let Some((tool, value)) = found else { return String::new() };
    // `<application>:<group>/<kind>:<namespace>/<name>`
    let name = value.split(':').next().unwrap_or_default();
    format!("; {tool} {} manages it and may change it back", short(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_argo_cd_or_flux_manages_is_told_with_its_name() {
        for (metadata, expect) in [
            (json!({}), ""),
            (json!({"labels": {"app.kubernetes.io/instance": "web"}}), ""),
            (
                json!({"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/web"}}),
                "; Argo CD shop manages it and may change it back",
            ),
            (
                json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}}),
                "; Flux Kustomization apps manages it and may change it back",
            ),
        ] {
            let metadata: ObjectMeta = serde_json::from_value(metadata).expect("metadata");
            assert_eq!(warning(&metadata), expect);
        }
    }
}
