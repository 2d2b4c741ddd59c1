//! The kubectl plug-in `kubectl signalbox`: a file for each subcommand.
//!
//! It works with the user's own kubeconfig. What it shows comes from the operator, which is shown a token of the rule's account: who may make that
//! token may see what the rule saw. It knows neither the log nor the engine.

mod deadletters;
mod history;
mod replay;
mod table;
mod trace;
mod way;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use http::Uri;
use serde_json::Value;

use way::Way;

/// Looks into what the rules of a namespace did, and runs again what failed.
#[derive(Debug, Parser)]
#[command(name = "kubectl-signalbox", bin_name = "kubectl signalbox", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    shared: Shared,
}

/// What all subcommands take.
#[derive(Debug, Args)]
struct Shared {
    /// Namespace of the rules; default: the kubeconfig's.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Namespace that the operator is installed in: it is reached through the API server, as Service `signalbox`.
    #[arg(long, global = true, default_value = "signalbox-system")]
    operator_namespace: String,
    /// Reach the operator at this address instead, as `http://127.0.0.1:8080` behind `kubectl port-forward`.
    #[arg(long, global = true)]
    address: Option<Uri>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Columns, as kubectl prints them.
    Table,
    /// All of it, as JSON.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List firings that failed for good and are kept, newest first.
    #[command(name = "deadletters", alias = "dead-letters")]
    DeadLetters {
        /// Only those of this rule.
        rule: Option<String>,
    },
    /// Run a dead letter again: with the rule as it is now, what was done left alone.
    Replay {
        /// The rule.
        rule: String,
        /// The firing, as `deadletters` lists it.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        firing: Option<String>,
        /// All dead letters of the rule, oldest first.
        #[arg(long)]
        all: bool,
    },
    /// List what is known of a rule's firings, newest first: those under way, the last ones, dead letters.
    History {
        /// The rule.
        rule: String,
    },
    /// Show a firing as a tree: event, rule, firing, steps, objects.
    Trace {
        /// The firing.
        firing: String,
        /// Its rule; otherwise the rules of the namespace are gone through.
        #[arg(long)]
        rule: Option<String>,
    },
}

/// Does what the command line asks for, and prints it.
///
/// # Errors
/// Why it could not be done, with what to do.
pub fn main(cli: Cli) -> anyhow::Result<()> {
    // Whoever comes first decides in rustls; without this line a dependency could bring another provider along.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let printed = runtime.block_on(async {
        let Cli { command, shared } = cli;
        let way = Way::open(&shared).await?;
        match command {
            Command::DeadLetters { rule } => deadletters::run(&way, rule.as_deref(), shared.output).await,
            Command::Replay { rule, firing, .. } => replay::run(&way, &rule, firing.as_deref(), shared.output).await,
            Command::History { rule } => history::run(&way, &rule, shared.output).await,
            Command::Trace { firing, rule } => trace::run(&way, &firing, rule.as_deref(), shared.output).await,
        }
    })?;
    print!("{printed}");
    Ok(())
}

fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn one_firing_is_run_again_or_all() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(parse("x replay web 0123") && parse("x replay web --all -n shop -o json"));
        assert!(!parse("x replay web") && !parse("x replay web 0123 --all"));
    }
}
