//! The actions of a firing, filled in by what the runner fills them in with.

use serde_json::{Map, Value, json};

use crate::{
    api::{Action, OnError},
    record::{OpenFiring, Results},
    rule::{CompiledAction, Rule, cel::Scope},
};

/// What the actions of the firing become, in their order, up to one that fails and stops the others.
pub(super) fn actions(rule: &Rule, open: &OpenFiring, results: &Results) -> Vec<Value> {
    let named = open.named();
    let compiled = rule.actions_of(open.firing.kind, open.firing.step);
    let mut rendered = Vec::new();
    for (spec, compiled) in open.firing.actions(&rule.spec).iter().zip(compiled) {
        let (action, failed) = match action(&Scope::of_firing(rule, open, results, &named), compiled) {
            Ok(action) => (action, false),
            Err(message) => (told(spec, "Failed", &with_remedy(&message, rule, results)), true),
        };
        rendered.push(action);
        if failed && spec.on_error != OnError::Continue {
            break;
        }
    }
    rendered
}

fn action(scope: &Scope<'_>, compiled: &CompiledAction) -> Result<Value, String> {
    if let Some(condition) = &compiled.if_expression
        && !condition.test(scope).map_err(|error| format!("ifExpression: {error}"))?
    {
        return Ok(json!({"name": compiled.name, "outcome": "Skipped"}));
    }
    let mut action = Map::from_iter([("name".to_owned(), compiled.name.clone().into())]);
    let filled = compiled.body.fill(scope).map_err(|error| error.to_string())?;
    action.insert(compiled.body.field().to_owned(), without_defaults(filled));
    Ok(action.into())
}

/// Null says nothing in an expectation.
fn without_defaults(filled: Value) -> Value {
    match filled {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(key, value)| (key, without_defaults(value))).collect())
        }
        other => other,
    }
}

fn told(spec: &Action, outcome: &str, message: &str) -> Value {
    json!({"name": spec.name, "outcome": outcome, "message": message})
}

fn with_remedy(message: &str, rule: &Rule, results: &Results) -> String {
    let actions = rule.spec.all_actions().map(|action| &action.name);
    match actions.into_iter().find(|name| message.contains(&format!("actions.{name}")) && !results.contains_key(*name))
    {
        Some(name) => format!("{message}; nothing is done here: say under `results` of the case what {name} gives"),
        None => message.to_owned(),
    }
}
