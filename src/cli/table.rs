//! Tables as kubectl prints them.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::text::cut;

/// Characters of a cell: `-o json` has all of it.
const WIDEST: usize = 80;

/// The rows under their headings, in columns.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([headings[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &[&str]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("   ").trim_end())
    };
    let mut printed = line(headings);
    for row in &rows {
        printed += &line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    printed
}

/// A text of others on one line: what would command a terminal is left out.
pub(super) fn plain(text: &str) -> String {
    let shown: String = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    cut(&shown, WIDEST)
}

/// A text of an answer; nothing when there is none.
pub(super) fn of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// How long ago, as kubectl tells it.
pub(super) fn age(time: &Value, now: Timestamp) -> String {
    let Some(then) = time.as_str().and_then(|time| time.parse::<Timestamp>().ok()) else { return String::new() };
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_others_do_not_command_the_terminal() {
        let rows =
            [vec!["a".to_owned(), "two\nlines\u{1b}[31m".to_owned()], vec!["longer".to_owned(), "b".repeat(100)]];
        let printed = table(&["ID", "TEXT"], &rows);
        let lines: Vec<_> = printed.lines().collect();
        assert_eq!(lines[0], "ID       TEXT");
        assert_eq!(lines[1], "a        two lines [31m");
        assert_eq!(lines[2], format!("longer   {}…", "b".repeat(79)));
    }

    #[test]
    fn ages_are_told_as_kubectl_does() {
        let now: Timestamp = "2026-11-10T12:00:00Z".parse().expect("a time");
        let ages = ["11:58:30", "11:30:00", "02:00:00"].map(|time| age(&json!(format!("2026-11-10T{time}Z")), now));
        assert_eq!(ages, ["90s", "30m", "10h"]);
        assert_eq!(age(&json!("2026-11-01T12:00:00Z"), now), "9d");
        assert_eq!(age(&json!(null), now), "");
    }
}
