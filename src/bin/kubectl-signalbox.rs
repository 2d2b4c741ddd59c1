//! The kubectl plug-in.

use std::process::ExitCode;

use clap::Parser as _;
use signalbox::cli::{self, Cli};

fn main() -> ExitCode {
    cli::main(Cli::parse())
}
