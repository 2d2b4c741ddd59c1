//! The object that an action changes: its fields after they were filled in, checked so that they cannot lead anywhere else.

use serde_json::Value;

use super::{Context, Failure};
use crate::{
    api,
    event::{is_label, is_subdomain, title},
    kubernetes::{Cluster, Resource, Right},
};

/// A target that exists as a kind, with a name and a namespace that are names.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    pub(super) resource: Resource,
    pub(super) name: String,
    /// Nothing for kinds that have none.
    pub(super) namespace: Option<String>,
}

/// The target of an action if it stands in the rule as it is, without `${ }`, and its kind is there.
pub(super) async fn fixed(cluster: &Cluster, target: &api::Target, own_namespace: &str) -> Option<Aim> {
    let api::Target { api_version, kind, name, namespace, .. } = target;
    if target.from.is_some() || [Some(name), namespace.as_ref()].into_iter().flatten().any(|text| text.contains("${")) {
        return None;
    }
    let resource = cluster.resolve(api_version.as_deref(), kind).await.ok()?;
    let namespace = resource.namespaced.then(|| namespace.as_deref().unwrap_or(own_namespace).to_owned());
    Some(Aim { resource, name: name.clone(), namespace })
}

impl Aim {
    /// A right on the object itself.
    pub(super) fn right(&self, verb: &str) -> Right {
        let kind = &self.resource.api;
        let right = Right::new(verb, &kind.group, &kind.plural).within(self.namespace.as_deref());
        // Those that a selector takes may have any name.
        if self.name.is_empty() { right } else { right.named(&self.name) }
    }

    /// The target that is `spec` with its texts filled in.
    ///
    /// # Errors
    /// Final when a part is missing, is no name, or is a namespace that was not allowed.
    pub(super) async fn new(cx: &Context, spec: &api::Target, filled: &Value) -> Result<Self, Failure> {
        if spec.from.is_some() || spec.selector.is_some() {
            return Self::led(cx, filled).await;
        }
        let name = text(filled.get("name"), "name")?;
        if !is_subdomain(&name) {
            return Err(Failure::last(format!("no target: {:?} is not the name of an object", short(&name))));
        }
        let (resource, namespace) = place(cx, spec, filled).await?;
        Ok(Self { resource, name, namespace })
    }

    /// The target of `filled`, an action's JSON with its texts filled in.
    ///
    /// # Errors
    /// As [`Aim::new`].
    pub(super) async fn filled(cx: &Context, spec: &api::Target, filled: &Value) -> Result<Self, Failure> {
        Self::new(cx, spec, filled.get("target").unwrap_or(&Value::Null)).await
    }

    /// The target that the event has led to, or the selector taken, which was checked then.
    async fn led(cx: &Context, filled: &Value) -> Result<Self, Failure> {
        let field = |field: &str| text(filled.get(field), field);
        let (api_version, kind, name) = (field("apiVersion")?, field("kind")?, field("name")?);
        let resource = cx.services.cluster.resolve(Some(&api_version), &kind).await?;
        let namespace = field("namespace").unwrap_or_else(|_| cx.rule.namespace.clone());
        let namespace = resource.namespaced.then_some(namespace);
        Ok(Self { resource, name, namespace })
    }

    /// `Deployment shop/web`
    pub(super) fn title(&self) -> String {
        title(&self.resource.api.kind, self.namespace.as_deref(), &self.name)
    }
}

/// The kind of a target that is `spec` with its texts filled in, and the namespace; nothing for kinds that have none.
///
/// # Errors
/// As [`Aim::new`].
pub(super) async fn place(
    cx: &Context,
    spec: &api::Target,
    filled: &Value,
) -> Result<(Resource, Option<String>), Failure> {
    let namespace = match &spec.namespace {
        None => cx.rule.namespace.clone(),
        Some(written) => allowed(spec, written, text(filled.get("namespace"), "namespace")?)?,
    };
    let resource = cx.services.cluster.resolve(spec.api_version.as_deref(), &spec.kind).await?;
    if !resource.namespaced && spec.namespace.is_some() {
        let message = format!("no target: a {} is in no namespace: leave target.namespace out", spec.kind);
        return Err(Failure::last(message));
    }
    let namespace = resource.namespaced.then_some(namespace);
    Ok((resource, namespace))
}

/// The uid that the object had when it was found, where the event leads to it or a selector takes it: another one of its name is another object.
pub(super) fn uid_of_event(filled: &Value) -> Option<&str> {
    filled.pointer("/target/uid").and_then(Value::as_str)
}

/// An object by namespace, kind and name. Two groups may have a kind of one name: then steps wait for each other without need.
pub(super) fn key(own_namespace: &str, kind: &str, named: &Value) -> Option<String> {
    let name = text(named.get("name"), "name").ok()?;
    let namespace = text(named.get("namespace"), "namespace").unwrap_or_else(|_| own_namespace.to_owned());
    Some(format!("{namespace}/{kind}/{name}"))
}

/// The same for the target of `filled`, an action's JSON with its texts filled in.
pub(super) fn filled_key(own_namespace: &str, spec: &api::Target, filled: &Value) -> Option<String> {
    let target = filled.get("target")?;
    let kind = if spec.from.is_some() { target.get("kind")?.as_str()? } else { &spec.kind };
    key(own_namespace, kind, target)
}

/// The same for the object of a recorded request.
pub(super) fn recorded_key(own_namespace: &str, request: &Value) -> Option<String> {
    key(own_namespace, request.get("kind")?.as_str()?, request)
}

fn allowed(spec: &api::Target, written: &str, namespace: String) -> Result<String, Failure> {
    if !is_label(&namespace) {
        return Err(Failure::last(format!("no target: {:?} is not the name of a namespace", short(&namespace))));
    }
    // A namespace that stands in the rule as it is needs no list: what the account may do there bounds it.
    if written.contains("${") && !spec.allowed_namespaces.contains(&namespace) {
        return Err(Failure::last(format!("namespace {namespace} is not one of the target's allowedNamespaces")));
    }
    Ok(namespace)
}

/// A filled-in text; numbers and booleans are written out, nothing else is a name.
pub(super) fn text(value: Option<&Value>, field: &str) -> Result<String, Failure> {
    let what = match value {
        Some(Value::String(text)) if !text.is_empty() => return Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => return Ok(value.to_string()),
        Some(Value::String(_)) => "is empty",
        Some(Value::Null) | None => "is null",
        Some(Value::Array(_)) => "is a list",
        Some(Value::Object(_)) => "is a map",
    };
    Err(Failure::last(format!("no target: {field} {what}")))
}

/// For messages: names come from events and may be anything.
pub(super) fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(namespace: Option<&str>, allowed: &[&str]) -> api::Target {
        api::Target {
            from: None,
            api_version: None,
            kind: "Deployment".into(),
            name: "web".into(),
            namespace: namespace.map(str::to_owned),
            allowed_namespaces: allowed.iter().map(|name| (*name).to_owned()).collect(),
            max: None,
            selector: None,
            filter_expression: None,
        }
    }

    #[test]
    fn a_name_that_is_missing_is_said() {
        for (value, message) in [
            (json!(null), "no target: name is null"),
            (json!(""), "no target: name is empty"),
            (json!([]), "no target: name is a list"),
        ] {
            assert_eq!(text(Some(&value), "name").expect_err("no name").message, message);
        }
        assert_eq!(text(None, "name").expect_err("no name").message, "no target: name is null");
        assert_eq!(text(Some(&json!(1234567890)), "name").expect("a name"), "1234567890");
    }

    #[test]
    fn a_filled_in_namespace_must_be_allowed() {
        let filled = target(Some("${event.data.namespace}"), &["shop", "orders"]);
        let check = |spec: &api::Target, namespace: &str| {
            allowed(spec, spec.namespace.as_deref().expect("set"), namespace.into())
        };
        assert!(check(&filled, "orders").is_ok());
        let error = check(&filled, "kube-system").expect_err("not allowed");
        assert_eq!(error.message, "namespace kube-system is not one of the target's allowedNamespaces");
        assert!(check(&target(Some("orders"), &[]), "orders").is_ok());
        assert!(check(&target(Some("${x}"), &["../x"]), "../x").is_err());
    }
}
