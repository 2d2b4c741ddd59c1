//! What actions change: objects with a number and with the marks of the steps that have changed it. It survives every crash.

use std::{collections::BTreeMap, future::pending, sync::Arc};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::disk::SimulatedBus;
use crate::{
    actions::{Action, Attempt, Back, Context, Done, Failure, FailureKind, Undo},
    api::ActionOutcome,
    bus::Permit,
    record::{self, Effect},
};

/// A Deployment.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    pub(super) number: u64,
    pub(super) version: u64,
    /// The step that wrote the number last, as its field manager.
    pub(super) mark: Option<String>,
}

/// A change of an object, as its watch tells it.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) name: String,
    /// The step's field manager; nothing when somebody else has made it.
    pub(super) by: Option<String>,
    /// What bears the object's number after it.
    pub(super) mark: Option<String>,
    /// What it has added to the number.
    pub(super) added: i64,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) objects: BTreeMap<String, Object>,
    /// Every change there was.
    pub(super) changes: Vec<Change>,
    pub(super) version: u64,
}

/// The world, shared by everything.
pub(super) type Shared = Arc<Mutex<World>>;

impl World {
    /// Somebody else touches an object, and leaves its number alone.
    pub(super) fn touch(&mut self, name: &str) {
        self.change(name, None);
    }

    fn change(&mut self, name: &str, by: Option<(&str, u64)>) -> u64 {
        self.version += 1;
        let object = self.objects.entry(name.to_owned()).or_default();
        object.version = self.version;
        let before = object.number;
        if let Some((by, to)) = by {
            object.number = to;
            object.mark = Some(by.to_owned());
        }
        let added = object.number as i64 - before as i64;
        let (by, mark) = (by.map(|(by, _)| by.to_owned()), object.mark.clone());
        self.changes.push(Change { version: self.version, name: name.to_owned(), by, mark, added });
        self.version
    }
}

/// An action that makes the number of an object one larger, and has the troubles of a real one.
pub(super) struct Bump {
    pub(super) world: Shared,
    pub(super) bus: SimulatedBus,
}

impl Action for Bump {
    fn target(&self, _: &str, filled: &Value) -> Option<String> {
        Some(format!("shop/Deployment/{}", filled["target"]["name"].as_str()?))
    }

    fn target_again(&self, _: &str, request: &Value) -> Option<String> {
        Some(format!("shop/Deployment/{}", request["name"].as_str()?))
    }

    fn render<'a>(&'a self, _: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            self.bus.dawdle().await;
            let name = filled["target"]["name"].as_str().expect("a name").to_owned();
            if self.bus.random(20) == 0 {
                return Err(Failure::retryable("the API server is slow"));
            }
            let number = self.world.lock().objects.get(&name).map_or(0, |object| object.number);
            Ok(json!({"name": name, "from": number, "to": number + 1}))
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        permit: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            self.bus.dawdle().await;
            if !self.bus.lives() {
                return pending().await;
            }
            assert!(permit.position() <= self.bus.synced(), "a permit tells no more than is on the disk");
            let recorded = self.bus.is_recorded(&cx.firing, &cx.action, request);
            assert!(recorded, "{} {} acts before its intent is on the disk", cx.firing, cx.action);
            match self.bus.random(20) {
                0 => return Err(Failure::retryable("it did not arrive")),
                1 if attempt == Attempt::First => {
                    return Err(Failure { kind: FailureKind::Conflict, message: "it has changed".into() });
                }
                2 => return Err(Failure::last("it is forbidden")),
                _ => {}
            }
            let answer = self.write(&cx.firing.manager(&cx.action), request, attempt);
            self.bus.dawdle().await;
            // Written, and the life may be over before the answer comes.
            if !self.bus.lives() {
                return pending().await;
            }
            if self.bus.random(20) == 0 { Err(Failure::retryable("the answer was lost")) } else { answer }
        })
    }

    fn changed(&self, cx: &Context, request: &Value, _: Option<&Effect>) -> Undo {
        let name = request["name"].as_str().expect("a name").to_owned();
        Undo::Change(Box::new(record::Change {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: Some("shop".into()),
            uid: format!("uid-{name}"),
            name,
            subresource: None,
            manager: cx.firing.manager(""),
            unsure: false,
            back: request["from"].clone(),
            made: request["to"].clone(),
        }))
    }

    fn take_back<'a>(&'a self, _: &'a Context, change: &'a record::Change) -> BoxFuture<'a, Result<Back, Failure>> {
        Box::pin(async move {
            self.bus.dawdle().await;
            if self.bus.random(20) == 0 {
                return Err(Failure::retryable("the API server is slow"));
            }
            let object = self.world.lock().objects.get(&change.name).cloned().unwrap_or_default();
            let (number, ours) = (object.number, object.mark.is_some_and(|mark| mark.starts_with(&change.manager)));
            let done = |outcome, message: &str| {
                let message = message.to_owned();
                Back::Done(Box::new(Done { outcome, message, result: json!({}), effect: None, reason: None }))
            };
            Ok(if change.made == number && (ours || !change.unsure) {
                Back::Request(json!({"name": change.name, "from": number, "to": change.back}))
            } else if change.back == number {
                done(ActionOutcome::Unchanged, "it is so already")
            } else {
                done(ActionOutcome::Superseded, "another firing has changed it")
            })
        })
    }

    fn observe<'a>(&'a self, _: &'a Context, _: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        let (outcome, message) = (ActionOutcome::Observed, "would do it".to_owned());
        Box::pin(std::future::ready(Ok(Done { outcome, message, result: json!({}), effect: None, reason: None })))
    }
}

impl Bump {
    fn write(&self, mark: &str, request: &Value, attempt: Attempt) -> Result<Done, Failure> {
        let mut world = self.world.lock();
        let name = request["name"].as_str().expect("a name");
        let object = world.objects.entry(name.to_owned()).or_default();
        let found = attempt == Attempt::Again && object.mark.as_deref() == Some(mark);
        let version = if found {
            object.version
        } else {
            assert_eq!(request["from"], object.number, "{mark}: nobody else writes {name}, and one step at a time");
            world.change(name, Some((mark, request["to"].as_u64().expect("a number"))))
        };
        let effect = Effect {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: Some("shop".into()),
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            resource_version: Some(version.to_string()),
            found,
            gone: false,
            reason: "ScaledByRule".into(),
        };
        let message = format!("scaled {name} to {}", request["to"]);
        Ok(Done { outcome: ActionOutcome::Succeeded, message, result: json!({}), effect: Some(effect), reason: None })
    }
}
