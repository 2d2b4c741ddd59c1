//! The program: the command line, and the wiring of everything that runs.
//!
//! A `JoinSet` owns every task; the first that ends unasked ends the process, and a supervisor outside starts it again.

mod admission;
mod begin;
mod check;
mod control;
mod definitions;
mod gap;
mod lease;
mod otlp;
mod pace;
mod run;
mod webhooks;

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    config::{Cli, Command},
    telemetry,
};

/// Runs what the command line asks for.
///
/// # Errors
/// Whatever ends the program.
pub fn main(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Some(Command::Crds { kind }) => definitions::print(kind),
        Some(Command::Check { url, timeout }) => block_on(check::run(&url, timeout)),
        None => {
            telemetry::logs::init(cli.settings.log_format, &cli.settings.log_filter)?;
            block_on(run::run(cli.settings))
        }
    }
}

/// Threads that poll tasks, at most. The shard is one task and everything else waits for others, so more of them would only hold a stack and a part of the
/// heap each, on a machine of 64 processors 64 times. Fewer where the process may use fewer processors.
const WORKERS: usize = 4;

/// How long the end of the process waits for threads that still work.
const GOODBYE: Duration = Duration::from_secs(5);

fn block_on(doing: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // Whoever comes first decides in rustls; without this line a dependency could bring another provider along.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let workers = std::thread::available_parallelism().map_or(1, |processors| processors.get().min(WORKERS));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let done = runtime.block_on(doing);
    // What still says goodbye to a broker in a thread of its own is not waited for longer.
    runtime.shutdown_timeout(GOODBYE);
    done
}
