//! Files that are made from the code, or from the types of Kubernetes, equal what these make.

#[path = "support/kinds.rs"]
mod kinds;

use std::fs;

use kube::ResourceExt as _;

const MEND: &str = "run `make crds` and commit the result";

#[test]
fn the_definitions_in_crds_and_in_the_chart_are_those_of_the_types() {
    for definition in signalbox::api::custom_resource_definitions() {
        let name = definition.spec.names.plural.clone();
        let text = serde_saphyr::to_string(&definition).expect("a definition is plain data");
        for folder in ["crds", "charts/signalbox/crds"] {
            let path = format!("{folder}/{name}.yaml");
            let stored = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(stored, text, "{path} is not what the types say: {MEND}");
        }
    }
}

#[test]
fn each_definition_is_small_enough_for_a_client_side_apply() {
    for definition in signalbox::api::custom_resource_definitions() {
        let size = serde_json::to_vec(&definition).expect("a definition is plain data").len();
        assert!(size < 200 * 1024, "{} has {size} bytes", definition.name_any());
    }
}

#[test]
fn the_fields_of_built_in_kinds_are_those_of_the_types() {
    let made = kinds::text();
    let seen = format!("{}/kinds.txt", env!("CARGO_TARGET_TMPDIR"));
    fs::write(&seen, &made).expect("write what was made");
    let path = "src/rule/cel/kinds.txt";
    let stored = fs::read_to_string(path).unwrap_or_default();
    assert!(stored == made, "{path} is not what the types say: cp {seen} {path}");
}
