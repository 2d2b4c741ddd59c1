//! What is done with whole objects, with images, with Pods and Nodes: structure is looked at before any text in it is filled in.

use serde::Serialize;

use super::{Compiler, Mode, Template, actions::TARGET_TEXTS};
use crate::api::{Delete, Evict, PatchFault, SetImage, Taint};

const IMAGE_TEXTS: &[&str] = &["target.name", "target.namespace", "container", "image"];

impl Compiler {
    /// `apply` and `create`.
    pub(super) fn manifest(&mut self, spec: &impl Serialize, faults: Vec<PatchFault>, path: &str) -> Option<Template> {
        for fault in faults {
            self.fault(format!("{path}.manifest{}", fault.path), fault.message);
        }
        let mut fields = Vec::new();
        for (key, value) in self.json(spec, path)? {
            let path = format!("{path}.{key}");
            let field = match key.as_str() {
                "manifest" => self.template(&value, Mode::Typed, &path)?,
                _ => {
                    self.refuse_elsewhere(&value, &[], "", &path);
                    Template::fixed(value, &path)
                }
            };
            fields.push((key, field));
        }
        Some(Template::object(fields, path))
    }

    pub(super) fn delete(&mut self, delete: &Delete, path: &str) -> Option<Template> {
        self.target(&delete.target, path);
        self.fields(delete, TARGET_TEXTS, path)
    }

    pub(super) fn set_image(&mut self, image: &SetImage, path: &str) -> Option<Template> {
        if let Some(fault) = image.fault() {
            self.fault(path, fault);
        }
        self.target(&image.target, path);
        self.fields(image, IMAGE_TEXTS, path)
    }

    pub(super) fn evict(&mut self, evict: &Evict, path: &str) -> Option<Template> {
        if let Some(fault) = evict.fault() {
            self.fault(path, fault);
        }
        self.target(&evict.target, path);
        self.fields(evict, TARGET_TEXTS, path)
    }

    pub(super) fn taint(&mut self, taint: &Taint, path: &str) -> Option<Template> {
        if taint.remove && taint.value.is_some() {
            self.fault(format!("{path}.value"), "a taint is removed by its key and effect: leave value out");
        }
        self.fields(taint, super::actions::NODE_TEXTS, path)
    }
}
