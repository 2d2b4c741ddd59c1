//! What it takes from the start of a process to its first decision, on a log of 1 GiB whose last process was killed.
//!
//! The process is the loop of a shard without its surroundings: it appends events of 1 KiB about 500 Pods for 100 rules with a cooldown, judges them, and
//! writes the view every second. It is killed when the log is long enough, and five more times a while later. Each time another process begins: opens the
//! log, recovers the state, takes an event that makes a rule fire and waits until that is on stable storage, when its action would begin.
//! The last line is one JSON object.
//!
//! `cargo bench --bench restart [-- FOLDER]`, or `make bench-restart`; the folder chooses the disk.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use signalbox::{
    api::{EventRuleSpec, FiringOutcome},
    bus::{
        Bus, Reader,
        embedded::{Embedded, Settings},
    },
    event::{Event, Origin, Seen, TYPE_KUBERNETES_EVENT, WatchKey},
    record::{
        Decision, Entry, EventInput, Finished, Head, Judgement, Lookups, Record, RulePut, RuleRef, RuleUid, SourceRef,
        Stamp,
    },
    shard::{State, recover},
};

const LOG_BYTES: u64 = 1 << 30;
const EVENT_BYTES: usize = 1024;
const RULES: u64 = 100;
const PODS: u64 = 500;
/// Kubernetes Events that the watch remembers: as many as an hour of a busy cluster has.
const REMEMBERED: u64 = 20_000;
const RESTARTS: usize = 5;
const CHECKPOINT: Duration = Duration::from_secs(1);
/// Events that are appended before their decisions are taken.
const TURN: u64 = 256;

fn uid(number: u64) -> RuleUid {
    RuleUid(format!("rule-{number}").into())
}

fn put(number: u64) -> [Record; 2] {
    let spec = json!({
        "sources": [{"name": "s", "kubernetesEvent": {"reasons": [format!("R{number}")]}}],
        "actions": [{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": 2}}],
        "throttle": {"cooldown": "1h"},
    });
    let spec: EventRuleSpec = serde_json::from_value(spec).expect("a valid spec");
    let rule = RuleRef { uid: uid(number), namespace: "shop".into(), name: format!("r{number}") };
    let source = SourceRef { rule: uid(number), generation: 1, source: "s".into() };
    [Record::RulePut(RulePut { rule, generation: 1, spec: Arc::new(spec) }), Record::Baseline(source)]
}

/// An event whose record is about 1 KiB of JSON.
fn event(number: u64, pod: &str) -> Record {
    let regarding = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": pod});
    let data = json!({"type": "Warning", "reason": format!("R{}", number % RULES), "count": 1, "delta": 1,
        "regarding": regarding, "message": "x".repeat(EVENT_BYTES - 500)});
    let uid = format!("e{}", number % REMEMBERED);
    let event = Event {
        subject: Some(format!("shop/Pod/{pod}")),
        ..Event::new(format!("e{number}/1"), "/api/v1/events", TYPE_KUBERNETES_EVENT, data)
    };
    let watch = WatchKey { api_version: "v1".into(), kind: "Event".into(), namespace: Some("shop".into()) };
    let origin = Origin::new(watch, uid.clone(), Some(Seen::new(number + 1, 1, format!("shop/{uid}"))));
    Record::Event(Box::new(EventInput { event: event.into(), origin, only: None, lookups: Lookups::default() }))
}

/// A shard's loop without its surroundings. What fires ends at once.
struct Loop {
    bus: Arc<Embedded>,
    reader: Box<dyn Reader>,
    state: State,
    /// Records that the start has read after the view.
    tail: usize,
    fired: u64,
}

impl Loop {
    fn open(folder: &Path) -> Self {
        let bus = Embedded::open(folder, Settings::default()).expect("open the log");
        let recovered = recover(&*bus, usize::MAX).expect("recover");
        assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
        let reader = bus.reader().expect("the reader");
        Self { bus, reader, state: recovered.state, tail: recovered.replayed, fired: 0 }
    }

    async fn turn(&mut self) {
        let last = self.bus.stats().appended;
        while self.state.position() < last {
            let entries = self.reader.next(256).await.expect("it is open");
            for entry in &entries {
                self.take(entry);
            }
            self.reader.advance(self.state.position());
        }
    }

    fn take(&mut self, entry: &Entry) {
        if let Record::Event(input) = &*entry.record {
            let judged = self.state.engine.judge(&entry.head, input);
            self.decide(&entry.head, input, judged);
        }
        self.state.fold(&entry.head, &entry.record);
    }

    fn decide(&mut self, head: &Head, input: &EventInput, judged: signalbox::rule::Judged) {
        if !judged.decisions.is_empty() {
            let judgement = Judgement::of(head, None, &judged.decisions);
            self.bus.record(Record::Judgement(judgement)).expect("record");
        }
        self.state.decide(head, input, &judged.seen, &judged.decisions);
        for decision in judged.decisions {
            let Decision::Fired(firing) = decision else { continue };
            self.fired += 1;
            let outcome = FiringOutcome::Succeeded;
            let (message, failed_at) = (String::new(), None);
            let finished = Finished { firing: firing.id, rule: firing.rule.uid, outcome, message, failed_at };
            self.bus.record(Record::Finished(finished)).expect("record");
        }
    }
}

/// Appends until it is killed, and says how long the log is.
async fn fill(folder: &Path) {
    let mut shard = Loop::open(folder);
    if shard.state.position().0 == 0 {
        for record in (0..RULES).flat_map(put) {
            shard.bus.append(record).await.expect("append");
        }
    }
    let (mut number, mut committed) = (shard.state.position().0, Instant::now());
    loop {
        for _ in 0..TURN {
            number += 1;
            let pod = format!("p{}", number / RULES % PODS);
            shard.bus.append(event(number, &pod)).await.expect("append");
        }
        shard.turn().await;
        if committed.elapsed() >= CHECKPOINT {
            let now = Stamp { at: 0, wall: 1_790_000_000_000_000 };
            let (delta, position) = shard.state.delta(now);
            shard.bus.commit(delta, position).await.expect("commit");
            committed = Instant::now();
            println!("{}", shard.bus.stats().log_bytes);
        }
    }
}

/// One start up to the first decision.
async fn first(folder: &Path) {
    let begin = Instant::now();
    let mut shard = Loop::open(folder);
    let opened = begin.elapsed();
    // A Pod of its own: none that an earlier start has fired for cools down.
    let number = shard.state.position().0;
    shard.bus.append(event(number, &format!("start-{number}"))).await.expect("append");
    shard.turn().await;
    assert_eq!(shard.fired, 1, "the rule fires");
    shard.bus.durable(shard.state.position()).await.expect("durable");
    let log = shard.bus.stats().log_bytes;
    println!("{}", json!({"open_ms": opened.as_secs_f64() * 1e3, "tail": shard.tail, "log_bytes": log}));
    shard.bus.close().await.expect("close");
}

fn start(what: &str, folder: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let program = std::env::current_exe().expect("this program");
    let mut child =
        Command::new(program).arg(what).arg(folder).stdout(Stdio::piped()).spawn().expect("start a process");
    let lines = BufReader::new(child.stdout.take().expect("stdout"));
    (child, lines)
}

/// Lets a process append until the log is so long and a while has passed, and kills it.
fn fill_and_kill(folder: &Path, bytes: u64, least: Duration) {
    let ((mut child, lines), begin) = (start("fill", folder), Instant::now());
    for line in lines.lines() {
        let long: u64 = line.expect("a line").parse().expect("a number");
        if long >= bytes && begin.elapsed() >= least {
            break;
        }
    }
    // Between two checkpoints: there is a tail to read.
    std::thread::sleep(Duration::from_millis(700));
    child.kill().expect("kill");
    child.wait().expect("wait");
}

fn measure(folder: &Path) -> (f64, Value) {
    let begin = Instant::now();
    let (mut child, mut lines) = start("first", folder);
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    let took = begin.elapsed().as_secs_f64() * 1e3;
    child.wait().expect("wait");
    (took, serde_json::from_str(&line).expect("JSON"))
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let [what, folder] = &args[..] {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        match what.as_str() {
            "fill" => runtime.block_on(fill(Path::new(folder))),
            _ => runtime.block_on(first(Path::new(folder))),
        }
        return;
    }
    let parent = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(parent).expect("make a folder");
    let log = folder.path().join("log");
    let limit = std::env::var("LOG_BYTES").map_or(LOG_BYTES, |text| text.parse().expect("LOG_BYTES is a number"));
    let mut times = Vec::new();
    for restart in 0..=RESTARTS {
        // Retention keeps the log from being much longer than 1 GiB: a segment less is as long as it gets.
        fill_and_kill(&log, limit - limit / 8, Duration::from_millis(if restart == 0 { 0 } else { 1500 }));
        let (took, told) = measure(&log);
        eprintln!("{took:.0} ms: {told}");
        times.push((took, told));
    }
    times.sort_by(|one, other| one.0.total_cmp(&other.0));
    let view = std::fs::metadata(log.join("view.redb")).expect("the view").len();
    let (median, max) = (times[times.len() / 2].0, times[times.len() - 1].0);
    let bytes = times.iter().filter_map(|(_, told)| told["log_bytes"].as_u64()).max();
    println!(
        "{}",
        json!({"log_bytes": bytes, "view_bytes": view, "restarts": times.len(),
            "restart_to_first_decision_ms": {"p50": median.round(), "max": max.round()}})
    );
}
