//! Rules that are edited while events flow: each event is judged by the version before or the one after, by one of them and never by both.

use super::*;

/// Rules that there are at once, and how often they are replaced: 10,000 times in all.
const RULES: usize = 100;
const EDITS: usize = 100;

fn name(rule: usize) -> RuleRef {
    RuleRef {
        uid: RuleUid(format!("uid-{rule:03}").into()),
        namespace: "shop".to_owned(),
        name: format!("rule-{rule:03}"),
    }
}

fn version(rule: usize, generation: i64) -> Record {
    let spec = json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}],
        "when": [{"name": "own", "expression": format!("event.data.regarding.name == 'p{}'", rule % 10)}],
        "actions": [{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": generation % 100}}],
    });
    let spec = Arc::new(serde_json::from_value(spec).expect("a valid spec"));
    Record::RulePut(RulePut { rule: name(rule), generation, spec })
}

fn begins(rule: usize, generation: i64) -> Record {
    Record::Baseline(SourceRef { rule: name(rule).uid, generation, source: "crash".to_owned() })
}

/// Replaces every rule again and again, with events before the new version is in force and after it.
#[tokio::test]
async fn ten_thousand_rules_are_replaced_while_events_flow_and_one_version_judges_each_event() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = Loop::open(dir.path());
    for rule in 0..RULES {
        shard.append(version(rule, 1)).await;
        shard.append(begins(rule, 1)).await;
    }
    let (mut events, mut in_force) = (0_u64, vec![1_i64; RULES]);
    // Which generation may judge each event, for the rule that is being edited then; the others keep theirs.
    let mut expected = Vec::new();
    for edit in 0..EDITS {
        for rule in 0..RULES {
            let generation = 2 + i64::try_from(edit).expect("small");
            shard.append(version(rule, generation)).await;
            // Until its source has begun, the version before judges.
            let pod = u8::try_from((edit + rule) % 10).expect("small");
            if rule % 5 == 0 {
                events += 1;
                shard.append(event(events, pod)).await;
                expected.push(in_force.clone());
            }
            shard.append(begins(rule, generation)).await;
            in_force[rule] = generation;
            if rule % 50 == 7 {
                events += 1;
                shard.append(event(events, pod)).await;
                expected.push(in_force.clone());
            }
        }
        shard.turn().await;
        if edit % 25 == 24 {
            shard.checkpoint().await;
            let (open, appended) = (shard.state.ledger.len(), shard.bus.stats().appended);
            shard.bus.durable(appended).await.expect("durable");
            drop(shard);
            shard = Loop::open(dir.path());
            assert_eq!(shard.state.ledger.len(), open, "a restart changes nothing");
        }
    }
    // What fired for each event: which rules, by which of their versions.
    let mut fired = BTreeMap::<String, Vec<(String, i64)>>::new();
    for open in shard.all() {
        let by = (open.firing.rule.name.clone(), open.firing.generation);
        assert_eq!(
            open.spec.actions[0].scale.as_ref().and_then(|scale| scale.to),
            Some(i32::try_from(open.firing.generation % 100).expect("small")),
            "its actions are those of the version that judged"
        );
        fired.entry(open.event.id.clone()).or_default().push(by);
    }
    for (number, generations) in (1..=events).zip(expected) {
        let mut by = fired.remove(&format!("e{number}/1")).unwrap_or_default();
        by.sort();
        let pod = by.first().map(|(rule, _)| rule[rule.len() - 1..].to_owned()).expect("ten rules look at each pod");
        let ones = (0..RULES).filter(|rule| (rule % 10).to_string() == pod);
        let wanted: Vec<_> = ones.map(|rule| (name(rule).name, generations[rule])).collect();
        assert_eq!(by, wanted, "event {number}");
    }
    assert!(fired.is_empty());
}

#[tokio::test]
async fn what_ends_the_incidents_of_a_rule_that_is_deleted_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = Loop::open(dir.path());
    let [Record::RulePut(mut put), first, second] = put(2) else { panic!("no rule") };
    let spec = Arc::make_mut(&mut put.spec);
    let trigger = json!({"value": {"expression": "double(event.data.count)", "within": "1h", "above": "0"}});
    spec.trigger = serde_json::from_value(trigger).expect("a trigger");
    let page = json!([{"name": "page", "notify": {"sinkRef": {"name": "pager"}, "text": "t"}}]);
    spec.actions = serde_json::from_value(page).expect("actions");
    // It happens now: what happened long ago is no sample of the last hour. What is due then is so at the next record.
    let Record::Event(mut input) = event(1, 0) else { panic!("no event") };
    Arc::make_mut(&mut input.event).time = None;
    for record in [Record::RulePut(put), first, second, Record::Event(input), event(2, 0)] {
        shard.append(record).await;
    }
    shard.turn().await;
    shard.append(shard.finish_oldest(FiringOutcome::Succeeded).expect("it fired")).await;
    shard.append(Record::RuleRemove(uid())).await;
    shard.turn().await;
    let open = shard.all();
    assert_eq!((open.len(), open[0].firing.closes), (1, true));
    shard.checkpoint().await;
    drop(shard);
    let bus = super::open(dir.path());
    let recovered = recover(&*bus, usize::MAX).expect("recover");
    assert_eq!((recovered.open.len(), recovered.orphans.len()), (1, 0), "it is no orphan");
    assert!(recovered.open[0].1.outlives());
}
