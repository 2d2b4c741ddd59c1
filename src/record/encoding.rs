//! Records as bytes: a format byte, then JSON.
//!
//! JSON keeps every digit of 64-bit integers, can be read by a person with a hex dump, and takes new fields without a new
//! format. The frame (length, checksum, position, stamp) is the log's own business.

use std::io;

use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter};

use super::Record;
use crate::event::MAX_LEVELS;

/// The format byte that this version writes. Format 1 is the same without decisions that count, format 2 without what is about own writes,
/// format 3 without replays, format 4 without what is due, format 5 without what `dedupe` lets through, what a breaker
/// observes, the switch for all rules, chains of rules, and what is undone and given back, format 6 without silences. A reader refuses later ones
/// loudly.
pub const FORMAT: u8 = 7;

/// Levels of a record's JSON, [`MAX_LEVELS`] of what others gave and ten around it. Readers take 127; the view's rows, which hold parts of records, have a few
/// more around them.
const LEVELS: usize = MAX_LEVELS + 10;

/// Why a record is not written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// What is nested deeper could not be read again, and then no start would get past it.
    #[error("the record is nested deeper than {LEVELS} levels")]
    TooDeep,
    /// A map has keys that are not strings; no record has such.
    #[error("encode record: {0}")]
    Json(#[from] serde_json::Error),
}

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A newer or older version wrote it.
    #[error(
        "record format {0} is none of 1 to {FORMAT}: a newer version of signalbox wrote it; start the version that wrote it, or a newer one"
    )]
    Format(u8),
    /// No bytes at all.
    #[error("record is empty")]
    Empty,
    /// The JSON does not fit the types.
    #[error("decode record: {0}")]
    Json(#[from] serde_json::Error),
}

/// Appends the record's bytes to `out`.
///
/// # Errors
/// When it is nested too deep.
pub fn encode(record: &Record, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.push(FORMAT);
    let written = record.serialize(&mut serde_json::Serializer::with_formatter(out, Shallow { levels: 0 }));
    written.map_err(|error| if error.is_io() { EncodeError::TooDeep } else { EncodeError::Json(error) })
}

/// Writes without spaces, and no deeper than [`LEVELS`]: bytes in memory give no other I/O error.
struct Shallow {
    levels: usize,
}

impl Shallow {
    fn deeper(&mut self) -> io::Result<()> {
        self.levels += 1;
        if self.levels > LEVELS { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) }
    }
}

impl Formatter for Shallow {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.deeper()?;
        CompactFormatter.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.levels -= 1;
        CompactFormatter.end_array(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.deeper()?;
        CompactFormatter.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.levels -= 1;
        CompactFormatter.end_object(writer)
    }
}

/// Whether bytes that [`encode`] wrote are an event, without reading them.
pub fn is_event(bytes: &[u8]) -> bool {
    bytes.get(1..).is_some_and(|json| json.starts_with(br#"{"Event":"#))
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// When the bytes are of another format or no record.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    match bytes.split_first() {
        None => Err(DecodeError::Empty),
        Some((1..=FORMAT, json)) => Ok(serde_json::from_slice(json)?),
        Some((&other, _)) => Err(DecodeError::Format(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Decision, RuleUid, SourceRef, SuppressedReason};

    #[test]
    fn what_is_encoded_is_decoded() {
        let record =
            Record::Baseline(SourceRef { rule: RuleUid("u".into()), generation: 3, source: "crash".to_owned() });
        let mut bytes = Vec::new();
        encode(&record, &mut bytes).expect("encode");
        assert_eq!(decode(&bytes).expect("decode"), record);
    }

    #[test]
    fn what_an_earlier_version_wrote_is_read() {
        let json =
            br#"{"Judgement":{"input":7,"decisions":[{"Suppressed":{"rule":"u","group":"g","reason":"Cooldown"}}]}}"#;
        let record = decode(&[&[1], &json[..]].concat()).expect("decode");
        let Record::Judgement(judgement) = record else { panic!("{record:?}") };
        let suppressed = Decision::Suppressed {
            rule: RuleUid("u".into()),
            group: "g".into(),
            reason: SuppressedReason::Cooldown,
            occurrence: None,
        };
        assert_eq!(judgement.decisions, [suppressed]);
    }

    #[test]
    fn another_format_is_refused_by_number() {
        let error = decode(&[9, b'{', b'}']).expect_err("format 9");
        assert!(error.to_string().contains("format 9"), "{error}");
        assert!(matches!(decode(&[]), Err(DecodeError::Empty)));
    }
}
