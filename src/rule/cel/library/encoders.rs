//! `base64.encode`, `base64.decode` and `jsonpatch.escapeKey`.

use data_encoding::{BASE64, BASE64_NOPAD};

use super::{super::failure::Failure, Answer, Meter, Row, Value, mismatch};

pub(super) const ROWS: &[Row] = &[
    ("base64.encode(bytes): string", encode),
    ("base64.decode(string): bytes", decode),
    ("jsonpatch.escapeKey(string): string", escape_key),
];

fn encode<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::Bytes(bytes)] = args else { return mismatch(args) };
    meter.text(bytes.len() / 3 * 4 + 4)?;
    Ok(Value::text(BASE64.encode(bytes)))
}

/// Takes the padding, and does without it.
fn decode<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    let decoded = BASE64.decode(text.as_bytes()).or_else(|_| BASE64_NOPAD.decode(text.as_bytes()));
    decoded.map(Value::bytes).map_err(|_| Failure::of("base64.decode", "the text is not base64"))
}

/// A key as it stands in the path of a JSON patch.
fn escape_key<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    meter.text(text.len() * 2)?;
    Ok(Value::text(text.replace('~', "~0").replace('/', "~1")))
}
