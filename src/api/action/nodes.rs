//! `actions[].cordon`, `uncordon`, `taint` and `drain` of an EventRule: what is done with Nodes.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Marks a Node as unschedulable, as `kubectl cordon`. The rule's account needs `get` and `patch` on nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cordon {
    /// Name of the Node; may hold `${ }`. Default: the Node that the event is about, or that the Pod is on that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub node: Option<String>,
}

/// Makes a Node schedulable again, as `kubectl uncordon`. The rule's account needs `get` and `patch` on nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Uncordon {
    /// Name of the Node, as with `cordon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub node: Option<String>,
}

/// Gives a Node a taint, or takes one away, as `kubectl taint`. The rule's account needs `get` and `patch` on nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("!self.remove || !has(self.value)").message("a taint is removed by its key and effect: leave value out"))]
pub struct Taint {
    /// Name of the Node, as with `cordon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub node: Option<String>,
    /// Key of the taint, such as `example.com/maintenance`.
    #[schemars(
        length(min = 1, max = 316),
        regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub key: String,
    /// Value of the taint. A taint of the same key and effect with another value is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"))]
    pub value: Option<String>,
    /// What becomes of Pods that do not tolerate it; default `NoSchedule`, with `remove` every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// Takes the taint away.
    #[serde(default)]
    pub remove: bool,
}

/// What becomes of Pods that do not tolerate a taint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// They are not scheduled to the Node any more.
    #[default]
    NoSchedule,
    /// They are scheduled to it only when there is no other.
    PreferNoSchedule,
    /// They are evicted, without regard to PodDisruptionBudgets.
    NoExecute,
}

impl TaintEffect {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// Cordons a Node and evicts its Pods, but for those of DaemonSets and static ones, until none is left, as `kubectl drain`; what they keep in an `emptyDir`
/// is lost. PodDisruptionBudgets are honoured: an eviction that one forbids is tried again until `timeout` of the action (default 15m), which then has
/// failed; the Node stays cordoned. The rule's account needs `get` and `patch` on nodes, `list` on pods and `create` on `pods/eviction`, in all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Name of the Node, as with `cordon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub node: Option<String>,
    /// Evicts also Pods that have no controller, which nothing makes anew. By default the action fails because of them before anything is evicted.
    #[serde(default)]
    pub force: bool,
}
