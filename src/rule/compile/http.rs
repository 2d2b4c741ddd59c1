//! What can be wrong with an `http` action.

use std::collections::BTreeSet;

use http::{HeaderValue, header};

use super::{Compiler, Mode, Names, Program, Template};
use crate::{
    api::{Header, Http},
    net,
};

impl Compiler {
    pub(super) fn http(&mut self, http: &Http, path: &str) -> Option<Template> {
        self.address(&http.url, &format!("{path}.url"));
        self.headers(&http.headers, &format!("{path}.headers"));
        if http.body.is_some() && !http.method.has_body() {
            self.fault(format!("{path}.body"), format!("{} has no body", http.method));
        }
        if let Some(tls) = &http.tls {
            let mut faults = Vec::new();
            tls.faults(&format!("{path}.tls"), &mut faults);
            if http.url.starts_with("http://") {
                faults.push(format!("{path}.tls: is for addresses that begin with https://"));
            }
            for (path, why) in faults.iter().filter_map(|fault| fault.split_once(": ")) {
                self.fault(path, why);
            }
        }
        if let Some(source) = &http.expect_expression {
            self.expectation(source, &format!("{path}.expectExpression"));
        }
        let mut fields = Vec::new();
        let mut whole = true;
        for (key, value) in self.json(http, path)? {
            let path = format!("{path}.{key}");
            match key.as_str() {
                "headers" => self.refuse_elsewhere(&value, &["value"], "", &path),
                "authSecretRef" | "tls" => self.refuse_elsewhere(&value, &[], "", &path),
                _ => {}
            }
            let field = match key.as_str() {
                "url" => self.template(&value, Mode::Url, &path),
                "headers" => self.template(&value, Mode::Text, &path),
                "body" => self.template(&value, Mode::Typed, &path),
                _ => Some(Template::fixed(value, &path)),
            };
            whole &= field.is_some();
            fields.extend(field.map(|field| (key, field)));
        }
        whole.then(|| Template::object(fields, path))
    }

    /// What stands before the first `${ }` is an address by itself.
    fn address(&mut self, url: &str, path: &str) {
        let fixed = url.split("${").next().unwrap_or_default();
        if let Some(Err(why)) = (!fixed.is_empty()).then(|| net::address(fixed)) {
            self.fault(path, why);
        }
    }

    fn headers(&mut self, headers: &[Header], path: &str) {
        let mut seen = BTreeSet::new();
        for (index, Header { name, value, value_secret_ref }) in headers.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match net::header_name(name) {
                Err(fault) => self.fault(format!("{path}.name"), fault.to_string()),
                Ok(header::AUTHORIZATION) => {
                    self.fault(format!("{path}.name"), "a token is given as authSecretRef, out of a Secret");
                }
                Ok(name) => {
                    if !seen.insert(name.as_str().to_owned()) {
                        self.fault(format!("{path}.name"), format!("there is another {name}"));
                    }
                }
            }
            match (value, value_secret_ref) {
                (Some(value), None) if HeaderValue::from_bytes(value.as_bytes()).is_err() => {
                    self.fault(format!("{path}.value"), "has a line break or a control character");
                }
                (Some(_), None) | (None, Some(_)) => {}
                _ => self.fault(path, "exactly one of value and valueSecretRef must be set"),
            }
        }
    }

    fn expectation(&mut self, source: &str, path: &str) {
        match Program::compile_all(source, &Names::of(&["response"])) {
            Ok(program) => {
                if let Some(other) = program.surely_not_bool() {
                    self.fault(path, format!("gives {other}, not true or false"));
                }
            }
            Err(faults) => self.faults.extend(faults.into_iter().map(|fault| fault.of(path))),
        }
    }
}
