//! Answers of Prometheus to an instant query, as samples.
//!
//! <https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>
//! What is no finite number is no sample: nothing is ever taken for 0.

use std::{collections::BTreeMap, fmt::Write as _};

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::json;
use crate::text::cut;

/// The `type` of samples.
pub const TYPE: &str = "dev.signalbox.sample";
/// Series of one answer: each is an event.
pub const MAX_SERIES: usize = 1_000;
/// Warnings that are kept of an answer, and characters of each.
const WARNINGS: (usize, usize) = (8, 200);
/// The label that holds the metric's name.
const NAME: &str = "__name__";
/// Bytes of a subject; one that is longer is cut, and tells itself by a digest.
const SUBJECT: usize = 1_000;

/// What a query gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Series whose value is a number.
    pub samples: Vec<Sample>,
    /// How many series had a value that is none: NaN or an infinity.
    pub no_numbers: usize,
    /// What the server says of the answer: values may be of a part of what there is.
    pub warnings: Vec<String>,
}

/// The value of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The labels; `__name__` is the metric.
    pub labels: BTreeMap<String, String>,
    /// The value, a finite number.
    pub value: f64,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not from such a server.
    #[error("the answer is not one of Prometheus: {0}")]
    Odd(String),
    /// The server has refused the query. In its own words.
    #[error("the query is refused: {0}")]
    Refused(String),
    /// The query is of another kind.
    #[error("the query gives a {0}: let it give an instant vector or a scalar, such as by rate() or last_over_time()")]
    Kind(String),
    /// The query gives too much.
    #[error("the query gives {0} series; {MAX_SERIES} are taken: aggregate them, such as by sum by (…)")]
    TooMany(usize),
}

/// Reads the body of an answer, whatever its status.
///
/// # Errors
/// When there is nothing in it that could be samples.
pub fn decode(body: &[u8]) -> Result<Answer, Fault> {
    let document = json::read(body).map_err(Fault::Odd)?;
    match document["status"].as_str() {
        Some("success") => {}
        Some("error") => {
            let words = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
            return Err(Fault::Refused(format!("{}: {}", words("errorType"), words("error"))));
        }
        _ => return Err(Fault::Odd("it has no status".to_owned())),
    }
    let result = &document["data"]["result"];
    let series = match document["data"]["resultType"].as_str() {
        Some("vector") => result.as_array().ok_or_else(|| Fault::Odd("its result is no list".to_owned()))?,
        Some("scalar") => &vec![json!({"metric": {}, "value": result})],
        Some(kind @ ("matrix" | "string")) => return Err(Fault::Kind(kind.to_owned())),
        _ => return Err(Fault::Odd("its resultType is not known".to_owned())),
    };
    if series.len() > MAX_SERIES {
        return Err(Fault::TooMany(series.len()));
    }
    let mut answer = Answer { warnings: warnings(&document["warnings"]), ..Answer::default() };
    for one in series {
        match sample(one)? {
            Some(sample) => answer.samples.push(sample),
            None => answer.no_numbers += 1,
        }
    }
    Ok(answer)
}

fn warnings(said: &Value) -> Vec<String> {
    let texts = said.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.take(WARNINGS.0).map(|text| cut(text, WARNINGS.1)).collect()
}

/// Nothing for a value that is no number. A native histogram is none, either.
fn sample(series: &Value) -> Result<Option<Sample>, Fault> {
    let odd = |why: &str| Fault::Odd(why.to_owned());
    let metric = series["metric"].as_object().ok_or_else(|| odd("a series has no labels"))?;
    let label = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    let labels: Option<BTreeMap<String, String>> = metric.iter().map(label).collect();
    let labels = labels.ok_or_else(|| odd("a label is no text"))?;
    if series.get("histogram").is_some() {
        return Ok(None);
    }
    let text = series["value"][1].as_str().ok_or_else(|| odd("a series has no value"))?;
    let value: f64 = text.parse().map_err(|_| odd("a value is no number"))?;
    Ok(value.is_finite().then_some(Sample { labels, value }))
}

impl Sample {
    /// The series as PromQL writes it: `up{job="web"}`; nothing for one without labels.
    pub fn series(&self) -> Option<String> {
        if self.labels.is_empty() {
            return None;
        }
        let mut text = self.labels.get(NAME).cloned().unwrap_or_default();
        let mut between = '{';
        for (name, value) in self.labels.iter().filter(|(name, _)| *name != NAME) {
            // Writing into a text cannot fail.
            let _ = write!(text, "{between}{name}={value:?}");
            between = ',';
        }
        if between == ',' {
            text.push('}');
        }
        if text.len() <= SUBJECT {
            return Some(text);
        }
        let digest = HEXLOWER.encode(&Sha256::digest(&text)[..8]);
        Some(format!("{}…{digest}", text.chars().take(SUBJECT / 8).collect::<String>()))
    }

    /// What `event.data` is.
    pub fn data(&self, query: &str, warnings: &[String]) -> Value {
        let mut data = json!({"value": self.value, "labels": self.labels, "query": query});
        if !warnings.is_empty() {
            data["warnings"] = warnings.into();
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers of tests/payloads, by name.
    fn answer(name: &str) -> Result<Answer, Fault> {
        let all = include_str!("../../tests/payloads/prometheus-responses.yaml");
        let all: Value = serde_saphyr::from_str(all).expect("YAML");
        let one = all.as_array().expect("a list").iter().find(|one| one["name"] == name).expect(name);
        decode(one["body"].as_str().expect("a body").as_bytes())
    }

    #[test]
    fn what_is_no_number_is_no_sample_and_never_zero() {
        assert_eq!(answer("empty vector"), Ok(Answer::default()));
        for name in ["NaN", "plus infinity"] {
            assert_eq!(answer(name), Ok(Answer { no_numbers: 1, ..Answer::default() }), "{name}");
        }
    }

    #[test]
    fn each_series_is_a_sample_and_warnings_are_told() {
        let two = answer("two series where one is expected").expect("samples").samples;
        let told: Vec<(Option<String>, f64)> = two.iter().map(|sample| (sample.series(), sample.value)).collect();
        assert_eq!(told, [(Some("{q=\"a\"}".to_owned()), 3.0), (Some("{q=\"b\"}".to_owned()), 9000.0)]);
        let warned = answer("warnings beside a result").expect("a sample");
        assert_eq!(
            (warned.samples[0].value, warned.warnings.as_slice()),
            (0.0, &["some store did not answer".to_owned()][..])
        );
        assert_eq!(warned.samples[0].data("q", &warned.warnings)["warnings"], json!(["some store did not answer"]));
    }

    #[test]
    fn what_a_proxy_or_an_error_says_is_no_answer() {
        let said = answer("error inside 422").expect_err("refused").to_string();
        assert_eq!(said, "the query is refused: execution: found duplicate series for the match group");
        assert!(matches!(answer("html from a proxy"), Err(Fault::Odd(_))));
        let matrix = br#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        assert_eq!(decode(matrix), Err(Fault::Kind("matrix".to_owned())));
        for odd in [
            &b"{}"[..],
            b"[]",
            br#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}}"#,
        ] {
            assert!(matches!(decode(odd), Err(Fault::Odd(_))));
        }
        let one = json!({"metric": {}, "value": [1, "1"]});
        let many = json!({"status": "success", "data": {"resultType": "vector", "result": vec![one; MAX_SERIES + 1]}});
        assert_eq!(decode(many.to_string().as_bytes()), Err(Fault::TooMany(MAX_SERIES + 1)));
    }

    #[test]
    fn long_series_stay_apart() {
        let of = |end: &str| Sample { labels: [("a".to_owned(), "x".repeat(5_000) + end)].into(), value: 1.0 }.series();
        let (one, two) = (of("1").expect("a series"), of("2").expect("a series"));
        assert!(one != two && one.len() < 1_000, "{one}");
        let up = Sample { labels: [(NAME.to_owned(), "up".to_owned())].into(), value: 1.0 };
        assert_eq!(up.series().as_deref(), Some("up"));
    }
}
