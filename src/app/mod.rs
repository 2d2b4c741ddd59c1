//! The wiring.

use crate::{
    api,
    config::{Cli, Command, Kind},
};

/// Runs what the command line asks for.
///
/// # Errors
/// Whatever ends the program.
pub fn main(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Some(Command::Crds { kind }) => print_definitions(kind),
        None => anyhow::bail!("not yet"),
    }
}

/// Prints the definitions as YAML documents.
fn print_definitions(kind: Option<Kind>) -> anyhow::Result<()> {
    let wanted = |name: &str| match kind {
        None => true,
        Some(Kind::EventRule) => name == "EventRule",
        Some(Kind::EventSink) => name == "EventSink",
    };
    let definitions = api::custom_resource_definitions();
    let chosen: Vec<_> = definitions.iter().filter(|one| wanted(&one.spec.names.kind)).collect();
    for (index, definition) in chosen.iter().enumerate() {
        if index > 0 {
            println!("---");
        }
        print!("{}", serde_saphyr::to_string(definition)?);
    }
    Ok(())
}
