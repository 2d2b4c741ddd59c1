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
