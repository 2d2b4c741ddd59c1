//! What can be wrong with a `publish` action.

use serde_json::Value;

use super::{Compiler, Mode, Template};
use crate::{
    api::{DEFAULT_PUBLISHED_TYPE, Publish},
    event::rule_event,
};

impl Compiler {
    pub(super) fn publish(&mut self, publish: &Publish, path: &str) -> Option<Template> {
        // What stands before the first `${ }`: it may be the whole type.
        let fixed = publish.type_.iter().filter_map(|type_| type_.split("${").next());
        for fixed in fixed.filter(|fixed| *fixed != DEFAULT_PUBLISHED_TYPE) {
            if let Err(why) = rule_event::emittable(fixed) {
                self.fault(format!("{path}.type"), why);
            }
        }
        match &publish.data {
            None if publish.content_type.is_some() => {
                let why = "is for data: without data, that of the event is sent as it is";
                self.fault(format!("{path}.contentType"), why);
            }
            Some(Value::String(_)) | None => {}
            Some(_) if publish.is_json() => {}
            Some(_) => self.fault(format!("{path}.data"), "must be a text: contentType says that it is not JSON"),
        }
        let mut fields = Vec::new();
        let mut whole = true;
        for (key, value) in self.json(publish, path)? {
            let path = format!("{path}.{key}");
            let field = match key.as_str() {
                "data" => self.template(&value, Mode::Typed, &path),
                "topic" | "key" | "type" | "subject" => self.template(&value, Mode::Text, &path),
                _ => {
                    self.refuse_elsewhere(&value, &[], "", &path);
                    Some(Template::fixed(value, &path))
                }
            };
            whole &= field.is_some();
            fields.extend(field.map(|field| (key, field)));
        }
        whole.then(|| Template::object(fields, path))
    }
}
