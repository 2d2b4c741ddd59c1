//! Files that people name with `-f`.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::End;
use crate::{
    manifest::{Finding, Manifests, Node, Source},
    rule::Rule,
};

/// What the names of files that are read out of a folder end with.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// Bytes of a file.
const MOST: u64 = 16 << 20;

/// A file's name, as it was given, and its text.
pub(super) struct Text {
    pub(super) name: String,
    pub(super) text: String,
}

/// The files, and those of folders, in the order of their names; `-` is what comes by standard input.
pub(super) fn texts(paths: &[PathBuf]) -> anyhow::Result<Vec<Text>> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().take(MOST).read_to_string(&mut text).context("read standard input")?;
            texts.push(Text { name: "-".to_owned(), text });
        } else if path.is_dir() {
            let named = || format!("read the folder {}", path.display());
            let entries = fs::read_dir(path).with_context(named)?.collect::<Result<Vec<_>, _>>().with_context(named)?;
            let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
            let ends = |file: &PathBuf| file.extension().is_some_and(|end| ENDINGS.iter().any(|known| end == *known));
            files.retain(|file| ends(file) && file.is_file());
            files.sort();
            if files.is_empty() {
                bail!("the folder {} has no file that ends with .yaml, .yml or .json", path.display());
            }
            for file in files {
                texts.push(text(&file)?);
            }
        } else {
            texts.push(text(path)?);
        }
    }
    Ok(texts)
}

pub(super) fn text(path: &Path) -> anyhow::Result<Text> {
    let named = || format!("read {}", path.display());
    let size = fs::metadata(path).with_context(named)?.len();
    if size > MOST {
        bail!("{} has {size} bytes; {MOST} are read", path.display());
    }
    Ok(Text { name: path.display().to_string(), text: fs::read_to_string(path).with_context(named)? })
}

/// The rules in the files, and what is wrong with them.
pub(super) fn manifests(paths: &[PathBuf], namespace: &str) -> anyhow::Result<Manifests> {
    let mut manifests = Manifests::default();
    for Text { name, text } in texts(paths)? {
        manifests.read(&name, &text, namespace);
    }
    Ok(manifests)
}

/// The rules in the files, all without fault; otherwise what is wrong, to be printed.
pub(super) fn rules(paths: &[PathBuf], namespace: &str) -> anyhow::Result<Result<Vec<Arc<Rule>>, End>> {
    let manifests = manifests(paths, namespace)?;
    if !manifests.faults.is_empty() {
        return Ok(Err(End::bad_input(&manifests.faults)));
    }
    if manifests.rules.is_empty() {
        bail!("there is no EventRule in the files");
    }
    Ok(Ok(manifests.rules.into_iter().map(|manifest| manifest.rule).collect()))
}

/// The one rule that is meant.
pub(super) fn one<'r>(rules: &'r [Arc<Rule>], name: Option<&str>) -> anyhow::Result<&'r Arc<Rule>> {
    let known = || crate::text::join(rules.iter().map(|rule| rule.rule.to_string()));
    match (name, rules) {
        (None, [only]) => Ok(only),
        (None, _) => bail!("say which rule with --rule: there are {}", known()),
        (Some(name), _) => {
            let is = |rule: &&Arc<Rule>| rule.rule.to_string() == name || rule.rule.name == name;
            rules.iter().find(is).with_context(|| format!("there is no rule {name}: there are {}", known()))
        }
    }
}

/// The documents of a file, as JSON.
pub(super) fn documents(path: &Path) -> Result<Vec<Value>, Finding> {
    let Text { name, text } = text(path).map_err(|error| Finding {
        file: path.display().to_string(),
        place: crate::manifest::Place { line: 1, column: 1 },
        path: String::new(),
        message: format!("{error:#}"),
    })?;
    let documents = Source::new(&name, &text).documents().map_err(|error| error.finding(&name))?;
    Ok(documents.iter().map(Node::json).collect())
}

/// Bytes of a dump of events.
const MOST_OF_DUMP: u64 = 1 << 30;

/// The values of a dump: one on each line, or one in all.
pub(super) fn dump(path: &Path) -> anyhow::Result<Vec<Value>> {
    let named = || format!("read {}", path.display());
    let size = fs::metadata(path).with_context(named)?.len();
    if size > MOST_OF_DUMP {
        bail!("{} has {size} bytes; {MOST_OF_DUMP} are read", path.display());
    }
    let text = fs::read_to_string(path).with_context(named)?;
    if let Ok(value) = serde_json::from_str(&text) {
        return Ok(vec![value]);
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let value = |(number, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{}:{}: no JSON", path.display(), number + 1))
    };
    lines.map(value).collect()
}
