//! `scale` of an action.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Restore, Target};
use crate::api::schema;

/// Sets the number of replicas through the scale subresource; nothing else of the object is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("[has(self.to), has(self.toExpression), has(self.by)].filter(x, x).size() == 1")
    .message("exactly one of to, toExpression and by must be set"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.min) || !has(self.max) || self.min <= self.max")
    .message("min must not be greater than max"))]
pub struct Scale {
    /// What is scaled.
    pub target: Target,
    /// The number of replicas to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub to: Option<i32>,
    /// CEL expression that gives the number of replicas to set, a whole one: `int(math.ceil(value / 50.0))`. It knows what the texts of actions know, and is
    /// evaluated when the action's turn has come. Less than 0 is 0; more than 1000000 is an error, unless `max` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_expression")]
    pub to_expression: Option<String>,
    /// The change: `"2"`, `"-1"`, or a share of the present number, `"50%"`, `"-25%"`, rounded away from zero. The absolute number
    /// is fixed and recorded before the write, so a repetition never adds twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12), regex(pattern = r"^[+-]?[0-9]{1,7}%?$"))]
    pub by: Option<String>,
    /// The result is never below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min: Option<i32>,
    /// The result is never above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max: Option<i32>,
    /// What is done about a target that a HorizontalPodAutoscaler or a ScaledObject manages. Default: `Refuse`, where the account may list
    /// HorizontalPodAutoscalers (without that right they are not seen); when it is set, the account needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaler: Option<Autoscaler>,
    /// When the former number is given back; default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

/// What is done about a target that an autoscaler manages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Autoscaler {
    /// The action fails, and names it.
    #[default]
    Refuse,
    /// Its bounds are moved, and the target is left to it: for more replicas its least number, for fewer its greatest, and the other where it would be
    /// passed. The account needs `get` and `patch` on it.
    Adjust,
    /// The target is scaled all the same.
    Ignore,
}

/// [`Scale::to`] and [`Scale::by`], read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleAmount {
    /// Exactly so many replicas.
    To(i32),
    /// So many more, or fewer.
    By(i32),
    /// So many hundredths more, or fewer.
    ByPercent(i32),
}

impl Scale {
    /// What is wrong with what says how many, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        if self.to_expression.is_some() && self.to.is_none() && self.by.is_none() || self.amount().is_some() {
            return None;
        }
        Some(
            "exactly one of to, toExpression and by must be set, and by must be a number such as \"2\", \"-1\" or \"50%\"",
        )
    }

    /// What the action sets, or nothing when that is evaluated, when not exactly one of `to` and `by` is set, and when `by` is no number.
    pub fn amount(&self) -> Option<ScaleAmount> {
        match (self.to, self.by.as_deref()) {
            _ if self.to_expression.is_some() => None,
            (Some(to), None) => Some(ScaleAmount::To(to)),
            (None, Some(by)) => match by.strip_suffix('%') {
                Some(percent) => percent.parse().ok().map(ScaleAmount::ByPercent),
                None => by.parse().ok().map(ScaleAmount::By),
            },
            _ => None,
        }
    }
}
