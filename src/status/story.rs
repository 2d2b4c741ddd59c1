//! Stories: Kubernetes Events about rules and about what they acted upon.

use k8s_openapi::api::core::v1::ObjectReference;

use crate::{
    api::{GROUP, VERSION},
    kubernetes::{Note, NoteType},
    record::{Effect, RuleRef},
};

/// One Kubernetes Event. Stories on one object that differ in `note` only become a series, shown with the note of the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The object it is told on.
    pub object: ObjectRef,
    /// Whether it may need attention.
    pub warning: bool,
    /// Why, as one word: `Fired`.
    pub reason: String,
    /// What was done, as one word: `Fire`.
    pub action: String,
    /// A sentence.
    pub note: String,
    /// How often it has happened since it was told last, 1 at least.
    pub times: u32,
}

/// An object that a story is told on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// API version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace, if it has one.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// `metadata.uid`; `kubectl describe` finds the Event by it.
    pub uid: String,
}

impl ObjectRef {
    /// An EventRule.
    pub fn rule(rule: &RuleRef) -> Self {
        Self {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "EventRule".to_owned(),
            namespace: Some(rule.namespace.clone()),
            name: rule.name.clone(),
            uid: rule.uid.to_string(),
        }
    }
}

impl From<&Effect> for ObjectRef {
    fn from(effect: &Effect) -> Self {
        Self {
            api_version: effect.api_version.clone(),
            kind: effect.kind.clone(),
            namespace: effect.namespace.clone(),
            name: effect.name.clone(),
            uid: effect.uid.clone(),
        }
    }
}

impl From<Story> for Note {
    fn from(story: Story) -> Self {
        let ObjectRef { api_version, kind, namespace, name, uid } = story.object;
        let regarding = ObjectReference {
            api_version: Some(api_version),
            kind: Some(kind),
            namespace,
            name: Some(name),
            uid: Some(uid),
            ..ObjectReference::default()
        };
        let type_ = if story.warning { NoteType::Warning } else { NoteType::Normal };
        Self {
            regarding,
            type_,
            reason: story.reason,
            action: story.action,
            note: story.note,
            times: story.times,
            related: None,
        }
    }
}
