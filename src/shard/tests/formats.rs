//! Logs of earlier formats are read whole, and gone on with.
//!
//! `src/shard/tests/formats/log-format-N.log` is a segment as format N has it. The one of the current format must come out byte by byte as it was: a
//! record that changes its look needs another format, and another file. What this version writes is in `target/tmp`, to be copied.

use std::path::PathBuf;

use super::*;
use crate::{
    api::{ActionOutcome, FiringKind},
    bus::embedded::tests::segment_of,
    record::{DecodeError, FORMAT, Firing, LogId, Outcome, Replay, decode},
};

const ID: &str = "0123456789abcdef0123456789abcdef";

fn of(format: u8) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/shard/tests/formats/log-format-{format}.log"))
}

fn id(input: u64) -> FiringId {
    FiringId::derive(&LogId(ID.into()), Position(input), &uid(), "shop/Pod/p0")
}

fn fired(input: u64) -> Record {
    let firing = Firing {
        id: id(input),
        rule: RuleRef { uid: uid(), namespace: "shop".into(), name: "web".into() },
        generation: 2,
        source: "crash".into(),
        group: "shop/Pod/p0".into(),
        group_values: BTreeMap::new(),
        count: None,
        input: Position(input),
        stamp: Stamp { at: input.cast_signed(), wall: 1_790_000_000_000_000 },
        kind: FiringKind::default(),
        step: None,
        planned: None,
        restores: None,
        closes: false,
        value: None,
        baseline: None,
    };
    Record::Judgement(Judgement {
        input: Position(input),
        event: None,
        deadline: None,
        decisions: vec![Decision::Fired(firing)],
    })
}

fn outcome(input: u64, outcome: ActionOutcome) -> Record {
    let message = "scaled web from 1 to 2".into();
    Record::Outcome(Outcome {
        firing: id(input),
        action: "grow".into(),
        outcome,
        message,
        result: json!({"to": 2}),
        effect: None,
        reason: None,
        remember: None,
    })
}

fn finished(input: u64, outcome: FiringOutcome) -> Record {
    Record::Finished(Finished { firing: id(input), rule: uid(), outcome, message: "done".into(), failed_at: None })
}

/// What a log of the format may hold: one firing that succeeded, one that failed, one that is open.
fn records(format: u8) -> Vec<Record> {
    let writes = (format >= 3).then(|| Writes { rule: uid(), object: "shop/Deployment/web".into() });
    let intent = |input: u64| {
        let request = json!({"replicas": 2});
        Record::Intent(Intent {
            firing: id(input),
            action: "grow".into(),
            rendering: 0,
            request,
            writes: writes.clone(),
            deadline: None,
            remember: None,
        })
    };
    let mut records = Vec::from(put(2));
    let mut open = 0;
    for (number, ended) in [Some(ActionOutcome::Succeeded), Some(ActionOutcome::Failed), None].into_iter().enumerate() {
        records.push(event(number as u64, 0));
        let input = records.len() as u64;
        open = input;
        records.extend([fired(input), intent(input)]);
        if let Some(ended) = ended {
            let whole = if ended == ActionOutcome::Failed { FiringOutcome::Failed } else { FiringOutcome::Succeeded };
            records.extend([outcome(input, ended), finished(input, whole)]);
        }
    }
    if format >= 2 {
        records.push(event(9, 1));
        let input = Position(records.len() as u64);
        let occurrence = crate::record::Occurrence { at: 1, times: 1 };
        let counted = Decision::Counted { rule: uid(), group: "shop/Pod/p1".into(), occurrence };
        records.push(Record::Judgement(Judgement { input, event: None, deadline: None, decisions: vec![counted] }));
    }
    if format >= 4 {
        let spec = records.iter().find_map(|record| match record {
            Record::RulePut(put) => Some(Arc::clone(&put.spec)),
            _ => None,
        });
        let (Record::Event(input), Record::Judgement(judged)) = (&records[8], &records[9]) else {
            panic!("other records")
        };
        let Decision::Fired(firing) = judged.decisions[0].clone() else { panic!("not fired") };
        let (event, spec) = (Arc::clone(&input.event), spec.expect("a rule"));
        let open = OpenFiring { firing, event, events: Vec::new(), spec, steps: BTreeMap::new() };
        records.push(Record::Replay(Replay { of: open.firing.id.clone(), open: Box::new(open), unjudged: None }));
    }
    if format >= 5 {
        records.extend([Record::Started, Record::Tick]);
    }
    if format >= 6 {
        records.push(event(9, 2));
        let input = Position(records.len() as u64);
        let passed = Decision::Passed { rule: uid(), group: "shop/Pod/p2".into(), key: u64::MAX };
        records.push(Record::Judgement(Judgement { input, event: None, deadline: None, decisions: vec![passed] }));
        records.push(Record::Observe(id(open)));
        let by = "ConfigMap signalbox-system/signalbox-control".to_owned();
        let stop = crate::record::Control::Stop { by, why: String::new() };
        records.extend([stop, crate::record::Control::Release].map(Record::Control));
    }
    if format >= 7 {
        let text = r#"{"author":"jane","until":"2026-11-02T07:20:00Z","expression":"event.data.reason == 'R'"}"#;
        let silences = vec![crate::api::Silence::read("move", text)];
        records.push(Record::Control(crate::record::Control::Silences { rule: uid(), silences }));
        records.push(event(9, 3));
        let input = Position(records.len() as u64);
        let reason = crate::record::SuppressedReason::Silence;
        let (rule, group) = (uid(), "shop/Pod/p3".to_owned());
        let silenced = Decision::Suppressed { rule, group, reason, occurrence: None };
        records.push(Record::Judgement(Judgement { input, event: None, deadline: None, decisions: vec![silenced] }));
    }
    records
}

/// A folder with the log of a format, as its version has left it.
fn left_by(format: u8) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("segments")).expect("a folder");
    std::fs::copy(of(format), dir.path().join("segments/00000000000000000001.log")).expect("the log of the format");
    dir
}

#[tokio::test]
async fn a_log_of_each_format_is_read_whole_and_gone_on_with() {
    for format in 1..=FORMAT {
        let dir = left_by(format);
        let mut shard = Loop::open(dir.path());
        let held = records(format).len() as u64;
        assert_eq!((shard.bus.id().0.as_str(), shard.state.position()), (ID, Position(held)), "format {format}");
        let (seen, open, letters) = shard.seen();
        assert_eq!(
            (&seen["generation"], &seen["counts"]["succeeded"]),
            (&json!(2), &json!(1)),
            "format {format}: {seen}"
        );
        let open_inputs = shard.state.ledger.open().map(|(_, brief)| brief.input.0).collect::<Vec<_>>();
        assert!(
            open_inputs.contains(&14) && open.len() == 1 + usize::from(format >= 4),
            "format {format}: {open_inputs:?}"
        );
        assert_eq!(letters, if format >= 4 { vec![] } else { vec![id(9)] }, "format {format}");

        // What it writes now is of the current format; both are read again, without the view and with it.
        shard.append(event(100, 2)).await;
        shard.turn().await;
        let (now, at) = (shard.seen(), shard.state.position());
        assert!(at > Position(held) && now.1.len() > open.len(), "format {format}: the rule still fires");
        shard.bus.durable(at).await.expect("durable");
        drop(shard);
        let mut shard = Loop::open(dir.path());
        assert_eq!(shard.seen(), now, "format {format}");
        shard.checkpoint().await;
        drop(shard);
        assert_eq!(Loop::open(dir.path()).seen(), now, "format {format}, from the view");
    }
}

#[test]
fn records_look_as_they_did() {
    let made = segment_of(ID, FORMAT, &records(FORMAT));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp");
    std::fs::create_dir_all(&folder).expect("a folder");
    for format in 1..=FORMAT {
        let bytes = segment_of(ID, format, &records(format));
        std::fs::write(folder.join(format!("log-format-{format}.log")), bytes).expect("write");
    }
    let kept = std::fs::read(of(FORMAT)).unwrap_or_default();
    let differ = kept.iter().zip(&made).position(|(kept, made)| kept != made);
    assert!(
        kept == made,
        "at byte {differ:?} of {} a record looks otherwise than {} has it: when a reader of format {FORMAT} could mistake it, raise FORMAT; then copy the \
         file from target/tmp to that name",
        made.len(),
        of(FORMAT).display(),
    );
}

#[test]
fn a_later_format_is_refused_with_what_to_do() {
    let error = decode(&[FORMAT + 1, b'{', b'}']).expect_err("refused");
    assert!(matches!(error, DecodeError::Format(format) if format == FORMAT + 1));
    let dir = tempfile::tempdir().expect("a folder");
    let segments = dir.path().join("segments");
    std::fs::create_dir(&segments).expect("a folder");
    let path = segments.join("00000000000000000001.log");
    let written = segment_of(ID, FORMAT + 1, &records(FORMAT));
    std::fs::write(&path, &written).expect("write");
    for _ in 0..2 {
        let error = Embedded::open(dir.path(), Settings::default()).err().expect("refused").to_string();
        for part in ["position 1", &format!("format {}", FORMAT + 1), "start the version that wrote it, or a newer one"]
        {
            assert!(error.contains(part), "no {part}: {error}");
        }
        assert_eq!(
            std::fs::read(&path).expect("read"),
            written,
            "the log is left as it was for the version that can read it"
        );
    }
}
