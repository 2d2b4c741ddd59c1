//! `kubectl signalbox test`: rules on cases, offline.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    End, Output, files,
    junit::{self, TestCase},
};
use crate::{
    manifest::{Finding, Place},
    trial::{self, Cases, Said, Unlike, Verdict},
};

/// Lines about what happened in a case that failed.
const LINES: usize = 20;

/// Runs all cases of all files.
pub(super) fn run(rules: &[PathBuf], cases: &[PathBuf], namespace: &str, output: Output) -> anyhow::Result<End> {
    let rules = match files::rules(rules, namespace)? {
        Ok(rules) => rules,
        Err(end) => return Ok(end),
    };
    let (mut verdicts, mut faults) = (Vec::new(), Vec::new());
    for files::Text { name, text } in files::texts(cases)? {
        let of_file = match Cases::read(&text) {
            Ok(of_file) => of_file,
            Err(error) => {
                faults.push(error.finding(&name));
                continue;
            }
        };
        if of_file.cases.is_empty() {
            let place = Place { line: 1, column: 1 };
            let (path, message) = (String::new(), "there is no case in it".to_owned());
            faults.push(Finding { file: name.clone(), place, path, message });
        }
        let folder = Path::new(&name).parent().map(Path::to_path_buf).unwrap_or_default();
        let load = |file: &Path| files::documents(&folder.join(file)).map_err(|finding| finding.to_string());
        for case in &of_file.cases {
            match trial::run(case, &rules, &load) {
                Ok(verdict) => verdicts.push((name.clone(), verdict)),
                Err(error) => faults.push(Finding {
                    file: name.clone(),
                    place: error.place,
                    path: case.value.name.clone(),
                    message: error.message,
                }),
            }
        }
    }
    if !faults.is_empty() {
        return Ok(End::bad_input(&faults));
    }
    let printed = match output {
        Output::Table => table(&verdicts),
        Output::Json => super::json(&json!({"cases": verdicts.iter().map(as_json).collect::<Vec<_>>()})),
        Output::Junit => junit::document("signalbox", &verdicts.iter().map(as_junit).collect::<Vec<_>>()),
    };
    Ok(if verdicts.iter().all(|(_, verdict)| verdict.faults.is_empty()) {
        End::Good(printed)
    } else {
        End::Bad(printed)
    })
}

fn as_json((file, verdict): &(String, Verdict)) -> serde_json::Value {
    let faults: Vec<String> = verdict.faults.iter().map(|unlike| told(file, unlike)).collect();
    json!({"name": verdict.name, "file": file, "line": verdict.place.line, "passed": faults.is_empty(), "faults": faults})
}

fn as_junit((file, verdict): &(String, Verdict)) -> TestCase {
    let failure = (!verdict.faults.is_empty()).then(|| why(file, verdict));
    TestCase { name: verdict.name.clone(), file: file.clone(), line: verdict.place.line, failure }
}

fn table(verdicts: &[(String, Verdict)]) -> String {
    let mut printed = String::new();
    for (file, verdict) in verdicts {
        if verdict.faults.is_empty() {
            let _ = writeln!(printed, "ok    {}", verdict.name);
        } else {
            let _ = writeln!(printed, "FAIL  {} ({file}:{})", verdict.name, verdict.place.line);
            for line in why(file, verdict).lines() {
                let _ = writeln!(printed, "      {line}");
            }
        }
    }
    let failed = verdicts.iter().filter(|(_, verdict)| !verdict.faults.is_empty()).count();
    let _ = writeln!(printed, "{} cases, {failed} failed", verdicts.len());
    printed
}

fn why(file: &str, verdict: &Verdict) -> String {
    let mut text: String = verdict.faults.iter().map(|unlike| told(file, unlike)).collect();
    if !verdict.said.is_empty() {
        text += "what happened:\n";
        for said in verdict.said.iter().take(LINES) {
            text += &line(said);
        }
        if verdict.said.len() > LINES {
            let _ = writeln!(text, "  ... and {} more", verdict.said.len() - LINES);
        }
    }
    text
}

pub(super) fn line(Said { at, text, .. }: &Said) -> String {
    format!("  {:<8} {text}\n", trial::elapsed(*at).to_string())
}

fn told(file: &str, unlike: &Unlike) -> String {
    let at = |place: &Place| format!("{file}:{}:{}", place.line, place.column);
    match unlike {
        Unlike::Differs { number, place, differences } => {
            let mut text = format!("firing {number} ({}):\n", at(place));
            for difference in differences {
                let was = difference.was.as_deref().unwrap_or("not there");
                let _ =
                    writeln!(text, "  {}\n    expected {}\n    was      {was}", difference.path, difference.expected);
            }
            text
        }
        Unlike::Missing { number, place, expected } => {
            format!("firing {number} ({}) did not come:\n    expected {expected}\n", at(place))
        }
        Unlike::Unexpected { number, was } => format!("firing {number} is one too many:\n    was      {was}\n"),
        Unlike::Error(said) => format!("at {}: {}\n", trial::elapsed(said.at), said.text),
    }
}
