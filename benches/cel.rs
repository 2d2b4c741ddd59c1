//! What it takes to evaluate conditions, beside the interpreter of the crate whose parser is used, in one run: it is given its values ready made,
//! which a rule could not do for each event. `cargo bench --bench cel`

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use signalbox::{
    event::Event,
    record::{RuleRef, RuleUid},
    rule::cel::{Names, Program, Scope},
};

const EXPRESSIONS: [(&str, &str); 3] = [
    (
        "four conjuncts",
        "event.type == 'Warning' && event.data.reason in ['BackOff', 'Failed'] && event.data.count > 3 && event.subject.startsWith('pod/')",
    ),
    ("first conjunct false", "event.type == 'Normal' && event.data.count > 3"),
    ("a missing field", "has(event.data.nothing) && event.data.nothing == 1"),
];

fn main() {
    let data = json!({
        "reason": "BackOff", "count": 4, "message": "Back-off restarting failed container", "tags": ["a", "b", "c"],
        "regarding": {"kind": "Pod", "name": "web-1", "namespace": "shop", "labels": {"app": "web"}},
        "numbers": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    });
    let event = Event { subject: Some("pod/web-1".into()), ..Event::new("u/1", "/api/v1/events", "Warning", data) };
    let rule = RuleRef { uid: RuleUid("u".into()), namespace: "shop".into(), name: "web".into() };
    let others = json!({"type": event.type_, "subject": event.subject, "data": event.data});
    println!("{:24} {:>10} {:>10} {:>7}", "", "ours ns", "crate ns", "ratio");
    for (name, source) in EXPRESSIONS {
        let program = Program::compile(source, &Names::conditions()).expect(source);
        let theirs = cel::Program::compile(source).expect(source);
        let mut context = cel::Context::default();
        context.add_variable("event", others.clone()).expect("a variable");
        assert_eq!(program.evaluate(&scope(&event, &rule)), Ok(json!(answer(&theirs, &context))), "{source}");
        let (mut ours, mut crates) = (Duration::MAX, Duration::MAX);
        // In turns, so that what else the machine does strikes both.
        for _ in 0..400 {
            ours = ours.min(batch(|| drop(black_box(program.test(&scope(&event, &rule))))));
            crates = crates.min(batch(|| drop(black_box(theirs.execute(&context)))));
        }
        let (ours, crates) = (nanos(ours), nanos(crates));
        println!("{name:24} {ours:>10.0} {crates:>10.0} {:>7.2}", ours / crates);
    }
}

fn scope<'a>(event: &'a Event, rule: &'a RuleRef) -> Scope<'a> {
    Scope::new(event, "crash", rule, Default::default())
}

fn answer(program: &cel::Program, context: &cel::Context<'_, '_>) -> Value {
    Value::Bool(program.execute(context).is_ok_and(|answer| answer == cel::Value::Bool(true)))
}

const BATCH: u32 = 200;

fn batch(mut one: impl FnMut()) -> Duration {
    let start = Instant::now();
    (0..BATCH).for_each(|_| one());
    start.elapsed()
}

fn nanos(batch: Duration) -> f64 {
    batch.as_nanos() as f64 / f64::from(BATCH)
}
