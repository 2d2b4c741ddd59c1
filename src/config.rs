//! The operator's settings: command line flags, each with an environment variable.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use http::Uri;

use crate::api;

/// Event-driven infrastructure for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "signalbox", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do other than to run the operator.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings of the operator.
    #[command(flatten)]
    pub settings: Settings,
}

/// What the program does other than to run the operator.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Print a custom resource definition as YAML, or all of them.
    Crds {
        /// Print only this one.
        kind: Option<Kind>,
    },
    /// Ask whether an operator is ready and the API server serves its kinds; fails with what is not so.
    Check {
        /// The operator's /readyz.
        #[arg(long, default_value = "http://signalbox:8080/readyz")]
        url: Uri,
        /// For how long to ask again.
        #[arg(long, default_value = "60s", value_parser = duration)]
        timeout: Duration,
    },
}

/// The kinds that have a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum Kind {
    /// EventRule
    EventRule,
    /// EventSink
    EventSink,
    /// EventSource
    EventSource,
}

/// Settings of the operator.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Folder of the log and the state; must survive restarts for the guarantees to hold.
    #[arg(long, env = "SIGNALBOX_DATA_DIR", default_value = "/var/lib/signalbox")]
    pub data_dir: PathBuf,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "SIGNALBOX_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Address at which EventSources take events by HTTP, at /hooks/NAMESPACE/NAME.
    #[arg(long, env = "SIGNALBOX_HOOKS_ADDRESS", default_value = "0.0.0.0:8090")]
    pub hooks_address: SocketAddr,
    /// Address at which the API server asks about EventRules before it takes them, by TLS, at /rules. Without it, it is not asked.
    #[arg(long, env = "SIGNALBOX_ADMISSION_ADDRESS")]
    pub admission_address: Option<SocketAddr>,
    /// The name, or the address, that the API server asks at: what the certificate is made for.
    #[arg(long, env = "SIGNALBOX_ADMISSION_HOST", default_value = "signalbox-admission.signalbox-system.svc")]
    pub admission_host: String,
    /// The ValidatingWebhookConfiguration that is told whom to trust.
    #[arg(long, env = "SIGNALBOX_ADMISSION_CONFIGURATION", default_value = "signalbox-rules")]
    pub admission_configuration: String,
    /// How log lines are written.
    #[arg(long, env = "SIGNALBOX_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Which log lines are written, as `info` or `info,signalbox::sources=debug`.
    #[arg(long = "log", env = "SIGNALBOX_LOG", default_value = "info")]
    pub log_filter: String,
    /// Address ranges that sinks and `http` actions may reach although they are loopback, link-local or the API server, as `127.0.0.0/8`.
    #[arg(long, env = "SIGNALBOX_ALLOW_EGRESS", value_delimiter = ',')]
    pub allow_egress: Vec<String>,
    /// How often it is asked whether accounts may still see what their rules watch.
    #[arg(long, env = "SIGNALBOX_ACCESS_RECHECK", default_value = "2m", value_parser = recheck)]
    pub access_recheck: Duration,
    /// How many firings one group of a rule may begin in any minute; those beyond wait, none is dropped. 0: any number.
    #[arg(long, env = "SIGNALBOX_FIRINGS_PER_MINUTE", default_value_t = 120)]
    pub firings_per_minute: u32,
    /// How many firings all rules of one namespace may begin in any hour; those beyond wait, none is dropped. 0: any number.
    #[arg(long, env = "SIGNALBOX_NAMESPACE_FIRINGS_PER_HOUR", default_value_t = 0)]
    pub namespace_firings_per_hour: u32,
    /// How many firings all rules together may begin in any hour; those beyond wait, none is dropped. 0: any number.
    #[arg(long, env = "SIGNALBOX_FIRINGS_PER_HOUR", default_value_t = 0)]
    pub firings_per_hour: u32,
    /// How many firings may wait or be under way; beyond that no events are taken until some have ended, none is dropped. They wait on disk, with some 500
    /// bytes of memory each.
    #[arg(long, env = "SIGNALBOX_OPEN_FIRINGS", default_value_t = 100_000, value_parser = open_firings)]
    pub open_firings: usize,
    /// How long records are kept after the state has absorbed them.
    #[arg(long, env = "SIGNALBOX_RETENTION_AGE", default_value = "24h", value_parser = duration)]
    pub retention_age: Duration,
    /// How many bytes of absorbed records are kept, as `1Gi`.
    #[arg(long, env = "SIGNALBOX_RETENTION_SIZE", default_value = "1Gi", value_parser = bytes)]
    pub retention_size: u64,
    /// How long actions under way may take after SIGTERM; what has not ended then is finished after the next start.
    #[arg(long, env = "SIGNALBOX_SHUTDOWN_GRACE", default_value = "25s", value_parser = duration)]
    pub shutdown_grace: Duration,
    /// The Lease by which one log at a time acts, as NAMESPACE/NAME. Without it, nothing keeps an operator with another log from acting beside this one.
    #[arg(long, env = "SIGNALBOX_LEASE")]
    pub lease: Option<ObjectName>,
    /// For how long a log that does not renew the Lease is waited for; it stops acting when two thirds of that are over. Whole seconds.
    #[arg(long, env = "SIGNALBOX_LEASE_DURATION", default_value = "15s", value_parser = lease_duration)]
    pub lease_duration: Duration,
    /// The ConfigMap that stops all rules while its field `stop` is set, as NAMESPACE/NAME. Without it, they cannot be stopped together.
    #[arg(long, env = "SIGNALBOX_CONTROL")]
    pub control: Option<ObjectName>,
    /// Base URL of an OpenTelemetry collector that takes OTLP over HTTP, as `http://collector:4318`: a trace of each firing is sent there, in JSON.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<Uri>,
    /// Headers of these requests, as `key=value,key=value`, with %20 for a space.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", default_value = "", hide_env_values = true)]
    pub otlp_headers: String,
    /// Name of the pod, for Kubernetes Events; the downward API sets it.
    #[arg(long, env = "POD_NAME", default_value = "signalbox")]
    pub pod_name: String,
}

/// Namespace and name of an object, written as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl FromStr for ObjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("{text:?} is not NAMESPACE/NAME")),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object a line.
    Json,
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<api::Duration>().map(api::Duration::get).map_err(|error| error.to_string())
}

/// Reads the time between two questions: not so short that nothing else is done.
fn recheck(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_secs(1);
    duration(text).and_then(|time| if time < LEAST { Err("must be 1s or more".to_owned()) } else { Ok(time) })
}

/// Reads a number of firings: with fewer, one rule's target that hangs for a moment would hold up all.
fn open_firings(text: &str) -> Result<usize, String> {
    const LEAST: usize = 1_000;
    let number = text.parse::<usize>().map_err(|error| error.to_string())?;
    if number < LEAST { Err("must be 1000 or more".to_owned()) } else { Ok(number) }
}

/// Reads the duration of a Lease, which has whole seconds: not so short that one slow answer costs it.
fn lease_duration(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_secs(3);
    let time = duration(text)?;
    let fits = time >= LEAST && time.subsec_nanos() == 0;
    if fits { Ok(time) } else { Err("must be whole seconds, 3s or more".to_owned()) }
}

/// Reads a number of bytes as Kubernetes writes it: `512Mi`, `1Gi`, `1073741824`.
fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("Ti", 1 << 40)];
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, size)| text.strip_suffix(suffix).map(|number| (number, *size)))
        .unwrap_or((text, 1));
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("{text:?} is not a size: write it as 512Mi or 1Gi"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_lease_has_a_namespace_and_a_name_and_whole_seconds() {
        let name: ObjectName = "shop/signalbox".parse().expect("a name");
        assert_eq!((name.namespace.as_str(), name.name.as_str()), ("shop", "signalbox"));
        for text in ["signalbox", "/signalbox", "shop/", "a/b/c"] {
            assert!(text.parse::<ObjectName>().is_err(), "{text}");
        }
        assert_eq!(lease_duration("15s"), Ok(Duration::from_secs(15)));
        for text in ["2s", "3500ms", "soon"] {
            assert!(lease_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_kubernetes_writes_them() {
        assert_eq!(bytes("1Gi"), Ok(1 << 30));
        assert_eq!(bytes("512Mi"), Ok(512 << 20));
        assert_eq!(bytes("7"), Ok(7));
        assert!(bytes("1GB").is_err());
        assert!(bytes("99999999999Ti").is_err());
    }
}
