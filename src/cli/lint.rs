//! `kubectl signalbox lint`: what is wrong with files of rules, and what is surely not meant. Offline.

use std::{fmt::Write as _, path::PathBuf};

use serde_json::json;

use super::{
    End, Output, files,
    junit::{self, TestCase},
};
use crate::manifest::{Finding, Manifests, in_order};

/// Whether warnings are faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warnings {
    /// They are told.
    Told,
    /// They are faults.
    Refused,
}

pub(super) fn run(paths: &[PathBuf], warnings: Warnings, namespace: &str, output: Output) -> anyhow::Result<End> {
    let manifests = files::manifests(paths, namespace)?;
    let warned = in_order(manifests.rules.iter().flat_map(crate::manifest::Manifest::warnings).collect());
    let faults = in_order(manifests.faults.clone());
    let printed = match output {
        Output::Table => table(&manifests, &faults, &warned),
        Output::Json => {
            let all = told(&faults, &warned).map(|(severity, one)| as_json(severity, one));
            super::json(&json!({"items": all.collect::<Vec<_>>()}))
        }
        Output::Junit => junit::document("signalbox lint", &as_junit(&manifests, &faults, &warned, warnings)),
    };
    let refused = !faults.is_empty() || (warnings == Warnings::Refused && !warned.is_empty());
    Ok(if refused { End::Bad(printed) } else { End::Good(printed) })
}

fn told<'f>(faults: &'f [Finding], warned: &'f [Finding]) -> impl Iterator<Item = (&'static str, &'f Finding)> {
    faults.iter().map(|one| ("error", one)).chain(warned.iter().map(|one| ("warning", one)))
}

fn table(manifests: &Manifests, faults: &[Finding], warned: &[Finding]) -> String {
    let mut printed = String::new();
    for (severity, finding) in told(faults, warned) {
        let _ = writeln!(printed, "{severity}: {finding}");
    }
    let (rules, errors, warnings) = (manifests.rules.len(), faults.len(), warned.len());
    let _ = writeln!(printed, "{rules} rules without error, {errors} errors, {warnings} warnings");
    printed
}

fn as_json(severity: &str, one: &Finding) -> serde_json::Value {
    let (line, column) = (one.place.line, one.place.column);
    json!({"severity": severity, "file": one.file, "line": line, "column": column, "path": one.path, "message": one.message})
}

/// A test for each rule without fault, and one for each finding.
fn as_junit(manifests: &Manifests, faults: &[Finding], warned: &[Finding], warnings: Warnings) -> Vec<TestCase> {
    let rules = manifests.rules.iter().map(|manifest| TestCase {
        name: manifest.rule.rule.to_string(),
        file: manifest.source.name.clone(),
        line: manifest.node.place.line,
        failure: None,
    });
    let warned = warned.iter().filter(|_| warnings == Warnings::Refused);
    let found = faults.iter().chain(warned).map(|one| TestCase {
        name: one.path.clone(),
        file: one.file.clone(),
        line: one.place.line,
        failure: Some(one.to_string()),
    });
    rules.chain(found).collect()
}
