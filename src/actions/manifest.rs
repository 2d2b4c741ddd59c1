//! A manifest of the rule after its texts were filled in: the object that `create` and `apply` are about.
//!
//! Its structure was parsed before anything was filled in, so a text of an event cannot become a field.

use serde_json::{Map, Value, json};

use super::{
    CAUSED_BY, Context, Failure,
    failure::is_missing_right,
    fields::{is_secret, texts},
    pods,
    target::Aim,
    write::Step,
};
use crate::{
    api,
    kubernetes::{Cluster, Resource, Right},
};

/// The manifest of an action as it stands in the rule.
pub(super) struct Written<'a> {
    pub(super) manifest: &'a Value,
    pub(super) allowed_namespaces: &'a [String],
    /// `create.manifest`
    pub(super) field: &'static str,
}

/// A manifest with the names that it has, and what is ours.
pub(super) struct Filled {
    pub(super) aim: Aim,
    pub(super) object: Value,
}

impl Written<'_> {
    fn text(&self, pointer: &str) -> Option<&str> {
        self.manifest.pointer(pointer).and_then(Value::as_str)
    }

    /// The kind, if the API server has it.
    async fn resource(&self, cluster: &Cluster) -> Option<Resource> {
        cluster.resolve(Some(self.text("/apiVersion")?), self.text("/kind")?).await.ok()
    }

    /// These rights, on the object if its name stands in the rule as it is and `create` is not the verb, in every namespace that it may be in.
    pub(super) async fn rights(&self, cluster: &Cluster, own_namespace: &str, verbs: &[&str]) -> Vec<Right> {
        let Some(resource) = self.resource(cluster).await else { return Vec::new() };
        let namespaces: Vec<Option<&str>> = match self.text("/metadata/namespace") {
            _ if !resource.namespaced => vec![None],
            Some(text) if text.contains("${") => {
                self.allowed_namespaces.iter().map(|name| Some(name.as_str())).collect()
            }
            Some(text) => vec![Some(text)],
            None => vec![Some(own_namespace)],
        };
        let name = self.text("/metadata/name").filter(|name| !name.contains("${"));
        let right = |namespace: Option<&str>, verb: &str| {
            let right = Right::new(verb, &resource.api.group, &resource.api.plural).within(namespace);
            match name {
                // The name of what is to be created is not known to the authorizer.
                Some(name) if verb != "create" => right.named(name),
                _ => right,
            }
        };
        namespaces.into_iter().flat_map(|namespace| verbs.iter().map(move |verb| right(namespace, verb))).collect()
    }

    /// The object to write under the name, which was filled in.
    ///
    /// # Errors
    /// Final when its names are none, when it is in a namespace that was not allowed, or when its Pods would run as an account that they may not.
    pub(super) async fn filled(&self, cx: &Context, mut manifest: Value, name: &Value) -> Result<Filled, Failure> {
        texts(&mut manifest)?;
        let target = api::Target {
            from: None,
            api_version: self.text("/apiVersion").map(str::to_owned),
            kind: self.text("/kind").unwrap_or_default().to_owned(),
            name: String::new(),
            namespace: self.manifest.pointer("/metadata/namespace").map(written_out),
            allowed_namespaces: self.allowed_namespaces.to_vec(),
            max: None,
            selector: None,
            filter_expression: None,
        };
        let names = json!({"name": name, "namespace": manifest.pointer("/metadata/namespace")});
        let aim = Aim::new(cx, &target, &names).await?;
        if let Some(place) = pods::place(&aim.resource.api.api_version, &aim.resource.api.kind) {
            pods::keep_literal(&mut manifest, self.manifest, place, self.field)?;
            let account = manifest.pointer(place).and_then(Value::as_object).and_then(pods::account);
            // Pods for which nobody names an account run as `default`, as whoever makes them.
            if let Some(account) = account.filter(|name| *name != "default") {
                pods::usable(cx, aim.namespace.as_deref().unwrap_or_default(), account).await?;
            }
        }
        let metadata = manifest.get_mut("metadata").and_then(Value::as_object_mut);
        let metadata = metadata.ok_or_else(|| Failure::last(format!("{}.metadata must be a map", self.field)))?;
        if metadata.get("annotations").is_some_and(|all| !all.is_null() && !all.is_object()) {
            return Err(Failure::last(format!("{}.metadata.annotations must be a map", self.field)));
        }
        metadata.remove("generateName");
        metadata.insert("name".to_owned(), aim.name.as_str().into());
        match &aim.namespace {
            Some(namespace) => metadata.insert("namespace".to_owned(), namespace.as_str().into()),
            None => metadata.remove("namespace"),
        };
        Ok(Filled { aim, object: manifest })
    }
}

/// Something that is no text is checked when it is used.
fn written_out(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Filled {
    /// Says in the object which step it is of, or leaves what another one said.
    pub(super) fn caused_by(mut self, cause: &str) -> Self {
        if let Some(metadata) = self.object.get_mut("metadata").and_then(Value::as_object_mut) {
            let annotations = metadata.entry("annotations").or_insert(Value::Null);
            // An empty key of YAML is null, and so is what was filled in with nothing.
            if annotations.is_null() {
                *annotations = Map::new().into();
            }
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.insert(CAUSED_BY.to_owned(), cause.into());
            }
        }
        self
    }
}

/// What an error of the API server about a whole object means. Refusals repeat values, and those of a Secret are not told.
pub(super) fn refused(step: &Step<'_>, error: &kube::Error, doing: &str, verb: &str) -> Failure {
    let failure = step.failure(error, doing, step.right(verb));
    let kube::Error::Api(status) = error else { return failure };
    let conflicts = status.details.iter().flat_map(|details| &details.causes);
    let title = step.aim.title();
    if status.code == 409 && conflicts.into_iter().any(|cause| cause.reason == "FieldManagerConflict") {
        return Failure::last(format!("{doing} {title}: {}; force: true takes the fields over", status.message));
    }
    let kind = &step.aim.resource.api;
    let told = is_missing_right(status) || !matches!(status.code, 400..500);
    match is_secret(&kind.api_version, &kind.kind) && !told && failure.kind == super::FailureKind::Final {
        true => {
            let reason = &status.reason;
            Failure::last(format!(
                "{doing} {title}: the API server refuses it as {reason} (what it says is not shown for a Secret)"
            ))
        }
        false => failure,
    }
}
