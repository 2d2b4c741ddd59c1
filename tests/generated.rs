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

/// Whoever writes one could have a file of the operator read, or a certificate not be checked.
#[test]
fn no_field_names_a_file_of_the_operator_or_leaves_a_certificate_unchecked() {
    fn names(schema: &serde_json::Value, found: &mut Vec<String>) {
        let members = schema.as_object().into_iter().flatten();
        for (name, below) in members {
            if name == "properties" {
                found.extend(below.as_object().into_iter().flatten().map(|(name, _)| name.clone()));
            }
            names(below, found);
        }
        schema.as_array().into_iter().flatten().for_each(|item| names(item, found));
    }
    let mut found = Vec::new();
    for definition in signalbox::api::custom_resource_definitions() {
        names(&serde_json::to_value(&definition).expect("a definition is plain data"), &mut found);
    }
    assert!(found.len() > 300 && found.contains(&"caSecretRef".to_owned()), "{}", found.len());
    let words = ["file", "insecure", "skip", "verify"];
    let odd: Vec<&String> = found
        .iter()
        .filter(|name| words.iter().any(|word| name.to_lowercase().contains(word)) && *name != "profile")
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
}
