//! Whether the API server checks who writes rules: the chart's ValidatingAdmissionPolicy, found in force and unchanged.
//!
//! Whoever writes a rule, a source or a sink acts as its account. The policy lets only those write one who could do so anyway. Without it any author could
//! use any account of his namespace; so whatever is not known to be the chart's own policy counts as none.
//! It also lets only those change the annotation by which steps are approved who may approve, and those by which rules are silenced who may silence, and in
//! no other name than their own.

use std::time::Duration;

use http::Request;
use serde_json::Value;
use tokio::time::Instant;

use super::Cluster;
use crate::api;

/// Name of the policy and of its binding.
pub const POLICY: &str = "signalbox-accounts";
/// What the policy lets through, as the chart writes it: what leaves the spec alone; whoever may impersonate the account; whoever may create pods
/// in the namespace, which amounts to the same.
pub const EXPRESSION: &str = "request.operation == 'UPDATE' && object.spec == oldObject.spec || \
    authorizer.group('').resource('serviceaccounts').namespace(request.namespace)\
    .name(object.spec.?serviceAccountName.orValue('signalbox-rules')).check('impersonate').allowed() || \
    authorizer.group('').resource('pods').namespace(request.namespace).check('create').allowed()";
/// The same for the annotation [`super::APPROVAL`]: what leaves it alone; whoever has the verb `approve` on the rule, and takes lines away or adds such
/// as [`super::Approval::read`] takes, with his own name.
pub const APPROVAL_EXPRESSION: &str = "(request.operation == 'UPDATE' ? oldObject.metadata.?annotations[?'signalbox.dev/approval'].orValue('') : '') == \
    object.metadata.?annotations[?'signalbox.dev/approval'].orValue('') || \
    object.metadata.?annotations[?'signalbox.dev/approval'].orValue('').split('\\n').all(line, line == '' || \
    line in (request.operation == 'UPDATE' ? oldObject.metadata.?annotations[?'signalbox.dev/approval'].orValue('') : '').split('\\n') || \
    line.matches('^(approve|deny) [0-9a-f]{20}-[A-Za-z0-9_]{1,63} ') && line.split(' ', 3)[2] == request.userInfo.username) && \
    authorizer.group('signalbox.dev').resource('eventrules').namespace(request.namespace).name(request.name).check('approve').allowed()";
/// The same for annotations that begin with [`api::SILENCE`]: what leaves all of them as they are, empty ones too; whoever has the verb `silence` on the
/// rule, and takes some away or writes such as [`api::Silence::read`] takes, with his own name. It uses no variables: what those say is not looked at here.
pub const SILENCE_EXPRESSION: &str = r#"
    object.metadata.?annotations.orValue({}).all(name, !name.startsWith('silence.signalbox.dev/') ||
    request.operation == 'UPDATE' && name in oldObject.metadata.?annotations.orValue({}) &&
    oldObject.metadata.annotations[name] == object.metadata.annotations[name]) &&
    (request.operation != 'UPDATE' || oldObject.metadata.?annotations.orValue({}).all(name,
    !name.startsWith('silence.signalbox.dev/') || name in object.metadata.?annotations.orValue({}))) ||
    object.metadata.?annotations.orValue({}).all(name, !name.startsWith('silence.signalbox.dev/') ||
    request.operation == 'UPDATE' && name in oldObject.metadata.?annotations.orValue({}) &&
    oldObject.metadata.annotations[name] == object.metadata.annotations[name] ||
    !request.userInfo.username.matches('["\\\\]') &&
    object.metadata.annotations[name].startsWith('{"author":"' + request.userInfo.username + '",')) &&
    authorizer.group('signalbox.dev').resource('eventrules').namespace(request.namespace).name(request.name).check('silence').allowed()"#;
/// The kinds that name an account.
const RESOURCES: [&str; 3] = ["eventrules", "eventsinks", "eventsources"];
/// Both must be matched: a policy for CREATE alone lets everybody edit the rules of others.
const OPERATIONS: [&str; 2] = ["CREATE", "UPDATE"];
/// How long an answer is good enough.
const AGE: Duration = Duration::from_secs(3);

/// Whether authors, or those who approve or silence, are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authors {
    /// The policy is in force as the chart makes it.
    Checked,
    /// It is not, and why.
    Unchecked(String),
}

/// What was found last, and when.
pub(super) type Known = parking_lot::Mutex<Option<(Found, Instant)>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    authors: Authors,
    approvers: Authors,
    silencers: Authors,
}

impl Cluster {
    /// Whether the API server checks who writes rules and sinks. The answer is at most 3 s old.
    ///
    /// # Errors
    /// When the API server could not be asked.
    pub async fn authors(&self) -> Result<Authors, kube::Error> {
        Ok(self.found().await?.authors)
    }

    /// Whether the API server checks who approves steps. The answer is at most 3 s old.
    ///
    /// # Errors
    /// When the API server could not be asked.
    pub async fn approvers(&self) -> Result<Authors, kube::Error> {
        Ok(self.found().await?.approvers)
    }

    /// Whether the API server checks who silences rules. The answer is at most 3 s old.
    ///
    /// # Errors
    /// When the API server could not be asked.
    pub async fn silencers(&self) -> Result<Authors, kube::Error> {
        Ok(self.found().await?.silencers)
    }

    async fn found(&self) -> Result<Found, kube::Error> {
        let before = self.0.policy.lock().clone();
        if let Some((found, _)) = before.as_ref().filter(|(_, asked)| asked.elapsed() < AGE) {
            return Ok(found.clone());
        }
        let asked = Instant::now();
        let found = self.look_at_policy().await?;
        if before.is_none_or(|(before, _)| before.authors != found.authors) {
            match &found.authors {
                Authors::Checked => tracing::info!(policy = POLICY, "the API server checks who writes rules"),
                Authors::Unchecked(why) => tracing::warn!(
                    policy = POLICY,
                    why,
                    "nobody checks who writes rules: only accounts with the label are used"
                ),
            }
        }
        *self.0.policy.lock() = Some((found.clone(), asked));
        Ok(found)
    }

    async fn look_at_policy(&self) -> Result<Found, kube::Error> {
        let (mut approvers, mut silencers) = (Authors::Checked, Authors::Checked);
        let objects = [
            (
                "ValidatingAdmissionPolicy",
                "validatingadmissionpolicies",
                fault_of_policy as fn(&Value) -> Option<String>,
            ),
            ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", fault_of_binding),
        ];
        for (kind, resource, fault_of) in objects {
            let path = format!("/apis/admissionregistration.k8s.io/v1/{resource}/{POLICY}");
            let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
            let fault = match self.own().request::<Value>(request).await {
                Ok(object) => {
                    if resource == "validatingadmissionpolicies" {
                        let checked = |fault: Option<String>| match fault {
                            Some(why) => Authors::Unchecked(not_ours(kind, &why)),
                            None => Authors::Checked,
                        };
                        approvers = checked(fault_of_approval(&object["spec"]));
                        silencers = checked(fault_of_silencing(&object["spec"]));
                    }
                    fault_of(&object["spec"]).map(|why| not_ours(kind, &why))
                }
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    Some(format!("{kind} {POLICY} does not exist"))
                }
                Err(kube::Error::Api(status)) if status.is_forbidden() => {
                    Some(format!("signalbox itself may not read {kind} {POLICY}"))
                }
                Err(error) => return Err(error),
            };
            if let Some(why) = fault {
                let none = Authors::Unchecked(why);
                return Ok(Found { authors: none.clone(), approvers: none.clone(), silencers: none });
            }
        }
        Ok(Found { authors: Authors::Checked, approvers, silencers })
    }
}

fn not_ours(kind: &str, why: &str) -> String {
    format!("{kind} {POLICY} is not as the chart makes it: {why}")
}

/// Why the policy does not check everybody who approves.
pub fn fault_of_approval(spec: &Value) -> Option<String> {
    fault_of_policy(spec).or_else(|| {
        (!has(spec, APPROVAL_EXPRESSION)).then(|| "no validation has the expression for approvals".to_owned())
    })
}

/// Why the policy does not check everybody who silences a rule.
pub fn fault_of_silencing(spec: &Value) -> Option<String> {
    fault_of_policy(spec).or_else(|| {
        (!has(spec, SILENCE_EXPRESSION)).then(|| "no validation has the expression for silences".to_owned())
    })
}

/// Why the policy does not check every author.
pub fn fault_of_policy(spec: &Value) -> Option<String> {
    // A policy that fails open is one that can be made to fail.
    if spec["failurePolicy"].as_str().is_some_and(|policy| policy != "Fail") {
        return Some(format!("failurePolicy is {}", spec["failurePolicy"]));
    }
    const KNOWN: [&str; 5] = ["failurePolicy", "matchConstraints", "validations", "variables", "auditAnnotations"];
    if let Some(field) = other_than(&KNOWN, spec) {
        return Some(format!("it has {field}"));
    }
    let constraints = &spec["matchConstraints"];
    if let Some(field) = other_than(&["resourceRules", "matchPolicy"], constraints) {
        return Some(format!("matchConstraints has {field}"));
    }
    let rules = list(&constraints["resourceRules"]);
    let missed = RESOURCES.iter().flat_map(|resource| OPERATIONS.map(|operation| (resource, operation)));
    for (resource, operation) in missed {
        if !rules.iter().any(|rule| matches(rule, resource, operation)) {
            return Some(format!("it does not match {operation} of {resource} whatever their names"));
        }
    }
    (!has(spec, EXPRESSION)).then(|| "no validation has its expression".to_owned())
}

fn has(spec: &Value, expression: &str) -> bool {
    let wanted = words(expression);
    let mut validations = list(&spec["validations"]).iter();
    validations.any(|validation| validation["expression"].as_str().map(words).as_ref() == Some(&wanted))
}

/// Why the binding does not put the policy in force everywhere.
pub fn fault_of_binding(spec: &Value) -> Option<String> {
    if spec["policyName"] != POLICY {
        return Some(format!("policyName is {}", spec["policyName"]));
    }
    if !list(&spec["validationActions"]).iter().any(|action| action == "Deny") {
        return Some(format!("validationActions are {}", spec["validationActions"]));
    }
    if let Some(field) = other_than(&["policyName", "validationActions", "matchResources"], spec) {
        return Some(format!("it has {field}"));
    }
    other_than(&["matchPolicy"], &spec["matchResources"]).map(|field| format!("matchResources has {field}"))
}

/// A field that is none of these and holds something: it may narrow what the policy is for. An empty selector selects everything.
fn other_than(known: &[&str], object: &Value) -> Option<String> {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    let fields = object.as_object().into_iter().flatten();
    fields.filter(|(name, value)| !known.contains(&name.as_str()) && !empty(value)).map(|(name, _)| name.clone()).next()
}

fn matches(rule: &Value, resource: &str, operation: &str) -> bool {
    const KNOWN: [&str; 5] = ["apiGroups", "apiVersions", "resources", "operations", "scope"];
    let has = |field: &str, wanted: &str| list(&rule[field]).iter().any(|one| one == wanted || one == "*");
    other_than(&KNOWN, rule).is_none()
        && has("apiGroups", api::GROUP)
        && has("apiVersions", "*")
        && has("resources", resource)
        && has("operations", operation)
        && matches!(rule["scope"].as_str(), None | Some("*" | "Namespaced"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The text without what line breaks and indentation make of it.
fn words(expression: &str) -> String {
    expression.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub(crate) mod tests;
