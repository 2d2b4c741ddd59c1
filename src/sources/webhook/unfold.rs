//! Bodies that were compressed. What they unfold to is counted while it does: a small body can hold a large one.

use std::{borrow::Cow, io::Read as _};

use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};

use super::Refusal;

/// The body as it was before it was compressed, of at most `max` bytes.
pub(super) fn unfold<'b>(headers: &HeaderMap, body: &'b [u8], max: usize) -> Result<Cow<'b, [u8]>, Refusal> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let encoding = match (encodings.next(), encodings.next()) {
        (None, _) => return Ok(Cow::Borrowed(body)),
        (Some(encoding), None) => encoding.as_bytes().to_ascii_lowercase(),
        _ => return Err(unsupported()),
    };
    match encoding.as_slice() {
        b"" | b"identity" => Ok(Cow::Borrowed(body)),
        b"gzip" | b"x-gzip" => {
            let mut plain = Vec::new();
            // One more than allowed: what has more is not unfolded further.
            let read = MultiGzDecoder::new(body).take(max as u64 + 1).read_to_end(&mut plain);
            match read {
                Ok(_) if plain.len() > max => Err(too_large(max)),
                Ok(_) => Ok(Cow::Owned(plain)),
                Err(_) => Err(Refusal::Malformed("the body is no gzip".to_owned())),
            }
        }
        _ => Err(unsupported()),
    }
}

pub(super) fn too_large(max: usize) -> Refusal {
    Refusal::TooLarge(format!("the body is larger than {max} bytes"))
}

fn unsupported() -> Refusal {
    Refusal::Unsupported("the content encoding is not taken: send gzip, or none".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use http::HeaderValue;

    use super::*;

    fn encoded(encoding: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_str(encoding).expect("a value"))])
    }

    fn gzip(zeros: usize) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let part = vec![0; 1 << 20];
        for at in (0..zeros).step_by(part.len()) {
            encoder.write_all(&part[..part.len().min(zeros - at)]).expect("memory");
        }
        encoder.finish().expect("memory")
    }

    #[test]
    fn what_unfolds_to_more_than_allowed_is_too_large_however_small_it_was() {
        assert_eq!(unfold(&encoded("gzip"), &gzip(1024), 1024).expect("fits").len(), 1024);
        assert_eq!(unfold(&encoded("GZIP"), &gzip(1025), 1024), Err(too_large(1024)));
        let bomb = gzip(16 << 20);
        assert!(bomb.len() < 32 << 10);
        assert_eq!(unfold(&encoded("gzip"), &bomb, 1024), Err(too_large(1024)));
        let bombs = [gzip(1000), gzip(1000)].concat();
        assert_eq!(unfold(&encoded("gzip"), &bombs, 1024), Err(too_large(1024)), "one after another");
    }

    #[test]
    fn other_encodings_and_what_is_no_gzip_are_refused() {
        assert_eq!(unfold(&HeaderMap::new(), b"x", 9).as_deref(), Ok(b"x".as_slice()));
        assert_eq!(unfold(&encoded("identity"), b"x", 9).as_deref(), Ok(b"x".as_slice()));
        for odd in ["br", "gzip, gzip"] {
            assert!(matches!(unfold(&encoded(odd), b"x", 9), Err(Refusal::Unsupported(_))), "{odd}");
        }
        let cut = gzip(1024);
        for body in [b"x".as_slice(), &cut[..cut.len() - 4], b""] {
            assert!(matches!(unfold(&encoded("gzip"), body, 2048), Err(Refusal::Malformed(_))), "{body:?}");
        }
    }
}
