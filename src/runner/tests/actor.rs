//! Actions that play a script.

use futures::future::BoxFuture;

use super::*;
use crate::{
    actions::{Attempt, Back, Context, Done, Failure, Undo},
    bus::Permit,
    record::{Change, Effect},
};

/// What the actions of a test do, by name: the attempts' results in order, the last one for ever.
pub(super) type Script = Arc<Mutex<HashMap<String, Vec<Play>>>>;

#[derive(Clone)]
pub(super) enum Play {
    Succeed,
    Fail(FailureKind),
    Hang,
    Panic,
    After(Duration),
    /// Has changed the Deployment of this name.
    Change(&'static str),
}

pub(super) fn changed(name: &str) -> Effect {
    Effect {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: Some("shop".into()),
        name: name.into(),
        uid: name.into(),
        resource_version: None,
        found: false,
        gone: false,
        reason: "ScaledByRule".into(),
    }
}

pub(super) struct Actor {
    pub(super) name: String,
    pub(super) script: Script,
    pub(super) story: Story,
}

/// The sink `s` is no target; every other is one.
fn target_of(sink: &Value) -> Option<String> {
    sink.as_str().filter(|name| *name != "s").map(str::to_owned)
}

impl Action for Actor {
    fn target(&self, _: &str, filled: &Value) -> Option<String> {
        target_of(&filled["sinkRef"]["name"]).or_else(|| target_of(&filled["target"]["name"]))
    }

    fn target_again(&self, _: &str, request: &Value) -> Option<String> {
        target_of(&request["target"])
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            self.story.lock().push(format!("render {}", self.name));
            Ok(json!({"firing": cx.firing, "text": filled["text"], "target": filled["sinkRef"]["name"]}))
        })
    }

    fn execute<'a>(
        &'a self,
        _: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        _: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            self.story.lock().push(format!(
                "execute {} {attempt:?} {}",
                self.name,
                request["text"].as_str().unwrap_or("?")
            ));
            let play = {
                let mut script = self.script.lock();
                match script.get_mut(&self.name) {
                    Some(plays) if plays.len() > 1 => plays.remove(0),
                    Some(plays) => plays[0].clone(),
                    None => Play::Succeed,
                }
            };
            let mut effect = None;
            match play {
                Play::Succeed => {}
                Play::Change(name) => effect = Some(changed(name)),
                Play::Fail(kind) => return Err(Failure { kind, message: "it failed".into() }),
                Play::Hang => std::future::pending().await,
                Play::Panic => Vec::new().pop().expect("the actor fell"),
                Play::After(time) => tokio::time::sleep(time).await,
            }
            self.story.lock().push(format!("done {}", self.name));
            let result = json!({"n": 7});
            Ok(Done {
                outcome: ActionOutcome::Succeeded,
                message: format!("did {}", self.name),
                result,
                effect,
                reason: None,
            })
        })
    }

    fn observe<'a>(&'a self, _: &'a Context, _: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            self.story.lock().push(format!("observe {}", self.name));
            let mut script = self.script.lock();
            let play = script.get_mut(&self.name).filter(|plays| plays.len() > 1).map(|plays| plays.remove(0));
            if let Some(Play::Fail(kind)) = play {
                return Err(Failure { kind, message: "it failed".into() });
            }
            let message = format!("would do {}", self.name);
            Ok(Done { outcome: ActionOutcome::Observed, message, result: json!({"n": 7}), effect: None, reason: None })
        })
    }

    fn changed(&self, cx: &Context, request: &Value, effect: Option<&Effect>) -> Undo {
        let Some(effect) = effect else {
            if self.name != "unsure" {
                return if self.name == "nothing" { Undo::Nothing } else { Undo::Never("it cannot be undone") };
            }
            return self.changed(cx, request, Some(&changed("unsure")));
        };
        Undo::Change(Box::new(Change {
            api_version: effect.api_version.clone(),
            kind: effect.kind.clone(),
            namespace: effect.namespace.clone(),
            name: effect.name.clone(),
            uid: effect.uid.clone(),
            subresource: Some("scale".into()),
            manager: cx.firing.manager(&cx.action),
            unsure: false,
            back: json!({"was": request["text"]}),
            made: json!({"is": request["text"]}),
        }))
    }

    fn take_back<'a>(&'a self, _: &'a Context, change: &'a Change) -> BoxFuture<'a, Result<Back, Failure>> {
        Box::pin(async move {
            self.story.lock().push(format!("take back {}", change.name));
            Ok(Back::Request(json!({"text": format!("back {}", change.name)})))
        })
    }

    fn only_waits(&self) -> bool {
        self.name == "pause"
    }

    fn goes_on(&self) -> bool {
        self.name == "drain"
    }

    fn settles(&self, _: &Value) -> bool {
        self.name == "settling"
    }

    fn settle<'a>(
        &'a self,
        _: &'a Context,
        _: &'a Value,
        result: &'a Value,
        _: Permit,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            self.story.lock().push(format!("settle {result}"));
            Ok(())
        })
    }
}
