//! What the tests of actions share: a context, and the parts of an API server that every action asks.

use serde_json::json;

use super::*;
use crate::{
    clock::Stamp,
    kubernetes::fake::{Fake, Seen},
    record::RuleUid,
};

pub(crate) fn event() -> Event {
    Event {
        subject: Some("shop/Pod/web-1".into()),
        time: Some("2026-11-25T10:00:00Z".parse().expect("a time")),
        ..Event::new(
            "uid-1/3",
            "/apis/events.k8s.io/v1/events",
            crate::event::TYPE_KUBERNETES_EVENT,
            json!({"message": "Back-off \"web\" $(PASSWORD)"}),
        )
    }
}

/// A step of the rule `shop/web-crashloop`, whose account is `shop/shop-ops`.
pub(crate) fn context(fake: &Fake) -> Context {
    Context {
        services: services(fake),
        rule: RuleRef { uid: RuleUid("rule-uid".into()), namespace: "shop".into(), name: "web-crashloop".into() },
        account: Account { namespace: "shop".into(), name: "shop-ops".into() },
        firing: FiringId("0123456789abcdef0123".into()),
        action: "act".into(),
        group: "shop/Pod/web-1".into(),
        count: None,
        said: Arc::new([]),
        resolves: false,
        closes: false,
        event: Arc::new(event()),
        hops: 0,
        wrote: Arc::new(|_| ()),
        beside: Arc::new(|_, _| ()),
        keeps: false,
        stop: CancellationToken::new(),
    }
}

pub(crate) fn services(fake: &Fake) -> Arc<Services> {
    Arc::new(Services {
        cluster: Cluster::with_client(fake.client()),
        sinks: Registry::default(),
        http: Http::to_this_host(),
        clock: Clock::simulated(Stamp { at: 1_000_000, wall: 1_000_000 }),
        scales: scale::Scales::default(),
    })
}

/// Answers what is asked about kinds, and grants every right that is asked about.
pub(crate) fn common(seen: &Seen) -> Option<(u16, Value)> {
    let list = |items| json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items});
    let kind = |plural: &str, kind: &str, subresources: Value| json!({"resource": plural, "responseKind": {"kind": kind}, "scope": "Namespaced", "subresources": subresources});
    match seen.path.as_str() {
        "/api" => {
            let mut nodes = kind("nodes", "Node", json!([]));
            nodes["scope"] = json!("Cluster");
            let kinds = [kind("pods", "Pod", json!([])), nodes];
            Some((200, list(json!([{"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": kinds}]}]))))
        }
        "/apis" => {
            let kinds = [
                kind("deployments", "Deployment", json!([{"subresource": "scale"}])),
                kind("daemonsets", "DaemonSet", json!([])),
                kind("statefulsets", "StatefulSet", json!([{"subresource": "scale"}])),
                kind("replicasets", "ReplicaSet", json!([{"subresource": "scale"}])),
            ];
            Some((
                200,
                list(json!([{"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": kinds}]}])),
            ))
        }
        path if path.starts_with("/apis/authorization.k8s.io/") => {
            let mut review = seen.body.clone();
            review["status"] = json!({"allowed": true});
            Some((201, review))
        }
        _ => None,
    }
}

/// An action of a spec written as JSON.
pub(crate) fn action(spec: Value) -> Box<dyn Action> {
    let spec: api::Action = serde_json::from_value(spec).expect("an action");
    build(&spec).expect("one kind")
}
