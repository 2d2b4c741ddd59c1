//! The operator.

use clap::Parser as _;
use signalbox::{app, config::Cli};

fn main() -> anyhow::Result<()> {
    app::main(Cli::parse())
}
