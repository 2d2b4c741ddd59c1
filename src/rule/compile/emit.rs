//! What can be wrong with an `emit` action.

use super::{Compiler, Mode, Template};
use crate::{api::Emit, event::rule_event};

impl Compiler {
    pub(super) fn emit(&mut self, emit: &Emit, path: &str) -> Option<Template> {
        // What stands before the first `${ }`: it may be the whole type.
        let fixed = emit.type_.split("${").next().unwrap_or_default();
        if let Err(why) = rule_event::emittable(fixed) {
            self.fault(format!("{path}.type"), why);
        }
        let mut fields = Vec::new();
        for (key, value) in self.json(emit, path)? {
            let path = format!("{path}.{key}");
            let mode = if key == "data" { Mode::Typed } else { Mode::Text };
            fields.push((key, self.template(&value, mode, &path)?));
        }
        Some(Template::object(fields, path))
    }
}
