//! The samples of triggers, compiled: a definition knows the shape of a rule only.

use super::*;

#[test]
fn every_sample_of_a_brake_is_a_rule_without_faults() {
    for (name, field) in
        [("dedupe", "dedupe"), ("budget", "throttle"), ("active-windows", "activeWindows"), ("breaker", "breaker")]
    {
        let path = format!("{}/deploy/samples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let sample: Value =
            serde_saphyr::from_str(&std::fs::read_to_string(path).expect("the sample")).expect("one rule");
        assert!(!sample["spec"][field].is_null(), "{name}");
        let spec = Arc::new(serde_json::from_value(sample["spec"].clone()).expect("a spec"));
        let faults = compile(&rule_ref(name), 1, &spec).err().unwrap_or_default();
        assert!(faults.is_empty(), "{name}: {faults:?}");
    }
}

#[test]
fn every_rule_of_the_samples_of_chains_and_approvals_is_without_faults() {
    let mut rules = 0;
    for name in ["chain", "when-rules-fail", "approve"] {
        let path = format!("{}/deploy/samples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        for document in std::fs::read_to_string(path).expect("the sample").split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document).expect("one object");
            if object["kind"] == "EventRule" {
                let spec = Arc::new(serde_json::from_value(object["spec"].clone()).expect("a spec"));
                let faults = compile(&rule_ref(name), 1, &spec).err().unwrap_or_default();
                assert!(faults.is_empty(), "{name}: {faults:?}");
                rules += 1;
            }
        }
    }
    assert_eq!(rules, 4);
}

#[test]
fn every_sample_of_a_trigger_is_a_rule_without_faults() {
    for name in ["count", "held", "absent", "value", "anomaly", "sequence", "all", "batch", "due"] {
        let path = format!("{}/deploy/samples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let sample: Value =
            serde_saphyr::from_str(&std::fs::read_to_string(path).expect("the sample")).expect("one rule");
        assert!(sample["spec"]["trigger"][name].is_object(), "{name}");
        let spec = Arc::new(serde_json::from_value(sample["spec"].clone()).expect("a spec"));
        let faults = compile(&rule_ref(name), 1, &spec).err().unwrap_or_default();
        assert!(faults.is_empty(), "{name}: {faults:?}");
    }
}
