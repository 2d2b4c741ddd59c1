//! From the JSON text of an event of about 800 bytes to the names of the rules that fire for it, on one thread, with many rules of one namespace and
//! one source: the engine that the operator runs, without its log. `cargo bench --bench matching`
//!
//! `exact`: two fields must have certain values, of which one is common. `mixed`: of ten rules six are such, two ask for a prefix, one for a range of
//! numbers, and one for one value and anything but another one. `substring`: a text holds another one. Every event fires about one rule. What counts is
//! the time that the thread runs.

use std::{
    fs,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use signalbox::{
    event::{Event, event_source},
    record::{
        Decision, EventInput, Head, LogId, Lookups, Position, Record, RulePut, RuleRef, RuleUid, SourceRef, Stamp,
    },
    rule::Engine,
};

/// How many texts of events there are, which come again and again.
const EVENTS: u64 = 2_000;
/// How long is measured, at least.
const LONG: Duration = Duration::from_millis(500);
/// The best of so many times counts, for the machine does other things as well.
const TIMES: u32 = 5;

fn main() {
    let mut results = Map::new();
    let rows: [(&str, &[u64]); 3] =
        [("exact", &[1_000, 10_000, 100_000]), ("mixed", &[1_000, 10_000, 100_000]), ("substring", &[1_000])];
    println!(
        "{:10} {:>8} {:>11} {:>9} {:>8} {:>8} {:>13}",
        "", "rules", "events/s", "build ms", "MiB", "fired", "one more, ms"
    );
    for (kind, counts) in rows {
        let mut row = Map::new();
        for rules in counts {
            row.insert(rules.to_string(), measure(kind, *rules));
        }
        results.insert(kind.to_owned(), row.into());
    }
    println!("{}", Value::Object(results));
}

fn measure(kind: &str, rules: u64) -> Value {
    let before = resident();
    let begun = Instant::now();
    let mut engine = Engine::new(LogId("bench".into()));
    (0..rules).for_each(|number| put(&mut engine, kind, number));
    let build = begun.elapsed();
    let mib = (resident() - before).max(0.0);
    let events: Vec<String> = (0..EVENTS).map(|number| event(number * 7919 % rules, number)).collect();
    let mut best = Duration::MAX;
    let (mut fired, mut judged) = (0, 0_u32);
    for _ in 0..TIMES {
        let begun = ran();
        let mut rounds = 0;
        while ran() - begun < LONG {
            (fired, judged) =
                events.iter().fold((0, 0), |(fired, judged), text| (fired + fires(&engine, text).len(), judged + 1));
            rounds += 1;
        }
        best = best.min((ran() - begun) / (rounds * judged));
    }
    let begun = Instant::now();
    put(&mut engine, kind, rules);
    let more = begun.elapsed();
    let per_second = 1.0 / best.as_secs_f64();
    let (build, more) = (build.as_secs_f64() * 1e3, more.as_secs_f64() * 1e3);
    let fired = fired as f64 / f64::from(judged);
    println!("{kind:10} {rules:>8} {per_second:>11.0} {build:>9.0} {mib:>8.0} {fired:>8.2} {more:>13.2}");
    json!({"events_per_s": per_second.round(), "build_ms": build.round(), "mib": mib.round(), "fired_per_event": fired, "one_more_ms": more})
}

/// The names of the rules that fire.
fn fires(engine: &Engine, text: &str) -> Vec<Arc<str>> {
    let event: Event = serde_json::from_str(text).expect("an event");
    let origin = event_source::origin("shop", "orders", String::new(), 1);
    let input = EventInput { event: Arc::new(event), origin, only: None, lookups: Lookups::default() };
    let judged = engine.judge(&Head { position: Position(1), stamp: Stamp { at: 1, wall: 1 } }, &input);
    let names = judged.decisions.into_iter().filter_map(|decision| match decision {
        Decision::Fired(firing) => Some(Arc::from(firing.rule.name.as_str())),
        _ => None,
    });
    black_box(names.collect())
}

fn put(engine: &mut Engine, kind: &str, number: u64) {
    let name = format!("rule-{number}");
    let rule = RuleRef { uid: RuleUid(name.as_str().into()), namespace: "shop".into(), name };
    let expression = match (kind, number % 10) {
        ("substring", _) => format!("event.data.order.note.contains('word{number}.')"),
        ("mixed", 0 | 1) => format!("event.data.customer.id.startsWith('customer-{number}-')"),
        ("mixed", 2) => format!("event.data.order.total >= {number} && event.data.order.total < {number}.5"),
        ("mixed", 3) => format!("event.data.order.number == {number} && event.data.order.currency != 'USD'"),
        _ => format!("event.data.order.number == {number} && event.data.order.status == 'paid'"),
    };
    let spec = json!({
        "sources": [{"name": "orders", "ref": {"name": "orders"}}],
        "when": [{"name": "mine", "expression": expression}],
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.id}"}}],
    });
    let spec = Arc::new(serde_json::from_value(spec).expect("a spec"));
    let head = Head { position: Position(number), stamp: Stamp { at: 0, wall: 0 } };
    let source = SourceRef { rule: rule.uid.clone(), generation: 1, source: "orders".into() };
    engine.fold(&head, &Record::RulePut(RulePut { rule, generation: 1, spec }));
    engine.fold(&head, &Record::Baseline(source));
}

/// About 800 bytes of which one rule may ask for something.
fn event(rule: u64, number: u64) -> String {
    let event = json!({
        "specversion": "1.0", "id": format!("{number:08}-3f1c-4a47-9d0e-5f4ab2c7e1d9"), "source": "/shops/berlin/orders", "type": "com.acme.order.changed",
        "subject": format!("orders/{rule}"), "time": "2026-11-02T07:16:20.125Z",
        "data": {
            "order": {
                "number": rule, "status": "paid", "currency": "EUR", "total": rule as f64 + 0.25, "express": true, "coupon": null,
                "note": format!("please leave it with the neighbours at number 14, word{rule}. if nobody is there; ring twice"),
                "lines": [
                    {"sku": "AB-1207-9", "quantity": 2, "price": 12.5}, {"sku": "XK-0001-3", "quantity": 1, "price": 99.95},
                    {"sku": "ZZ-7700-1", "quantity": 7, "price": 0.4},
                ],
            },
            "customer": {"id": format!("customer-{rule}-de"), "name": "Someone Special", "language": "de", "newsletter": false, "since": "2019-04-01"},
            "address": {"street": "Lange Strasse 14", "city": "Berlin", "zip": "10243", "country": "DE"},
        },
    });
    event.to_string()
}

/// How long this thread has run, what others ran meanwhile left out.
fn ran() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// The memory of this process, in MiB.
fn resident() -> f64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or(0.0) * 4096.0 / 1024.0 / 1024.0
}
