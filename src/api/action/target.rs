//! The object that an action changes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// What an action changes: an object by kind and name, those of a kind that a selector takes, or what the event leads to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.from) || (has(self.kind) && has(self.name) != has(self.selector))")
    .message("kind and name must be set, or kind and selector, or from"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.from) || !(has(self.apiVersion) || has(self.kind) || has(self.name) || has(self.__namespace__) || has(self.selector))")
    .message("from stands in the place of apiVersion, kind, name, namespace and selector"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.filterExpression) || has(self.selector)")
    .message("filterExpression is for selector"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.__namespace__) || !self.__namespace__.contains('${') || has(self.allowedNamespaces)")
    .message("a namespace that is filled in from the event needs allowedNamespaces"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.max) || has(self.selector) || (has(self.from) && self.from == 'EventUsers')")
    .message("max is for selector and for from: EventUsers"))]
pub struct Target {
    /// In the place of apiVersion, kind, name and namespace: the object that the event leads to, or several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<TargetFrom>,
    /// API version of the object; may be left out for kinds that Kubernetes itself brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub api_version: Option<String>,
    /// Kind of the object, such as `Deployment`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the object; may hold `${ }`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,
    /// In the place of `name`: the objects of the kind in the namespace that have these labels, when the action begins, but for those that are being deleted.
    /// Each is changed in its turn, and waited for if the action waits; one that fails does not keep the others from their turn. The account needs `list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// With `selector`: CEL expression over `target`, such an object, and what other expressions of actions see; those are changed for which it gives true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_expression")]
    pub filter_expression: Option<String>,
    /// Namespace of the object; default: the rule's own. May hold `${ }`, then `allowedNamespaces` bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub namespace: Option<String>,
    /// The namespaces that a filled-in `namespace`, or what the event leads to, may be in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub allowed_namespaces: Vec<String>,
    /// With `selector` and `from: EventUsers`: how many objects one firing may change, 1 to 32; default 10. When there are more, none is changed and the action has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub max: Option<u32>,
}

/// Objects that one firing may change when the target does not say.
const DEFAULT_MAX: u32 = 10;

/// What the event leads to: with `Event` the object that it is about, with `EventOwner` that one's controller at the top, with `EventUsers` the workloads
/// that use it. All are in the rule's own namespace or in one of `allowedNamespaces`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetFrom {
    /// The object that the event is about: the one that a Kubernetes Event regards, or the changed one.
    Event,
    /// Its controller, that one's controller, and so on to the top; the object itself when it has none. The account needs `get` on each of them.
    /// The Deployment of a Pod is found also when the ReplicaSet between them is gone.
    EventOwner,
    /// The Deployments, StatefulSets and DaemonSets of its namespace whose Pods use the ConfigMap or Secret that the event is about, as volume or as
    /// environment (not as `imagePullSecrets`). Each is changed in its turn, and waited for if the action waits; one that fails does not keep the
    /// others from their turn. The account needs `list` on the three kinds.
    EventUsers,
}

impl Target {
    /// Whether it can be more than one object.
    pub fn is_several(&self) -> bool {
        self.from == Some(TargetFrom::EventUsers) || self.selector.is_some()
    }

    /// How many objects one firing may change.
    pub fn limit(&self) -> usize {
        self.max.unwrap_or(DEFAULT_MAX) as usize
    }

    /// Why it names no object, if it does not.
    pub fn fault(&self) -> Option<&'static str> {
        let named = !self.kind.is_empty() && self.name.is_empty() == self.selector.is_some();
        let parts = [self.api_version.is_some(), self.namespace.is_some(), self.selector.is_some()].contains(&true)
            || !self.kind.is_empty()
            || !self.name.is_empty();
        match self.from {
            None if !named => Some("kind and name must be set, or kind and selector, or from"),
            Some(_) if parts => Some("from stands in the place of apiVersion, kind, name, namespace and selector"),
            _ if self.filter_expression.is_some() && self.selector.is_none() => {
                Some("filterExpression is for selector")
            }
            _ if self.max.is_some() && !self.is_several() => Some("max is for selector and for from: EventUsers"),
            _ => None,
        }
    }
}
