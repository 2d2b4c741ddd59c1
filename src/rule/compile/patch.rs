//! `patch`: its structure is looked at before any text in it is filled in.

use super::{Compiler, Mode, Template};
use crate::api::{Patch, PatchType};

impl Compiler {
    pub(super) fn patch(&mut self, patch: &Patch, path: &str) -> Option<Template> {
        if patch.force && patch.type_ != PatchType::Apply {
            self.fault(format!("{path}.force"), "is for type Apply");
        }
        if patch.subresource.as_deref() == Some("scale") {
            self.fault(format!("{path}.subresource"), "to change a scale, use the action scale");
        }
        for fault in patch.faults(&patch.patch) {
            self.fault(format!("{path}.patch{}", fault.path), fault.message);
        }
        self.target(&patch.target, path);
        let mut fields = Vec::new();
        for (key, value) in self.json(patch, path)? {
            let path = format!("{path}.{key}");
            let field = match key.as_str() {
                "patch" => self.template(&value, Mode::Typed, &path)?,
                "target" => self.fields(&value, &["name", "namespace"], &path)?,
                _ => {
                    self.refuse_elsewhere(&value, &[], "", &path);
                    Template::fixed(value, &path)
                }
            };
            fields.push((key, field));
        }
        Some(Template::object(fields, path))
    }
}
