//! The fields of an action: which of them take `${ }`, and what they become.

use serde::Serialize;
use serde_json::Value;

use super::{Compiler, Mode, Template};

impl Compiler {
    pub(super) fn template(&mut self, value: &Value, mode: Mode, path: &str) -> Option<Template> {
        match Template::compile(value, mode, &self.names, path) {
            Ok(template) => {
                template.programs().into_iter().for_each(|program| self.reads(program));
                Some(template)
            }
            Err(faults) => {
                self.faults.extend(faults);
                None
            }
        }
    }

    pub(super) fn json(&mut self, body: &impl Serialize, path: &str) -> Option<serde_json::Map<String, Value>> {
        match serde_json::to_value(body) {
            Ok(Value::Object(map)) => Some(map),
            Ok(_) => None,
            Err(error) => {
                self.fault(path, format!("cannot be written as JSON: {error}"));
                None
            }
        }
    }

    /// An object of which only the named texts may hold `${ }`; indexes of lists are left out of their names.
    pub(super) fn fields(&mut self, body: &impl Serialize, texts: &[&str], path: &str) -> Option<Template> {
        let body = Value::Object(self.json(body, path)?);
        let before = self.faults.len();
        self.refuse_elsewhere(&body, texts, "", path);
        if self.faults.len() > before {
            return None;
        }
        self.template(&body, Mode::Text, path)
    }

    pub(super) fn refuse_elsewhere(&mut self, value: &Value, texts: &[&str], name: &str, path: &str) {
        match value {
            Value::String(text) if text.contains("${") && !texts.contains(&name) => {
                self.fault(path, "takes no `${ }`");
            }
            Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| {
                self.refuse_elsewhere(item, texts, name, &format!("{path}[{index}]"));
            }),
            Value::Object(map) => map.iter().for_each(|(key, item)| {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                self.refuse_elsewhere(item, texts, &name, &format!("{path}.{key}"));
            }),
            _ => {}
        }
    }
}
