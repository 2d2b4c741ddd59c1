//! What the API server says by the schema of a definition, said without one: unknown fields, types, bounds, rules.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::node::{Node, Part};
use crate::{
    api,
    rule::{
        Fault,
        cel::{Names, Program, Scope, near},
    },
};

/// Fields of objects that schemas do not tell of.
const OF_OBJECTS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Words of CEL: fields that are named so are written with underscores in rules.
/// <https://kubernetes.io/docs/reference/using-api/cel/#escaping>
const WORDS: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// The schemas of `spec`, by kind.
static SCHEMAS: LazyLock<Vec<(String, Value)>> = LazyLock::new(|| {
    let schema =
        |definition: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
            let schema = definition.spec.versions.into_iter().next()?.schema?.open_api_v3_schema?;
            let schema = serde_json::to_value(schema).ok()?;
            Some((definition.spec.names.kind, schema["properties"]["spec"].clone()))
        };
    api::custom_resource_definitions().into_iter().filter_map(schema).collect()
});

/// All that the schema of its kind has against the object.
pub(super) fn check(version: &str, kind: &str, document: &Node) -> Vec<Fault> {
    let served = format!("{}/{}", api::GROUP, api::VERSION);
    if version != served {
        return vec![Fault::new("apiVersion", format!("{version} is not served; write {served}"))];
    }
    let Some((_, schema)) = SCHEMAS.iter().find(|(known, _)| known == kind) else {
        let known = crate::text::join(SCHEMAS.iter().map(|(kind, _)| kind));
        return vec![Fault::new("kind", format!("{kind} is no kind of {}: known are {known}", api::GROUP))];
    };
    let mut faults = Vec::new();
    if let Part::Map(entries) = &document.part {
        let unknown = entries.iter().filter(|(key, ..)| !OF_OBJECTS.contains(&key.as_str()));
        faults.extend(unknown.map(|(key, ..)| Fault::new(key.as_str(), misspelt(&OF_OBJECTS, key))));
    }
    match document.get("spec") {
        Some(spec) => value(schema, spec, "spec", &mut faults),
        None => faults.push(Fault::new("", "spec is missing")),
    }
    faults
}

/// The texts that should be durations and are none.
pub(super) fn durations(document: &Node) -> Vec<Fault> {
    let mut faults = Vec::new();
    let kind = document.get("kind").and_then(Node::text).unwrap_or_default();
    if let (Some((_, schema)), Some(spec)) = (SCHEMAS.iter().find(|(known, _)| known == kind), document.get("spec")) {
        walk(schema, spec, "spec", &mut |schema, node, path| {
            if let (true, Some(text)) = (is_duration(schema) && !path.ends_with(OF_ZONES), node.text())
                && let Err(error) = text.parse::<api::Duration>()
            {
                faults.push(Fault::new(path, error.to_string()));
            }
        });
    }
    faults
}

/// The one field whose schema has the shape of a duration's, and that is a name.
const OF_ZONES: &str = ".timeZone";

/// Durations have a schema of their own shape.
fn is_duration(schema: &Value) -> bool {
    let mut bounds = schema
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !["description", "default", "nullable"].contains(&key.as_str()));
    let duration = json!({"type": "string", "minLength": 1, "maxLength": 64});
    bounds.clone().count() == 3 && bounds.all(|(key, value)| duration[key] == *value)
}

/// Visits the value and all that is in it and in the schema.
fn walk(schema: &Value, node: &Node, path: &str, visit: &mut impl FnMut(&Value, &Node, &str)) {
    visit(schema, node, path);
    match &node.part {
        Part::Scalar(_) => {}
        Part::List(items) => items.iter().enumerate().for_each(|(index, item)| {
            walk(&schema["items"], item, &format!("{path}[{index}]"), visit);
        }),
        Part::Map(entries) => entries.iter().for_each(|(key, _, node)| {
            let of_key = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
            walk(of_key, node, &child(path, key), visit);
        }),
    }
}

fn child(path: &str, key: &str) -> String {
    let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if plain { format!("{path}.{key}") } else { format!("{path}[{key:?}]") }
}

fn value(schema: &Value, node: &Node, path: &str, faults: &mut Vec<Fault>) {
    if matches!(node.part, Part::Scalar(Value::Null)) {
        // The API server takes it for absent.
        return;
    }
    if let Some(wanted) = schema["type"].as_str()
        && !is_of(wanted, node)
    {
        let fields: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let with = if fields.is_empty() { String::new() } else { format!(", with {}", fields.join(" and ")) };
        return faults.push(Fault::new(path, format!("must be {}{with}", article(wanted))));
    }
    let before = faults.len();
    match &node.part {
        Part::Scalar(value) => scalar(schema, value, path, faults),
        Part::List(items) => list(schema, items, path, faults),
        Part::Map(entries) => map(schema, entries, path, faults),
    }
    if faults.len() == before {
        rules(schema, node, path, faults);
    }
}

fn is_of(wanted: &str, node: &Node) -> bool {
    match (&node.part, wanted) {
        (Part::Map(_), "object") | (Part::List(_), "array") => true,
        (Part::Scalar(Value::String(_)), "string") | (Part::Scalar(Value::Bool(_)), "boolean") => true,
        (Part::Scalar(Value::Number(_)), "number") => true,
        (Part::Scalar(Value::Number(number)), "integer") => number.is_i64() || number.is_u64(),
        _ => false,
    }
}

fn article(kind: &str) -> &'static str {
    match kind {
        "object" => "a map",
        "array" => "a list",
        "string" => "a text; put it in quotes",
        "boolean" => "true or false",
        "integer" => "a whole number",
        _ => "a number",
    }
}

fn scalar(schema: &Value, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    if let Some(known) = schema["enum"].as_array()
        && !known.contains(value)
    {
        let known = crate::text::join(known.iter().filter_map(Value::as_str));
        return faults.push(Fault::new(path, format!("{value} is none of {known}")));
    }
    let mut fault = |message: String| faults.push(Fault::new(path, message));
    if let Value::String(text) = value {
        let length = text.chars().count() as u64;
        if schema["maxLength"].as_u64().is_some_and(|most| length > most) {
            fault(format!("has {length} characters; {} are allowed", schema["maxLength"]));
        }
        if schema["minLength"].as_u64().is_some_and(|least| length < least) {
            fault("must not be empty".to_owned());
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
        {
            fault(format!("{text:?} does not match {pattern}"));
        }
    }
    if let Some(number) = value.as_f64() {
        if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
            fault(format!("must be {least} or more"));
        }
        if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
            fault(format!("must be {most} or less"));
        }
    }
}

fn list(schema: &Value, items: &[Node], path: &str, faults: &mut Vec<Fault>) {
    if schema["maxItems"].as_u64().is_some_and(|most| items.len() as u64 > most) {
        faults.push(Fault::new(path, format!("has {} entries; {} are allowed", items.len(), schema["maxItems"])));
    }
    if schema["minItems"].as_u64().is_some_and(|least| (items.len() as u64) < least) {
        faults.push(Fault::new(path, format!("must have {} entries or more", schema["minItems"])));
    }
    for (index, item) in items.iter().enumerate() {
        value(&schema["items"], item, &format!("{path}[{index}]"), faults);
    }
}

fn map(schema: &Value, entries: &[(String, super::Place, Node)], path: &str, faults: &mut Vec<Fault>) {
    let free = schema["x-kubernetes-preserve-unknown-fields"] == true || schema["properties"].is_null();
    for (key, _, node) in entries {
        match (schema["properties"].get(key), schema["additionalProperties"].is_object()) {
            (Some(of_key), _) => value(of_key, node, &child(path, key), faults),
            (None, true) => value(&schema["additionalProperties"], node, &child(path, key), faults),
            (None, false) if free => {}
            (None, false) => {
                let known: Vec<&str> =
                    schema["properties"].as_object().into_iter().flatten().map(|(known, _)| known.as_str()).collect();
                faults.push(Fault::new(child(path, key), misspelt(&known, key)));
            }
        }
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let given =
            |(key, _, node): &(String, super::Place, Node)| key == required && node.part != Part::Scalar(Value::Null);
        if !entries.iter().any(given) {
            faults.push(Fault::new(path, format!("{required} is missing")));
        }
    }
}

/// What to say of a field that is not known: those that are perhaps meant, or all that there are if they are few.
fn misspelt(known: &[&str], key: &str) -> String {
    /// Names that are read at a glance.
    const FEW: usize = 8;
    let begins = |known: &&&str| key.len() > 2 && (known.starts_with(key) || key.starts_with(**known));
    let meant = match near(known.iter().copied(), key) {
        near if near.is_empty() => known.iter().filter(begins).copied().collect(),
        near => near,
    };
    match (meant.as_slice(), known.len()) {
        ([], 1..=FEW) => format!("unknown field: known are {}", known.join(", ")),
        ([], _) => "unknown field".to_owned(),
        (meant, _) => format!("unknown field: perhaps {} is meant", meant.join(" or ")),
    }
}

/// The schema's own CEL, without transition rules: those that name `oldSelf` are of an update alone, and here nothing
/// is there yet. (Kubernetes: "Transition rules" of `x-kubernetes-validations`.)
fn rules(schema: &Value, node: &Node, path: &str, faults: &mut Vec<Fault>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let Some(expression) = rule["rule"].as_str() else { continue };
        if expression.contains("oldSelf") {
            continue;
        }
        let value = defaulted(schema, node);
        let holds = compiled(expression).and_then(|program| {
            program.test(&Scope::empty().with_value("self", &value)).map_err(|error| error.to_string())
        });
        match holds {
            Ok(true) => {}
            Ok(false) => faults.push(Fault::new(path, rule["message"].as_str().unwrap_or(expression))),
            Err(error) => faults.push(Fault::new(path, format!("{expression}: {error}"))),
        }
    }
}

fn compiled(expression: &str) -> Result<Program, String> {
    Program::compile(expression, &Names::of(&["self"])).map_err(|fault| fault.to_string())
}

/// The value with the defaults of its schema, as rules see it.
fn defaulted(schema: &Value, node: &Node) -> Value {
    match &node.part {
        Part::Scalar(value) => value.clone(),
        Part::List(items) => items.iter().map(|item| defaulted(&schema["items"], item)).collect(),
        Part::Map(entries) => {
            let mut map = Map::new();
            for (key, of_key) in schema["properties"].as_object().into_iter().flatten() {
                of_key.get("default").map(|default| map.insert(key.clone(), default.clone()));
            }
            for (key, _, node) in entries.iter().filter(|(.., node)| node.part != Part::Scalar(Value::Null)) {
                let value = defaulted(&schema["properties"][key], node);
                if WORDS.contains(&key.as_str()) {
                    map.insert(format!("__{key}__"), value.clone());
                }
                map.insert(key.clone(), value);
            }
            Value::Object(map)
        }
    }
}
