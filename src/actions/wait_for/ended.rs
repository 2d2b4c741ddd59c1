//! What has failed for good, whatever is waited for: kinds of Kubernetes' own that run once.

use serde_json::Value;

/// How a Job or a Pod has failed, in words.
pub(super) fn failed(object: &Value) -> Option<String> {
    let text = |at: &Value, key: &str| at.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let words = |at: &Value| {
        let said = [text(at, "reason"), text(at, "message")].into_iter().filter(|text| !text.is_empty());
        said.collect::<Vec<_>>().join(": ")
    };
    let status = object.get("status")?;
    let why = match (object["apiVersion"].as_str()?, object["kind"].as_str()?) {
        ("batch/v1", "Job") => {
            let mut conditions = status.get("conditions")?.as_array()?.iter();
            words(conditions.find(|one| one["type"] == "Failed" && one["status"] == "True")?)
        }
        ("v1", "Pod") if status["phase"] == "Failed" => words(status),
        _ => return None,
    };
    Some(format!("it has failed: {}", if why.is_empty() { "no reason is given" } else { &why }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_or_a_pod_that_has_failed_does_not_come_back() {
        let object = |version: &str, kind: &str, status: Value| {
            failed(&json!({"apiVersion": version, "kind": kind, "status": status}))
        };
        let conditions = |status: &str| {
            json!({"conditions": [{"type": "Complete", "status": "False"},
            {"type": "Failed", "status": status, "reason": "BackoffLimitExceeded", "message": "m"}]})
        };
        let job = object("batch/v1", "Job", conditions("True"));
        assert_eq!(job.as_deref(), Some("it has failed: BackoffLimitExceeded: m"));
        assert_eq!(object("batch/v1", "Job", conditions("False")), None);
        assert_eq!(object("e.com/v1", "Job", conditions("True")), None, "of another kind nothing is known");
        let pod = object("v1", "Pod", json!({"phase": "Failed"}));
        assert_eq!(pod.as_deref(), Some("it has failed: no reason is given"));
        assert_eq!(object("v1", "Pod", json!({"phase": "Running"})), None);
        assert_eq!(failed(&json!({"apiVersion": "v1", "kind": "Pod"})), None);
    }
}
