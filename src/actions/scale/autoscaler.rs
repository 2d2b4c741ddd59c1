//! What scales an object by itself: a HorizontalPodAutoscaler, which may be that of a ScaledObject of KEDA.

use kube::{Api, api::ListParams, core::DynamicObject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Amount;
use crate::{
    actions::{
        Context, Failure,
        fields::{Fields, Verb},
        recording,
        target::Aim,
        write::Step,
    },
    api::{Autoscaler, PatchType, Scale},
    kubernetes::{Resource, Right},
};

const KIND: &str = "HorizontalPodAutoscaler";
/// Objects in one answer of the API server, a few kB each.
const PAGE: u32 = 250;

/// What manages the number of replicas.
pub(super) struct Found {
    aim: Aim,
    hpa: DynamicObject,
}

/// What is known of an autoscaler of an object that is scaled all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Known {
    /// The rule ignores it.
    #[default]
    Ignored,
    /// The account may not see it, and the rule does not insist.
    Unseen,
    /// There is none.
    Free,
}

impl Known {
    /// Whether a rule that says this of autoscalers need not look again.
    pub(super) fn is_enough(self, said: Option<Autoscaler>) -> bool {
        match said {
            Some(Autoscaler::Ignore) => true,
            None => self != Self::Ignored,
            Some(Autoscaler::Refuse | Autoscaler::Adjust) => self == Self::Free,
        }
    }
}

/// The bounds within which it is managed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    min: i64,
    max: i64,
}

impl Bounds {
    /// What makes it `to` replicas, or more, when there are to be more; `to` or fewer when there are to be fewer.
    fn moved(self, from: i32, to: i32) -> Self {
        let bound = i64::from(to);
        match to >= from {
            true => Self { min: bound, max: self.max.max(bound) },
            false => Self { min: self.min.min(bound), max: bound },
        }
    }

    fn json(self) -> Value {
        json!({"min": self.min, "max": self.max})
    }
}

/// What the account needs beside the scale, where the rule insists.
pub(super) async fn rights(aim: &Aim, spec: &Scale, cx: &crate::kubernetes::Cluster) -> Vec<Right> {
    let verbs: &[&str] = match spec.autoscaler {
        None | Some(Autoscaler::Ignore) => &[],
        Some(Autoscaler::Refuse) => &["list"],
        Some(Autoscaler::Adjust) => &["list", "get", "patch"],
    };
    let Ok(resource) = cx.resolve(None, KIND).await else { return Vec::new() };
    verbs.iter().map(|verb| right(&resource, aim.namespace.as_deref(), verb)).collect()
}

fn right(resource: &Resource, namespace: Option<&str>, verb: &str) -> Right {
    Right::new(verb, &resource.api.group, &resource.api.plural).within(namespace)
}

/// The autoscaler of the step's object. Where the rule says nothing of autoscalers, none is found by an account that may not see them.
pub(super) async fn find(step: &Step<'_>, spec: &Scale) -> Result<Result<Found, Known>, Failure> {
    if spec.autoscaler == Some(Autoscaler::Ignore) {
        return Ok(Err(Known::Ignored));
    }
    let Ok(resource) = step.cx.services.cluster.resolve(None, KIND).await else {
        return Ok(Err(Known::Free));
    };
    // They are in namespaces, as what they scale.
    let Some(namespace) = step.aim.namespace.as_deref() else { return Ok(Err(Known::Free)) };
    let client = step.cx.services.cluster.as_account(&step.cx.account);
    let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource.api);
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = match api.list(&params).await {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.is_forbidden() && spec.autoscaler.is_none() => {
                return Ok(Err(Known::Unseen));
            }
            Err(error) => {
                let doing = format!("find what scales {}", step.aim.title());
                let right = right(&resource, Some(namespace), "list");
                return Err(Failure::of_kube(&error, &doing, &step.cx.account, right));
            }
        };
        if let Some(hpa) = page.items.into_iter().find(|hpa| scales(&hpa.data["spec"]["scaleTargetRef"], &step.aim)) {
            let name = hpa.metadata.name.clone().unwrap_or_default();
            let aim = Aim { resource, name, namespace: step.aim.namespace.clone() };
            return Ok(Ok(Found { aim, hpa }));
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(Err(Known::Free)),
        }
    }
}

/// Whether the reference leads to the object. Versions of one kind are one.
fn scales(reference: &Value, aim: &Aim) -> bool {
    let group = |version: &str| version.split_once('/').map_or("", |(group, _)| group).to_owned();
    let same_group = reference["apiVersion"].as_str().is_none_or(|version| group(version) == aim.resource.api.group);
    reference["kind"] == *aim.resource.api.kind && reference["name"] == *aim.name && same_group
}

impl Found {
    /// The ScaledObject that has made the HorizontalPodAutoscaler, if one has.
    fn scaled_object(&self) -> Option<(&str, &str)> {
        let mut owners = self.hpa.metadata.owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.kind == "ScaledObject" && owner.api_version.starts_with("keda.sh/"))?;
        Some((&owner.api_version, &owner.name))
    }

    /// The failure of a rule that leaves to the autoscaler what is the autoscaler's.
    pub(super) fn refusal(&self, step: &Step<'_>) -> Failure {
        let it = match self.scaled_object() {
            Some((_, name)) => format!("ScaledObject {}/{name}", step.aim.namespace.as_deref().unwrap_or_default()),
            None => self.aim.title(),
        };
        Failure::last(format!(
            "scale {}: {it} manages it, and would change it back; autoscaler: Adjust moves its bounds instead, Ignore scales all the same",
            step.aim.title()
        ))
    }

    /// The change of its bounds that lets the object have so many replicas.
    ///
    /// # Errors
    /// Final when it is 0, which no bound asks for.
    pub(super) async fn adjusted(
        self,
        cx: &Context,
        of: &Aim,
        from: i32,
        desired: Amount<'_>,
    ) -> Result<Value, Failure> {
        let to = desired(from);
        if to == 0 {
            let message = "an autoscaler cannot be told to scale to 0: its least is 1";
            return Err(Failure::last(format!("scale {}: {message}", of.title())));
        }
        let (aim, fields) = match self.scaled_object() {
            None => (self.aim, ["minReplicas", "maxReplicas"]),
            Some((api_version, name)) => {
                let resource = cx.services.cluster.resolve(Some(api_version), "ScaledObject").await?;
                let aim = Aim { resource, name: name.to_owned(), namespace: of.namespace.clone() };
                (aim, ["minReplicaCount", "maxReplicaCount"])
            }
        };
        let step = Step::new(cx, aim);
        let now = step.get().await?;
        // What is left out of a HorizontalPodAutoscaler is filled in by the API server; KEDA's own defaults are 0 and 100.
        let bound = |field: &str, default: i64| now.data["spec"][field].as_i64().unwrap_or(default);
        let before = Bounds { min: bound(fields[0], 0), max: bound(fields[1], 100) };
        let after = before.moved(from, to);
        let patch = json!({"spec": {fields[0]: after.min, fields[1]: after.max}});
        let request = Fields::new(&step, &now, Verb::Adjust, PatchType::Merge, patch);
        let Bounds { min, max } = before;
        let how = format!(" from {min}..{max} to {}..{} for {}", after.min, after.max, of.title());
        let more = json!({"from": before.json(), "to": after.json()}).as_object().cloned().unwrap_or_default();
        let request = Fields { how, more, ..request }.keeping(&step, &now).await?;
        recording::of(&request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_replicas_raise_the_least_and_fewer_lower_the_most() {
        let bounds = Bounds { min: 2, max: 10 };
        for (from, to, min, max) in [(5, 8, 8, 10), (5, 12, 12, 12), (5, 5, 5, 10), (5, 3, 2, 3), (5, 1, 1, 1)] {
            assert_eq!(bounds.moved(from, to), Bounds { min, max }, "{from} to {to}");
        }
    }
}
