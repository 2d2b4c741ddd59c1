//! The text of a file, and places in it.

use super::node::{Node, Place};
use crate::manifest::Finding;

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What it is called in faults.
    pub name: String,
    lines: Vec<String>,
    text: String,
}

/// A file is no YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
}

impl YamlError {
    /// As what is wrong with the file of this name.
    pub fn finding(self, file: &str) -> Finding {
        Finding { file: file.to_owned(), place: self.place, path: String::new(), message: self.message }
    }
}

impl From<serde_saphyr::Error> for YamlError {
    fn from(error: serde_saphyr::Error) -> Self {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let place = error.location().map(|at| Place { line: number(at.line()), column: number(at.column()) });
        let message = error.without_snippet().to_string();
        // It says the place as well.
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        Self { place: place.unwrap_or(Place { line: 1, column: 1 }), message }
    }
}

impl Source {
    /// A file of this name and content.
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), lines: text.lines().map(str::to_owned).collect(), text: text.to_owned() }
    }

    /// Its documents; empty ones are left out.
    ///
    /// # Errors
    /// When it is no YAML, or not such as JSON can say.
    pub fn documents(&self) -> Result<Vec<Node>, YamlError> {
        Ok(serde_saphyr::from_multiple::<Node>(&self.text)?)
    }

    /// The place of a line and a column of the text that the node is, both from 1. Where lines of the file are not lines of the text, that of the node.
    pub fn inside(&self, node: &Node, line: usize, column: usize) -> Place {
        let at = node.place;
        let Some(text) = node.text() else { return at };
        let written = at.line.checked_sub(1).and_then(|line| self.lines.get(line)).map(String::as_str);
        let begins = written.and_then(|line| line.chars().nth(at.column.saturating_sub(1)));
        let rest: String = written.unwrap_or_default().chars().skip(at.column.saturating_sub(1)).collect();
        match begins {
            Some('|') => {
                let first = self.lines.iter().skip(at.line).find(|line| !line.trim().is_empty());
                let indent = first.map_or(0, |line| line.len() - line.trim_start().len());
                Place { line: at.line + line, column: indent + column }
            }
            Some('\'' | '"') if line == 1 && rest[1..].starts_with(text) => Place { column: at.column + column, ..at },
            Some(_) if line == 1 && rest.starts_with(text) => Place { column: at.column + column - 1, ..at },
            _ => at,
        }
    }
}
