//! `cloudEvents`: an event of CloudEvents 1.0, by HTTP POST.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    BuildError, CONTENT_TYPE, Delivered, Publication, Publisher, Reach, STRUCTURED, Secrets, SinkError,
    endpoint::Endpoint,
};
use crate::api::{self, CloudEventsMode, SecretKeyRef};

/// What headers of binary mode begin with; users' own headers must not look like attributes.
const PREFIX: &str = "ce-";

/// The sink.
pub(super) struct CloudEvents {
    endpoint: Endpoint,
    mode: CloudEventsMode,
}

impl CloudEvents {
    pub(super) fn new(spec: &api::CloudEvents) -> Result<Self, BuildError> {
        let mut faults = Vec::new();
        let address = (spec.url.as_ref(), spec.url_secret_ref.as_ref());
        let endpoint = Endpoint::new("cloudEvents", address, &spec.headers, &mut faults);
        for header in &spec.headers {
            let name = header.name.to_ascii_lowercase();
            if name.starts_with(PREFIX) || name == header::CONTENT_TYPE.as_str() {
                faults.push(format!("cloudEvents.headers[{}]: signalbox itself sets this header", header.name));
            }
        }
        match endpoint {
            Some(endpoint) if faults.is_empty() => Ok(Self { endpoint, mode: spec.mode }),
            _ => Err(BuildError(faults)),
        }
    }

    fn request(&self, publication: &Publication, secrets: &Secrets) -> Result<(HeaderMap, Vec<u8>), SinkError> {
        let mut headers = self.endpoint.headers((&publication.event.id, publication.hops), secrets)?;
        if self.mode == CloudEventsMode::Structured {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(STRUCTURED));
            return Ok((headers, publication.structured()));
        }
        match publication.content_type() {
            None => headers.remove(header::CONTENT_TYPE),
            Some(content_type) => {
                let value = HeaderValue::from_str(content_type);
                headers.insert(header::CONTENT_TYPE, value.map_err(|_| odd(CONTENT_TYPE))?)
            }
        };
        for (name, value) in publication.attributes() {
            let value = HeaderValue::from_str(&encoded(&value)).map_err(|_| odd(&name))?;
            headers
                .insert(HeaderName::from_bytes(format!("{PREFIX}{name}").as_bytes()).map_err(|_| odd(&name))?, value);
        }
        Ok((headers, publication.body()))
    }
}

fn odd(attribute: &str) -> SinkError {
    SinkError::never(format!("the attribute {attribute} is no header value"))
}

impl Publisher for CloudEvents {
    fn secrets(&self) -> Vec<SecretKeyRef> {
        self.endpoint.secrets().cloned().collect()
    }

    fn check(&self, topic: Option<&str>) -> Result<(), String> {
        match topic {
            None => Ok(()),
            Some(_) => {
                Err("is of kind cloudEvents, whose address says where events go: leave publish.topic out".to_owned())
            }
        }
    }

    fn publish<'a>(
        &'a self,
        publication: &'a Publication,
        secrets: &'a Secrets,
        reach: Reach<'a>,
    ) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async move {
            let (headers, body) = self.request(publication, secrets)?;
            self.endpoint.post(reach.http, secrets, "", headers, body).await
        })
    }
}

/// A value as a header has it: space, quotes, percent and all that is not printable ASCII percent-encoded (section 3.1.3.2 of the binding).
pub(super) fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'!' | b'#' | b'$' | b'&'..=b'~' => text.push(char::from(byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests;
