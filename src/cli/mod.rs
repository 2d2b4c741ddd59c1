//! The kubectl plug-in `kubectl signalbox`: a file for each subcommand.
//!
//! It works with the user's own kubeconfig. What it shows of rules in a cluster comes from the operator, which is shown a token of the rule's account: who
//! may make that token may see what the rule saw. What it tells of rules in files needs no cluster. It knows no log.

mod approve;
mod backtest;
mod deadletters;
mod explain;
mod files;
mod history;
mod junit;
mod lint;
mod rbac;
mod replay;
mod send;
mod silence;
mod table;
mod test;
mod trace;
mod way;

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use http::Uri;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::manifest::Finding;
use way::Way;

/// Tries rules before they act, looks into what those of a namespace did, and runs again what failed.
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
    /// The kubeconfig; default: what KUBECONFIG names, else `~/.kube/config`.
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; default: the current one.
    #[arg(long, global = true)]
    context: Option<String>,
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
    /// JUnit XML, of `test` and `lint`.
    Junit,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Offline(Offline),
    /// Print the Roles that the accounts of rules and EventSources in files need and no more, as YAML to apply. Needs a cluster that knows the kinds, and no operator.
    Rbac {
        /// Files or folders of rules and EventSources; `-` is standard input.
        #[arg(short, long = "filename", required = true)]
        filename: Vec<PathBuf>,
    },
    /// Tell when a rule would have fired for events that really happened, and what its limits would have held back: for those that the operator has kept, with the
    /// rule's account, or for those of files, offline.
    Backtest(backtest::Asked),
    #[command(flatten)]
    InCluster(InCluster),
}

/// What needs files only.
#[derive(Debug, Subcommand)]
enum Offline {
    /// Run rules on cases, offline and in virtual time. Exits with 0 when all pass, 1 when one fails, 2 when a file is wrong.
    Test {
        /// Files or folders of rules; `-` is standard input.
        #[arg(short, long = "filename", required = true)]
        filename: Vec<PathBuf>,
        /// Files or folders of cases.
        #[arg(long, required = true)]
        cases: Vec<PathBuf>,
    },
    /// Tell why a rule fires, or does not, for an event: each condition with the values of its parts. Offline.
    Explain {
        /// Files or folders of rules; `-` is standard input.
        #[arg(short, long = "filename", required = true)]
        filename: Vec<PathBuf>,
        /// Files of objects, Kubernetes Events or CloudEvents.
        #[arg(long = "event", required = true)]
        events: Vec<PathBuf>,
        /// Files of objects that exist: those whose labels and owners are looked up.
        #[arg(long)]
        existing: Vec<PathBuf>,
        /// The rule, where the files hold several.
        #[arg(long)]
        rule: Option<String>,
        /// The instant, as 2026-11-02T07:20:00Z; default: now.
        #[arg(long)]
        at: Option<Timestamp>,
    },
    /// Tell what is wrong with rules in files, and what is surely not meant. Offline. Exits with 0 when there is no error, 1 when there is one, 2 when a file
    /// cannot be read.
    Lint {
        /// Files or folders of rules; `-` is standard input.
        #[arg(short, long = "filename", required = true)]
        filename: Vec<PathBuf>,
        /// Take warnings for errors.
        #[arg(long)]
        strict: bool,
    },
}

/// What is asked of the operator.
#[derive(Debug, Subcommand)]
enum InCluster {
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
    /// Approve a step that waits for it, or deny it: what comes after it in the firing is done, or not.
    Approve {
        /// The rule.
        rule: String,
        /// The firing, as `status.recent` of the rule and its Kubernetes Event `ApprovalNeeded` name it.
        firing: String,
        /// The action that waits, where the rule's status does not show it.
        #[arg(long)]
        action: Option<String>,
        /// Deny it.
        #[arg(long)]
        deny: bool,
    },
    /// Silence rules for a time: what they fire for is counted and not acted upon. What has an end is told all the same, and what lasts when the silence is
    /// over is fired for then.
    Silence(silence::Silencing),
    /// Test an EventSink: send it a notification that says that it is a test, and tell what it answered.
    TestSink(send::Testing),
    /// Send a notification of your own, or an event, to an EventSink, as a rule would.
    Send(send::Sending),
    /// Show a firing as a tree: event, rule, firing, steps, objects.
    Trace {
        /// The firing.
        firing: String,
        /// Its rule; otherwise the rules of the namespace are gone through.
        #[arg(long)]
        rule: Option<String>,
    },
}

/// How a subcommand ended.
enum End {
    /// As it should; to be printed.
    Good(String),
    /// It did what it should, and what it found is not good.
    Bad(String),
    /// A file is wrong; to be told.
    BadInput(String),
}

impl End {
    fn bad_input(findings: &[Finding]) -> Self {
        let mut text = String::new();
        for finding in findings {
            let _ = writeln!(text, "{finding}");
        }
        Self::BadInput(text)
    }
}

/// Does what the command line asks for, and prints it. Ends with 0; with 1 when something failed or was found; with 2 when a file is wrong.
pub fn main(cli: Cli) -> ExitCode {
    match run(cli) {
        Ok(End::Good(printed)) => {
            print!("{printed}");
            ExitCode::SUCCESS
        }
        Ok(End::Bad(printed)) => {
            print!("{printed}");
            ExitCode::from(1)
        }
        Ok(End::BadInput(told)) => {
            eprint!("{told}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {}", told(&error));
            ExitCode::from(1)
        }
    }
}

/// An error with its causes. The words of a cause are often in those of the error already: they are said once.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        // Of an answer kube tells all the fields; what the API server says is enough.
        let answer = match cause.downcast_ref() {
            Some(kube::Error::Api(status)) if !status.message.is_empty() => Some(&status.message),
            _ => None,
        };
        let words = answer.cloned().unwrap_or_else(|| cause.to_string());
        if !text.contains(&words) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&words);
        }
        if answer.is_some() {
            break;
        }
    }
    text
}

fn run(cli: Cli) -> anyhow::Result<End> {
    let Cli { command, shared } = cli;
    if let Command::Offline(command) = &command {
        return Ok(of_input(offline(command, &shared)));
    }
    if shared.output == Output::Junit {
        anyhow::bail!("-o junit is for test and lint");
    }
    if let Command::Backtest(asked) = &command
        && asked.since.is_none()
    {
        let here = shared.namespace.as_deref().unwrap_or("default");
        return Ok(of_input(backtest::run(asked, here, shared.output)));
    }
    // Whoever comes first decides in rustls; without this line a dependency could bring another provider along.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    match command {
        Command::Rbac { filename } => runtime.block_on(rbac::run(&filename, &shared)),
        Command::Backtest(asked) => runtime.block_on(backtest::run_on_archive(&asked, &shared)),
        Command::InCluster(command) => runtime.block_on(in_cluster(command, shared)).map(End::Good),
        Command::Offline(command) => offline(&command, &shared),
    }
}

/// What is wrong with a command that needs files only is wrong with what was given.
fn of_input(end: anyhow::Result<End>) -> End {
    end.unwrap_or_else(|error| End::BadInput(format!("error: {}\n", told(&error))))
}

fn offline(command: &Offline, shared: &Shared) -> anyhow::Result<End> {
    // Without the kubeconfig, so that it is the same everywhere.
    let (here, output) = (shared.namespace.as_deref().unwrap_or("default"), shared.output);
    match command {
        Offline::Test { filename, cases } => test::run(filename, cases, here, output),
        Offline::Lint { filename, strict } => {
            let warnings = if *strict { lint::Warnings::Refused } else { lint::Warnings::Told };
            lint::run(filename, warnings, here, output)
        }
        Offline::Explain { .. } if output == Output::Junit => {
            anyhow::bail!("-o junit is for test and lint")
        }
        Offline::Explain { filename, events, existing, rule, at } => {
            let (rules, rule, now) = (filename.as_slice(), rule.as_deref(), *at);
            explain::run(&explain::Question { rules, rule, events, existing, now }, here, output)
        }
    }
}

async fn in_cluster(command: InCluster, shared: Shared) -> anyhow::Result<String> {
    let way = Way::open(&shared).await?;
    match command {
        InCluster::DeadLetters { rule } => deadletters::run(&way, rule.as_deref(), shared.output).await,
        InCluster::Replay { rule, firing, .. } => replay::run(&way, &rule, firing.as_deref(), shared.output).await,
        InCluster::History { rule } => history::run(&way, &rule, shared.output).await,
        InCluster::Approve { rule, firing, action, deny } => {
            approve::run(&way, (&rule, &firing, action.as_deref()), !deny, shared.output).await
        }
        InCluster::Silence(silencing) => silence::run(&way, &silencing, shared.output).await,
        InCluster::TestSink(testing) => send::test(&way, &testing, shared.output).await,
        InCluster::Send(sending) => send::send(&way, &sending, shared.output).await,
        InCluster::Trace { firing, rule } => trace::run(&way, &firing, rule.as_deref(), shared.output).await,
    }
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
    fn what_is_sent_by_hand_is_a_text_or_an_event() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(
            parse("x test-sink oncall -n shop") && parse("x test-sink oncall --resolve --account ops --text hello")
        );
        assert!(parse("x send oncall --text hello --severity Critical") && parse("x send broker --event e.json"));
        assert!(!parse("x send oncall") && !parse("x send oncall --text hello --event e.json"));
        assert!(!parse("x send broker --event e.json --resolve"));
    }

    #[test]
    fn one_firing_is_run_again_or_all() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(parse("x replay web 0123") && parse("x replay web --all -n shop -o json"));
        assert!(parse("x silence web db --for 2h") && parse("x silence --all --end"));
        assert!(!parse("x silence web") && !parse("x silence web --for 2h --end") && !parse("x silence --for 2h"));
        assert!(parse("x backtest r.yaml --since 24h") && parse("x backtest -f r.yaml --events e.json --rule a"));
        assert!(
            !parse("x backtest r.yaml")
                && !parse("x backtest r.yaml --since 1h --events e")
                && !parse("x backtest --since 1h")
        );
        assert!(!parse("x replay web") && !parse("x replay web 0123 --all"));
    }
}
