//! Lists come in pages: `limit` says how much, `continue` where to go on.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Refusal;
use crate::record::Position;

/// Entries of a page when nothing is said.
const USUAL: usize = 50;
/// Entries of a page at most: about 4 KiB each are read, and some hundred bytes told.
const MOST: usize = 200;

/// What of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) limit: usize,
    /// Letters of firings that ended before this.
    pub(super) before: Option<Position>,
}

impl Page {
    /// Reads the query; what it does not know is refused.
    pub(super) fn read(query: Option<&str>) -> Result<Self, Refusal> {
        let mut page = Self { limit: USUAL, before: None };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (key, value.parse::<u64>()) {
                ("limit", Ok(limit @ 1..)) => page.limit = usize::try_from(limit).unwrap_or(MOST).min(MOST),
                ("continue", Ok(position)) => page.before = Some(Position(position)),
                _ => {
                    let how =
                        format!("{pair:?} is neither limit=NUMBER, 1 or more, nor continue=WHAT THE LAST PAGE SAID");
                    return Err(Refusal(StatusCode::BAD_REQUEST, how));
                }
            }
        }
        Ok(page)
    }
}

pub(super) fn list(items: impl Iterator<Item = Value>, more: Option<Position>) -> Value {
    let mut body = json!({"items": items.collect::<Vec<_>>()});
    mark(&mut body, more);
    body
}

/// Says where the next page begins; nothing on the last.
pub(super) fn mark(body: &mut Value, more: Option<Position>) {
    if let Some(position) = more {
        body["continue"] = json!(position.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_and_what_is_not_known_is_refused() {
        let read = |query| Page::read(query).ok();
        assert_eq!(read(None), Some(Page { limit: 50, before: None }));
        assert_eq!(read(Some("limit=7&continue=12")), Some(Page { limit: 7, before: Some(Position(12)) }));
        assert_eq!(read(Some("limit=100000")).map(|page| page.limit), Some(200));
        for query in ["limit=0", "limit=-1", "limit", "continue=", "page=2"] {
            assert_eq!(read(Some(query)), None, "{query}");
        }
    }
}
