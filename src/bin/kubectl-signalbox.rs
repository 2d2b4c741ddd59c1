//! The kubectl plug-in.

use clap::Parser as _;
use signalbox::cli::{self, Cli};

fn main() -> anyhow::Result<()> {
    cli::main(Cli::parse())
}
