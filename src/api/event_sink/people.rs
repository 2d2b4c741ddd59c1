//! Sinks that people read, and services that call them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;

/// Slack: an incoming webhook (`urlSecretRef`), or a bot (`tokenSecretRef` and `channel`), which keeps one thread for each incident: what follows is a reply,
/// and its end changes the first message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.urlSecretRef) != has(self.tokenSecretRef)")
    .message("exactly one of urlSecretRef and tokenSecretRef must be set"))]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.tokenSecretRef) == has(self.channel)")
    .message("channel is for a bot: set it with tokenSecretRef"))]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.tokenSecretRef) || !has(self.apiUrl)")
    .message("apiUrl is for a bot: set it with tokenSecretRef"))]
pub struct Slack {
    /// The Secret that holds the webhook's address, which is a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeyRef>,
    /// The Secret that holds the bot's token, `xoxb-…`, with the scopes `chat:write` and, to find threads again after a restart of the operator,
    /// `channels:history` (`groups:history` for a private channel).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
    /// ID of the channel, such as `C0123456789`, of which the bot is a member. Slack shows it in the channel's details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^[CGD][A-Z0-9]{2,}$"))]
    pub channel: Option<String>,
    /// Where Slack's API is; default `https://slack.com/api`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s?#]+$"))]
    pub api_url: Option<String>,
}

/// A webhook of a Workflow of Microsoft Teams: the one that posts to a channel when a webhook request is received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Teams {
    /// The Secret that holds the webhook's address, which is a credential.
    pub url_secret_ref: SecretKeyRef,
}

/// A webhook of a channel of Discord.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Discord {
    /// The Secret that holds the webhook's address, which is a credential.
    pub url_secret_ref: SecretKeyRef,
}

/// PagerDuty, by its Events API v2. Notifications with one `dedupKey` are one incident: `actions` trigger it, `resolveActions` resolve it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PagerDuty {
    /// The Secret that holds the routing key of an Events API v2 integration.
    pub routing_key_secret_ref: SecretKeyRef,
    /// Where events go; `https://events.eu.pagerduty.com/v2/enqueue` for accounts of the EU.
    #[serde(default = "default_url")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s?#]+$"))]
    pub url: String,
}

fn default_url() -> String {
    "https://events.pagerduty.com/v2/enqueue".to_owned()
}
