//! Manifests as people write them: YAML files of rules, read with the place of everything, so that what is wrong is told with file, line and column.
//!
//! What is checked is what the API server checks by the schema, and then what the operator's compiler says. Knows no I/O: texts are passed in.

mod node;
mod schema;
mod source;
mod warnings;

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use node::{Node, Place};
pub use source::{Source, YamlError};
pub use warnings::in_order;

use crate::{
    api::{self, EventRuleSpec, EventSourceSpec},
    event::{MAX_LEVELS, levels},
    record::{RuleRef, RuleUid},
    rule::{self, Fault, Rule},
};

/// Something that is wrong with a file, or a warning about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The place in it.
    pub place: Place,
    /// The field; empty for the file as a whole.
    pub path: String,
    /// What is wrong, and what to write instead where that is known.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, place: Place { line, column }, path, message } = self;
        match path.as_str() {
            "" => write!(f, "{file}:{line}:{column}: {message}"),
            path => write!(f, "{file}:{line}:{column}: {path}: {message}"),
        }
    }
}

/// A rule out of a file, without fault.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What it was compiled to.
    pub rule: Arc<Rule>,
    /// `apiVersion` and all else, as it was written.
    pub node: Node,
    /// The file.
    pub source: Arc<Source>,
}

impl Manifest {
    /// Something to say about a field of it.
    pub fn finding(&self, path: &str, message: impl Into<String>) -> Finding {
        let place = self.node.place_of(path);
        Finding { file: self.source.name.clone(), place, path: path.to_owned(), message: message.into() }
    }
}

/// An EventSource in a file.
#[derive(Debug)]
pub struct SourceManifest {
    /// Where it is to be.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it says.
    pub spec: EventSourceSpec,
}

/// The rules in files, and everything that is wrong with them.
#[derive(Debug, Default)]
pub struct Manifests {
    /// The rules without fault, in the order of the files.
    pub rules: Vec<Manifest>,
    /// The EventSources without fault, in the order of the files.
    pub event_sources: Vec<SourceManifest>,
    /// What is wrong.
    pub faults: Vec<Finding>,
    seen: BTreeMap<String, String>,
}

impl Manifests {
    /// Reads a file. Rules that name no namespace are of this one. Documents of other kinds are left alone, but for `EventSource` and `EventSink`, which
    /// are checked by their schema.
    pub fn read(&mut self, name: &str, text: &str, namespace: &str) {
        let source = Arc::new(Source::new(name, text));
        let documents = match source.documents() {
            Ok(documents) => documents,
            Err(error) => return self.faults.push(error.finding(name)),
        };
        for document in documents.into_iter().flat_map(unfolded) {
            let (version, kind) = (document.get("apiVersion"), document.get("kind"));
            let (Some(version), Some(kind)) = (version.and_then(Node::text), kind.and_then(Node::text)) else {
                let message = "not a Kubernetes object: apiVersion and kind are missing";
                self.fault(&source, &document, &Fault::new("", message));
                continue;
            };
            if version.split('/').next() != Some(api::GROUP) {
                continue;
            }
            let mut faults = schema::check(version, kind, &document);
            if kind == "EventRule" && faults.is_empty() {
                match self.compile(&source, &document, namespace) {
                    Ok(rule) => {
                        self.rules.push(Manifest { rule, node: document, source: Arc::clone(&source) });
                        continue;
                    }
                    Err(of_compiler) => faults = of_compiler,
                }
            }
            if kind == "EventSource" && faults.is_empty() {
                match event_source(&document, namespace) {
                    Ok(of_file) => self.event_sources.push(of_file),
                    Err(of_spec) => faults = of_spec,
                }
            }
            for fault in faults {
                self.fault(&source, &document, &fault);
            }
        }
    }

    fn fault(&mut self, source: &Source, document: &Node, fault: &Fault) {
        let node = document.nearest(&fault.path);
        let place = match node.text() {
            Some(_) => source.inside(node, fault.line, fault.column),
            None => document.place_of(&fault.path),
        };
        let (path, message) = (fault.path.clone(), fault.message.clone());
        self.faults.push(Finding { file: source.name.clone(), place, path, message });
    }

    fn compile(&mut self, source: &Source, document: &Node, namespace: &str) -> Result<Arc<Rule>, Vec<Fault>> {
        let text = |path: &str| document.nearest(path).text().map(str::to_owned);
        let Some(name) = document.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::text) else {
            return Err(vec![Fault::new("metadata", "name is missing")]);
        };
        let namespace = text("metadata.namespace").unwrap_or_else(|| namespace.to_owned());
        let full = format!("{namespace}/{name}");
        if let Some(other) = self.seen.insert(full.clone(), source.name.clone()) {
            return Err(vec![Fault::new("metadata.name", format!("rule {full} stands in {other} as well"))]);
        }
        let rule = RuleRef { uid: RuleUid(full.into()), namespace, name: name.to_owned() };
        let spec = document.get("spec").map(Node::json).unwrap_or_default();
        rule::compile(&rule, 1, &Arc::new(spec_of::<EventRuleSpec>(&spec, document)?))
    }
}

fn event_source(document: &Node, namespace: &str) -> Result<SourceManifest, Vec<Fault>> {
    let text = |path: &str| document.nearest(path).text().map(str::to_owned);
    let name = document.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::text);
    let name = name.ok_or_else(|| vec![Fault::new("metadata", "name is missing")])?.to_owned();
    let namespace = text("metadata.namespace").unwrap_or_else(|| namespace.to_owned());
    let spec = document.get("spec").map(Node::json).unwrap_or_default();
    Ok(SourceManifest { namespace, name, spec: spec_of(&spec, document)? })
}

/// The spec, or what is wrong with it: durations, each with its field, else the first fault that is found.
fn spec_of<T: DeserializeOwned>(spec: &Value, document: &Node) -> Result<T, Vec<Fault>> {
    if levels(spec) > MAX_LEVELS {
        return Err(vec![Fault::new("spec", format!("lists and maps are nested deeper than {MAX_LEVELS} levels"))]);
    }
    serde_json::from_value(spec.clone()).map_err(|error| {
        let durations = schema::durations(document);
        if durations.is_empty() { vec![Fault::new("spec", error.to_string())] } else { durations }
    })
}

/// The objects of a `List`, else the one object.
fn unfolded(document: Node) -> Vec<Node> {
    let is_list = document.get("kind").and_then(Node::text) == Some("List");
    match document.get("items").filter(|_| is_list).map(|items| &items.part) {
        Some(node::Part::List(items)) => items.clone(),
        _ => vec![document],
    }
}
