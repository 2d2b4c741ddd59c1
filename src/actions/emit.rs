//! `emit`: puts an event on the bus.
//!
//! The action itself does nothing but say what the event is: the event follows from the outcome of the step, which the log has once, and so it is there
//! once, whatever was repeated.

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Action, Attempt, Context, Done, Failure, recording, text};
use crate::{
    api::{self, ActionOutcome},
    bus::Permit,
    event::{MAX_LEVELS, cloud_events, levels, rule_event, trail::MAX_HOPS},
    record::Emitted,
};

/// Bytes of the data as JSON. It is in the log with the intent and with the event, and in memory while firings are about it.
const MAX_DATA: usize = 64 << 10;

/// The action.
pub(super) struct Emit(api::Emit);

impl Emit {
    pub(super) fn new(spec: &api::Emit) -> Self {
        Self(spec.clone())
    }

    fn event(&self, cx: &Context, filled: &Value) -> Result<Emitted, Failure> {
        if cx.hops >= MAX_HOPS {
            return Err(Failure::last(format!(
                "emit: the firing came about by {} steps of rules already, and {MAX_HOPS} are the most: rules that set each other off end here; see \
                 event.signalboxrules for their uids",
                cx.hops
            )));
        }
        let odd = |why: String| Failure::last(format!("emit: {why}"));
        let type_ = text::of(filled.get("type"), "type")?;
        rule_event::emittable(&type_).map_err(|why| odd(format!("type {why}")))?;
        cloud_events::attribute("type", &type_).map_err(|error| odd(error.to_string()))?;
        let subject = match self.0.subject {
            Some(_) => Some(text::of(filled.get("subject"), "subject")?),
            None => cx.event.subject.clone(),
        };
        if let Some(subject) = &subject {
            cloud_events::attribute("subject", subject).map_err(|error| odd(error.to_string()))?;
        }
        let data = filled.get("data").cloned().unwrap_or_default();
        let size = data.to_string().len();
        if size > MAX_DATA {
            return Err(odd(format!("data has {size} bytes as JSON; {MAX_DATA} are allowed")));
        }
        if levels(&data) > MAX_LEVELS {
            return Err(odd(format!("data has more than {MAX_LEVELS} levels")));
        }
        Ok(Emitted { type_, subject, data })
    }
}

fn read(request: &Value) -> Result<Emitted, Failure> {
    recording::read(request)
}

impl Action for Emit {
    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let event = self.event(cx, filled)?;
            serde_json::to_value(event).map_err(|error| Failure::last(format!("record the event: {error}")))
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        _attempt: Attempt,
        _permit: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let Emitted { type_, .. } = read(request)?;
            let (id, source) = (cx.key(), rule_event::event_source(&cx.rule.namespace, &cx.rule.name));
            Ok(Done {
                outcome: ActionOutcome::Succeeded,
                message: format!("emitted {type_}"),
                result: json!({"id": id, "source": source, "type": type_}),
                effect: None,
                reason: None,
            })
        })
    }

    fn observe<'a>(&'a self, _cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let Emitted { type_, .. } = read(request)?;
            Ok(Done::observed(format!("would emit {type_}"), Value::Null))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{action, context},
        *,
    };
    use crate::kubernetes::fake::Fake;

    fn cx() -> Context {
        context(&Fake::new(|_| (404, json!({}))))
    }

    async fn render(cx: &Context, emit: Value) -> Result<Value, String> {
        let act = action(json!({"name": "act", "emit": emit}));
        act.render(cx, &emit).await.map_err(|failure| {
            assert_eq!(failure.kind, super::super::FailureKind::Final);
            failure.message
        })
    }

    #[tokio::test]
    async fn the_event_is_as_the_rule_says_and_about_what_the_firing_is_about() {
        let emit = json!({"type": "com.acme.paid", "data": {"sum": 3}});
        let request = render(&cx(), emit.clone()).await.expect("rendered");
        assert_eq!(request, json!({"type": "com.acme.paid", "subject": "shop/Pod/web-1", "data": {"sum": 3}}));
        let act = action(json!({"name": "act", "emit": emit}));
        for attempt in [Attempt::First, Attempt::Again] {
            let done = act.execute(&cx(), &request, attempt, Permit::for_test()).await.expect("done");
            assert_eq!(done.result["id"], "0123456789abcdef0123-act", "{attempt:?}");
        }
        let done = act.observe(&cx(), &request).await.expect("observed");
        assert_eq!((done.outcome, done.message.as_str()), (ActionOutcome::Observed, "would emit com.acme.paid"));
        let request = render(&cx(), json!({"type": "t", "subject": "order/7"})).await.expect("rendered");
        assert_eq!(request, json!({"type": "t", "subject": "order/7"}));
    }

    #[tokio::test]
    async fn what_cannot_be_an_event_fails_for_good_and_says_why() {
        let mut deep = json!(1);
        for _ in 0..=MAX_LEVELS {
            deep = json!([deep]);
        }
        for (emit, why) in [
            (json!({"type": "dev.signalbox.rule.failed"}), "type must not begin with dev.signalbox."),
            (json!({"type": ""}), "type is empty"),
            (json!({"type": "a\nb"}), "type has control characters"),
            (json!({"type": "t", "subject": "x".repeat(5_000)}), "subject has 5000 bytes; 4096 are allowed"),
            (json!({"type": "t", "data": "x".repeat(MAX_DATA)}), "data has 65538 bytes as JSON; 65536 are allowed"),
            (json!({"type": "t", "data": deep}), "data has more than 90 levels"),
        ] {
            let said = render(&cx(), emit).await.expect_err(why);
            assert!(said.contains(why), "{said}");
        }
    }

    #[tokio::test]
    async fn a_chain_of_rules_ends_after_eight_steps_and_says_so() {
        let emit = json!({"type": "com.acme.paid"});
        render(&Context { hops: MAX_HOPS - 1, ..cx() }, emit.clone()).await.expect("the eighth");
        let said = render(&Context { hops: MAX_HOPS, ..cx() }, emit).await.expect_err("the ninth");
        assert!(said.contains("by 8 steps of rules already, and 8 are the most"), "{said}");
    }
}
