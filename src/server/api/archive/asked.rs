//! What is asked of the archive.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use percent_encoding::percent_decode_str;

use super::Refusal;
use crate::event::WatchKey;

/// Scopes and EventSources that are asked for at once, at most: a rule has at most 16 sources, of some namespaces each.
const MOST: usize = 256;

/// What of the archive is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// What was recorded so long ago, or later.
    pub(super) seconds: i64,
    /// Kinds, each in a namespace or everywhere.
    pub(super) watches: BTreeSet<WatchKey>,
    /// Names of EventSources.
    pub(super) sources: BTreeSet<String>,
    /// Whether events of rules of the namespace are.
    pub(super) rules: bool,
}

impl Asked {
    /// Reads the query; what it does not know is refused.
    pub(super) fn read(query: Option<&str>) -> Result<Self, Refusal> {
        let mut asked = Self { seconds: 0, watches: BTreeSet::new(), sources: BTreeSet::new(), rules: false };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| refusal(pair))?;
            match key {
                "since" => {
                    asked.seconds = value.parse().ok().filter(|seconds| *seconds > 0).ok_or_else(|| refusal(pair))?
                }
                "of" => drop(asked.watches.insert(watch(&value).ok_or_else(|| refusal(pair))?)),
                "source" if !value.is_empty() => drop(asked.sources.insert(value.into_owned())),
                "rules" if value == "true" => asked.rules = true,
                _ => return Err(refusal(pair)),
            }
        }
        if asked.seconds == 0 {
            return Err(refusal("no since"));
        }
        if asked.watches.len() + asked.sources.len() > MOST {
            return Err(Refusal(
                StatusCode::BAD_REQUEST,
                format!("more than {MOST} kinds, namespaces and EventSources are asked for at once"),
            ));
        }
        Ok(asked)
    }
}

/// `apps/v1/Deployment@shop`, `v1/Node@*`.
fn watch(text: &str) -> Option<WatchKey> {
    let (kind, namespace) = text.split_once('@')?;
    let (api_version, kind) = kind.rsplit_once('/')?;
    let namespace = (namespace != "*").then(|| namespace.to_owned());
    let empty = api_version.is_empty() || kind.is_empty() || namespace.as_deref() == Some("");
    (!empty).then(|| WatchKey { api_version: api_version.to_owned(), kind: kind.to_owned(), namespace })
}

fn refusal(pair: &str) -> Refusal {
    let how = "since=SECONDS, 1 or more, which must be there, of=APIVERSION/KIND@NAMESPACE, with * for all namespaces, source=EVENTSOURCE nor rules=true";
    Refusal(StatusCode::BAD_REQUEST, format!("{pair:?} is neither {how}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_event_sources_are_asked_for_and_what_is_not_known_is_refused() {
        let asked =
            Asked::read(Some("since=60&of=apps%2Fv1%2FDeployment%40shop&of=v1/Node@*&source=git-hub&rules=true"))
                .expect("it is good");
        let watches: Vec<_> = asked.watches.iter().map(ToString::to_string).collect();
        assert_eq!((asked.seconds, watches), (60, vec!["apps/v1/Deployment@shop".to_owned(), "v1/Node@*".to_owned()]));
        assert!(asked.rules);
        assert_eq!(asked.sources.into_iter().collect::<Vec<_>>(), ["git-hub"]);
        for bad in [
            "",
            "since=0",
            "since=-1",
            "of=v1/Pod@a",
            "since=1&of=Pod@a",
            "since=1&of=v1/Pod",
            "since=1&of=v1/Pod@",
            "since=1&source=",
            "since=1&x=1",
            "since=1&rules=no",
        ] {
            assert_eq!(Asked::read(Some(bad)).expect_err(bad).0, StatusCode::BAD_REQUEST);
        }
        let many: String = (0..257).map(|number| format!("&of=v1/Pod@n{number}")).collect();
        assert_eq!(Asked::read(Some(&format!("since=1{many}"))).expect_err("too many").0, StatusCode::BAD_REQUEST);
    }
}
