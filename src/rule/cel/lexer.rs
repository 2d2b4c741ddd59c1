//! Just enough of CEL's lexical grammar to see brackets and the ends of strings: before the parser runs, and to find the end of `${ }`.

/// A part of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// `(`, `[` or `{`
    Open(u8),
    /// `)`, `]` or `}`
    Close(u8),
    /// A string that does not end.
    Unterminated,
    /// Anything else, one byte or a whole string or comment.
    Other,
}

/// The parts with their byte offsets. Gives nothing after an unterminated string.
pub(super) fn tokens(source: &str) -> impl Iterator<Item = (usize, Token)> {
    let bytes = source.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let byte = *bytes.get(at)?;
        let token = match byte {
            b'(' | b'[' | b'{' => Token::Open(byte),
            b')' | b']' | b'}' => Token::Close(byte),
            b'"' | b'\'' => match string_end(bytes, at) {
                Some(end) => {
                    at = end;
                    return Some((start, Token::Other));
                }
                None => {
                    at = bytes.len();
                    return Some((start, Token::Unterminated));
                }
            },
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len() - at);
                return Some((start, Token::Other));
            }
            _ => Token::Other,
        };
        at += 1;
        Some((start, token))
    })
}

/// The offset behind the string that begins with the quote at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let quote = bytes[at];
    let raw = is_raw(bytes, at);
    let triple = bytes.get(at + 1) == Some(&quote) && bytes.get(at + 2) == Some(&quote);
    let mut next = at + if triple { 3 } else { 1 };
    loop {
        match *bytes.get(next)? {
            b'\\' if !raw => next += 2,
            b'\n' if !triple => return None,
            byte if byte == quote => {
                if !triple {
                    return Some(next + 1);
                }
                if bytes.get(next + 1) == Some(&quote) && bytes.get(next + 2) == Some(&quote) {
                    return Some(next + 3);
                }
                next += 1;
            }
            _ => next += 1,
        }
    }
}

/// Whether the prefix of the quote at `at` is `r`, `R`, or one with `b`.
fn is_raw(bytes: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map_or(b' ', |index| bytes[index].to_ascii_lowercase());
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match (before(1), before(2)) {
        (b'r', b'b') | (b'b', b'r') => !word(before(3)),
        (b'r', other) => !word(other),
        _ => false,
    }
}
