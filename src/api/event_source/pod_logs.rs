//! The kind `podLogs`.

use std::time::Duration as Span;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::RateLimit;
use crate::api::Duration;

/// Lines that containers of this namespace write, as `kubectl logs` shows them. Each line that matches is an event of type `dev.signalbox.pod.log`:
/// `event.data.line` is the line, `event.data.match.<name>` what a named group of the pattern took, `event.data.container` the container, and
/// `event.data.regarding` the Pod (`namespace`, `name`, `uid`), so that `target: {from: Event}` and `{from: EventOwner}` lead to it. `event.subject` is the Pod,
/// `shop/Pod/web-1`; `event.time` is when the line was written. What a program writes in several lines is several lines.
///
/// Lines are taken from when a rule listens on; of a Pod or container that comes later, from its first one. After a lost connection it goes on after the last
/// line that was looked at, and after a restart of the operator with the lines of the last five minutes; none is a second event. Nobody but the
/// kubelet keeps lines: what it has thrown away meanwhile (rotation, a container that has restarted twice, a Pod that is gone) is lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.rateLimit) || self.rateLimit.events <= 500")
    .message("rateLimit.events must be 1 to 500: with more, lines that are read again after a restart could not be told from new ones"))]
pub struct PodLogsSource {
    /// Labels of the Pods; `{}` takes all Pods of the namespace. The account needs `list` and `watch` on Pods, and `get` on `pods/log`.
    pub selector: LabelSelector,
    /// Names of containers, also of init and ephemeral ones. Default: all of the Pod. Of one source 100 containers that run are followed at once, of all sources
    /// 500; the condition `Connected` says when there are more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    pub containers: Vec<String>,
    /// The regular expression (RE2's syntax) that a part of the line must match; `^` and `$` are its ends. Named groups, `(?P<code>[0-9]+)`, become
    /// `event.data.match.code`; one that took no part is absent.
    #[schemars(length(min = 1, max = 1024))]
    pub pattern: String,
    /// How many matching lines are events, 500 at most, in which time by when they were written; default: 100 in 1 s. Those beyond are left out and counted
    /// (`status.rejected.rateLimited`), and the condition `Connected` says so.
    #[serde(default = "default_rate_limit")]
    pub rate_limit: RateLimit,
    /// Bytes of a line that are looked at and kept, 256 to 65536; default: 16384. Of a longer one the rest is left out, and `event.data.truncated` is true.
    #[serde(default = "default_max_line_bytes")]
    #[schemars(range(min = 256, max = 65_536))]
    pub max_line_bytes: u32,
}

fn default_rate_limit() -> RateLimit {
    RateLimit { events: 100, per: Duration::from_secs(1) }
}

fn default_max_line_bytes() -> u32 {
    16_384
}

impl PodLogsSource {
    /// The greatest `rateLimit.events`. With it five minutes have 150,000 lines at most; the ids of 200,000 are remembered.
    pub const MAX_EVENTS: u32 = 500;
    /// The times of `rateLimit.per`.
    pub const PER: std::ops::RangeInclusive<Span> = Span::from_secs(1)..=Span::from_hours(24);
    /// What `maxLineBytes` may be.
    pub const LINE_BYTES: std::ops::RangeInclusive<u32> = 256..=65_536;
}
