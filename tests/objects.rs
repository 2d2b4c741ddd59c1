//! `apply`, `create` and `delete`, `setImage`, and what is done with Pods and Nodes, on a real API server.

use support::stage::Stage;

mod support;

#[path = "objects/gatekeeper.rs"]
mod gatekeeper;
#[path = "objects/images.rs"]
mod images;
#[path = "objects/manifests.rs"]
mod manifests;
#[path = "objects/nodes.rs"]
mod nodes;
#[path = "objects/refusals.rs"]
mod refusals;
#[path = "objects/scaling.rs"]
mod scaling;
#[path = "objects/selecting.rs"]
mod selecting;
#[path = "objects/undoing.rs"]
mod undoing;

/// What the tests share: actions on the objects of a stage.
mod common {
    use std::sync::Arc;

    use kube::{
        Api,
        api::{Patch, PatchParams},
        core::{ApiResource, DynamicObject, GroupVersionKind},
    };
    use serde_json::Value;
    use signalbox::{
        api::RuleMode,
        record::{Finished, OpenFiring},
    };

    use super::{Stage, support::control_plane::shared};

    /// The objects of a kind in the stage's namespace.
    pub fn api(stage: &Stage, group: &str, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(stage.client.clone(), &stage.namespace, &resource(group, kind))
    }

    pub fn resource(group: &str, kind: &str) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind))
    }

    /// Somebody else makes the object so.
    pub async fn theirs(api: &Api<DynamicObject>, name: &str, object: Value) -> DynamicObject {
        let force = PatchParams { force: true, ..PatchParams::apply("their-tool") };
        api.patch(name, &force, &Patch::Apply(object)).await.expect("apply")
    }

    /// Somebody else changes the object.
    pub async fn meddle(api: &Api<DynamicObject>, name: &str, patch: Value) -> DynamicObject {
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patch")
    }

    /// Runs a firing of which nothing is written: its request is recorded, as by a process that dies just then.
    pub async fn observed(stage: &mut Stage, open: &OpenFiring) -> Finished {
        let mut open = open.clone();
        Arc::make_mut(&mut open.spec).mode = RuleMode::Observe;
        stage.run(open).await
    }

    /// Grants the stage's account these rules in the whole cluster.
    pub async fn granted_everywhere(stage: &Stage, rules: &str) {
        let name = format!("{}-wide", stage.namespace);
        let namespace = &stage.namespace;
        shared()
            .await
            .apply(&format!(
                r#"{{"apiVersion": "v1", "kind": "List", "items": [
                {{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {{"name": "{name}"}}, "rules": {rules}}},
                {{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {{"name": "{name}"}},
                  "roleRef": {{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "{name}"}},
                  "subjects": [{{"kind": "ServiceAccount", "name": "ops", "namespace": "{namespace}"}}]}}]}}"#
            ))
            .await;
    }
}
