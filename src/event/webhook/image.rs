//! References of container images in parts: registry, repository, tag and digest.

use serde_json::{Map, Value};

/// What a tag that is none begins with: some registries repeat the digest where a tag should be.
pub(super) const DIGEST: &str = "sha256:";

/// An image, as far as a sender names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) registry: Option<String>,
    pub(super) repository: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<String>,
}

impl Image {
    /// Reads `registry/repository`, with `:tag` and `@digest` or without. Nothing where no registry or no repository is named.
    pub(super) fn parse(reference: &str) -> Option<Self> {
        let (registry, rest) = reference.split_once('/')?;
        // Also the digest that stands where a tag should be.
        let at = rest.find('@').or_else(|| rest.find(":sha256:"));
        let (path, digest) = at.map_or((rest, None), |at| (&rest[..at], Some(&rest[at + 1..])));
        let last = path.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match path[last..].find(':') {
            Some(colon) => (&path[..last + colon], Some(&path[last + colon + 1..])),
            None => (path, None),
        };
        let some = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        (!registry.is_empty() && !repository.is_empty()).then(|| Self {
            registry: Some(registry.to_owned()),
            repository: repository.to_owned(),
            tag: some(tag),
            digest: some(digest),
        })
    }

    /// What `event.data.image` is. Parts that are not known are absent, and so is `reference` without a registry, or without both tag and digest.
    pub(super) fn json(&self) -> Value {
        let mut parts = Map::from_iter([("repository".to_owned(), self.repository.clone().into())]);
        let all = [
            ("registry", self.registry.clone()),
            ("tag", self.tag.clone()),
            ("digest", self.digest.clone()),
            ("reference", self.reference()),
        ];
        parts.extend(all.into_iter().filter_map(|(name, part)| Some((name.to_owned(), part?.into()))));
        parts.into()
    }

    /// What a container's `image` can be: with the tag where there is one, else with the digest.
    fn reference(&self) -> Option<String> {
        let (registry, repository) = (self.registry.as_ref()?, &self.repository);
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(format!("{registry}/{repository}:{tag}")),
            (None, Some(digest)) => Some(format!("{registry}/{repository}@{digest}")),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_comes_apart_at_the_right_places() {
        let cases = [
            (
                "h.example:5000/acme/pump:1.2",
                Some(("acme/pump", Some("1.2"), None, Some("h.example:5000/acme/pump:1.2"))),
            ),
            ("h.example/pump@sha256:ab", Some(("pump", None, Some("sha256:ab"), Some("h.example/pump@sha256:ab")))),
            (
                "h.example/a/b/pump:sha256:ab",
                Some(("a/b/pump", None, Some("sha256:ab"), Some("h.example/a/b/pump@sha256:ab"))),
            ),
            ("h.example/pump:1@sha256:ab", Some(("pump", Some("1"), Some("sha256:ab"), Some("h.example/pump:1")))),
            ("h.example/pump", Some(("pump", None, None, None))),
            ("pump:1", None),
            ("/pump", None),
            ("h.example/", None),
        ];
        for (reference, parts) in cases {
            let image = Image::parse(reference);
            let whole = image.as_ref().and_then(Image::reference);
            let read = image.as_ref().map(|image| {
                (image.repository.as_str(), image.tag.as_deref(), image.digest.as_deref(), whole.as_deref())
            });
            assert_eq!(read, parts, "{reference}");
        }
    }
}
