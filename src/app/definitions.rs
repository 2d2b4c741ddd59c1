//! `signalbox crds`.

use crate::{api, config::Kind};

/// Prints the definitions as YAML documents.
pub(super) fn print(kind: Option<Kind>) -> anyhow::Result<()> {
    let wanted = |name: &str| match kind {
        None => true,
        Some(Kind::EventRule) => name == "EventRule",
        Some(Kind::EventSink) => name == "EventSink",
        Some(Kind::EventSource) => name == "EventSource",
    };
    let definitions = api::custom_resource_definitions();
    let chosen = definitions.iter().filter(|one| wanted(&one.spec.names.kind));
    for (index, definition) in chosen.enumerate() {
        if index > 0 {
            println!("---");
        }
        print!("{}", serde_saphyr::to_string(definition)?);
    }
    Ok(())
}
