//! What of the archive an account may see.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde_json::Value;

use super::{Refusal, asked::Asked, failed};
use crate::{
    api::GROUP,
    event::{Event, TYPE_KUBERNETES_EVENT, WatchKey, event_source, rule_event},
    kubernetes::{Cluster, MissingRight, ResolveError, Right, merged},
    record::{Account, EventInput, Lookups},
    text,
};

/// What was asked for, by an account that may watch all of it.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    account: Account,
    watches: BTreeSet<WatchKey>,
    sources: BTreeSet<String>,
    rules: bool,
}

impl Sight {
    /// Asks the API server whether the account may watch, now, what is asked for.
    ///
    /// # Errors
    /// When it may not: all that it lacks, with the commands that grant it.
    pub(super) async fn open(cluster: &Cluster, account: Account, asked: Asked) -> Result<Self, Refusal> {
        let (mut rights, mut watches) = (Vec::new(), BTreeSet::new());
        for watch in asked.watches {
            let resource = match cluster.resolve(Some(&watch.api_version), &watch.kind).await {
                Ok(resource) => resource,
                Err(error @ ResolveError::Request(_)) => return Err(failed(error)),
                Err(error) => return Err(Refusal(StatusCode::BAD_REQUEST, error.to_string())),
            };
            let namespace = watch.namespace.clone().filter(|_| resource.namespaced);
            for verb in ["list", "watch"] {
                let right = Right::new(verb, &resource.api.group, &resource.api.plural);
                rights.push(right.within(namespace.as_deref()));
            }
            watches.insert(WatchKey { namespace, ..watch });
        }
        for source in &asked.sources {
            rights.push(Right::new("get", GROUP, "eventsources").within(Some(&account.namespace)).named(source));
        }
        let mut missing: Vec<MissingRight> = Vec::new();
        for right in rights {
            if !cluster.may(&account, &right).await.map_err(failed)? {
                missing.push(right.missing_for(&account));
            }
        }
        if missing.is_empty() {
            return Ok(Self { account, watches, sources: asked.sources, rules: asked.rules });
        }
        Err(Refusal(StatusCode::FORBIDDEN, text::join(merged(missing))))
    }

    /// Of somebody who has asked for nothing.
    #[cfg(test)]
    pub(super) fn nothing(account: Account) -> Self {
        Self { account, watches: BTreeSet::new(), sources: BTreeSet::new(), rules: false }
    }

    /// Whether the event is one of what was asked for.
    pub(super) fn sees(&self, input: &EventInput) -> bool {
        let (event, watch) = (&*input.event, &input.origin.watch);
        // The types of what the cluster tells are Signalbox's own; nobody else can send an event of one.
        if !event.is_change() && event.type_ != TYPE_KUBERNETES_EVENT {
            let here = watch.namespace.as_deref() == Some(&*self.account.namespace);
            let of_source = event_source::name(&input.origin).is_some_and(|name| self.sources.contains(name));
            return here && (of_source || (self.rules && rule_event::is_watch(watch)));
        }
        let namespace = namespace(event).or(watch.namespace.as_deref());
        self.watches.iter().any(|one| {
            one.api_version == watch.api_version
                && one.kind == watch.kind
                && one.namespace.as_deref().is_none_or(|scope| namespace == Some(scope))
        })
    }

    /// The event as the account saw it, or would have: what was looked up for others is left out.
    pub(super) fn shown(&self, input: &EventInput) -> EventInput {
        let Lookups { namespace_labels, regarding_labels, regarding_owner } = input.lookups.clone();
        let lookups = Lookups {
            namespace_labels,
            regarding_labels: regarding_labels.into_iter().filter(|(who, _)| *who == self.account).collect(),
            regarding_owner: regarding_owner.into_iter().filter(|(who, _)| *who == self.account).collect(),
        };
        EventInput { lookups, ..input.clone() }
    }
}

/// The namespace that the object is in, an Event object too: not that of what it is about.
fn namespace(event: &Event) -> Option<&str> {
    event.data.pointer("/object/metadata/namespace").and_then(Value::as_str).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{event::Origin, kubernetes::fake::Fake};

    fn key(kind: &str, namespace: Option<&str>) -> WatchKey {
        WatchKey { api_version: "v1".into(), kind: kind.into(), namespace: namespace.map(str::to_owned) }
    }

    fn account(name: &str) -> Account {
        Account { namespace: "shop".into(), name: name.into() }
    }

    fn sight(watches: &[WatchKey], sources: &[&str]) -> Sight {
        let (watches, sources) = (watches.iter().cloned().collect(), sources.iter().map(ToString::to_string).collect());
        Sight { account: account("ops"), watches, sources, rules: false }
    }

    /// A change of an object, or with `Event` an occurrence about something in the namespace `bank`.
    fn input(kind: &str, of_watch: Option<&str>, namespace: Option<&str>) -> EventInput {
        let type_ = if kind == "Event" { TYPE_KUBERNETES_EVENT } else { "dev.signalbox.resource.updated" };
        let data = json!({"regarding": {"namespace": "bank"}, "object": {"metadata": {"namespace": namespace}}});
        let origin = Origin::new(key(kind, of_watch), "u".into(), None);
        let event = Arc::new(Event::new("1", "/s", type_, data));
        EventInput { event, origin, only: None, lookups: Lookups::default() }
    }

    fn sent(name: &str, namespace: &str) -> EventInput {
        let event =
            Arc::new(Event::new("1", "/s", "com.acme.paid", json!({"object": {"metadata": {"namespace": "shop"}}})));
        let origin = event_source::origin(namespace, name, "u".into(), 1);
        EventInput { event, origin, only: None, lookups: Lookups::default() }
    }

    #[test]
    fn what_another_namespace_holds_is_not_seen_whichever_watch_brought_it() {
        let own = sight(&[key("Pod", Some("shop")), key("Event", Some("shop"))], &[]);
        assert!(own.sees(&input("Pod", None, Some("shop"))) && own.sees(&input("Pod", Some("shop"), Some("shop"))));
        assert!(own.sees(&input("Event", None, Some("shop"))), "where the Event is counts, not what it is about");
        for other in [
            input("Pod", None, Some("bank")),
            input("Pod", Some("bank"), Some("bank")),
            input("Pod", None, None),
            input("Event", None, Some("bank")),
            input("Secret", None, Some("shop")),
        ] {
            assert!(!own.sees(&other), "{other:?}");
        }
        let all = sight(&[key("Pod", None)], &[]);
        assert!(all.sees(&input("Pod", Some("bank"), Some("bank"))) && all.sees(&input("Pod", None, None)));
    }

    #[test]
    fn of_senders_events_those_of_the_named_event_sources_of_the_own_namespace_are_seen() {
        let named = sight(&[], &["github"]);
        assert!(named.sees(&sent("github", "shop")));
        assert!(!named.sees(&sent("gitlab", "shop")) && !named.sees(&sent("github", "bank")));
        // Who may watch EventSources as objects does not see what came by them.
        let watch = WatchKey { namespace: Some("shop".into()), ..event_source::watch("shop") };
        assert!(!sight(&[watch], &[]).sees(&sent("github", "shop")));
    }

    #[test]
    fn events_of_rules_are_those_of_the_own_namespace_and_only_when_they_are_asked_for() {
        let emitted = |namespace: &str| {
            let event = Arc::new(Event::new("1", "/s", "com.acme.paid", Value::Null));
            EventInput { event, origin: rule_event::origin(namespace, "1"), only: None, lookups: Lookups::default() }
        };
        let asks = Sight { rules: true, ..sight(&[], &["github"]) };
        assert!(asks.sees(&emitted("shop")) && !asks.sees(&emitted("bank")));
        assert!(!sight(&[], &["github"]).sees(&emitted("shop")) && !asks.sees(&sent("gitlab", "shop")));
    }

    #[test]
    fn what_was_looked_up_for_others_is_not_shown() {
        let labels = |text: &str| [("a".to_owned(), text.to_owned())].into_iter().collect();
        let mut seen = input("Event", None, Some("shop"));
        seen.lookups.regarding_labels = vec![(account("ops"), labels("own")), (account("boss"), labels("other"))];
        let shown = sight(&[], &[]).shown(&seen).lookups.regarding_labels;
        assert_eq!(shown, [(account("ops"), labels("own"))]);
    }

    #[tokio::test]
    async fn who_lacks_a_right_is_told_all_that_is_missing() {
        let fake = Fake::new(|request| {
            let kinds = json!({"groupVersion": "v1", "resources": []});
            let denied = json!({"spec": {}, "status": {"allowed": false}});
            if request.path.contains("subjectaccessreviews") { (201, denied) } else { (200, kinds) }
        });
        let sources: BTreeSet<String> = ["github", "gitlab"].map(str::to_owned).into();
        let asked = Asked { seconds: 1, watches: BTreeSet::new(), sources, rules: false };
        let cluster = Cluster::with_client(fake.client());
        let Refusal(status, how) = Sight::open(&cluster, account("ops"), asked).await.expect_err("nothing is granted");
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(how.contains("github") && how.contains("gitlab") && how.contains("kubectl create role"), "{how}");
    }
}
