//! The operator as users run it: its own process, with a log on disk that outlives it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use super::http::{free_port, get};
use super::process::{Process, Workspace};
use super::{PATIENCE, eventually};

/// How to start an operator, again and again with the same data.
pub struct Setup {
    kubeconfig: PathBuf,
    args: Vec<String>,
    workspace: Workspace,
}

impl Setup {
    pub fn new(kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), args: vec![], workspace: Workspace::new("operator") }
    }

    /// Adds flags, as `--name=value`; one that was given before is replaced, unless it is one of a list.
    pub fn args(mut self, args: &[&str]) -> Self {
        let name = |arg: &str| arg.split('=').next().map(str::to_owned);
        self.args.retain(|old| old.starts_with("--allow-") || !args.iter().any(|&new| name(new) == name(old)));
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    pub fn data_dir(&self) -> PathBuf {
        self.workspace.path().join("data")
    }

    /// Starts the operator on the data that earlier ones left, and does not wait for it.
    pub fn start(&self) -> Operator {
        let [address, hooks] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
        command.env("KUBECONFIG", &self.kubeconfig).arg("--data-dir").arg(self.data_dir());
        command.args(["--listen", &address, "--hooks-address", &hooks]).args(&self.args);
        let process = self.workspace.spawn("signalbox", command);
        Operator { process, address, hooks }
    }

    /// Starts the operator and waits until it is ready.
    pub async fn start_ready(&self) -> Operator {
        let mut operator = self.start();
        operator.ready().await;
        operator
    }
}

/// A running operator. Dropping it kills it, as `kill -9` would.
pub struct Operator {
    process: Process,
    address: String,
    hooks: String,
}

impl Operator {
    /// Waits until `/readyz` says so.
    ///
    /// # Panics
    /// When the operator ends first, or takes too long.
    pub async fn ready(&mut self) {
        let Self { process, address, .. } = self;
        eventually("the operator is ready", PATIENCE, async || {
            let ended = process.ended();
            assert!(ended.is_none(), "the operator ended: {ended:?}");
            get(address, "/readyz").await.filter(|(status, _)| *status == 200)
        })
        .await;
    }

    /// Waits until `/readyz` says that it is not ready for this reason.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn waits_for(&self, why: &str) {
        let said =
            async || get(&self.address, "/readyz").await.filter(|(status, said)| *status == 503 && said.contains(why));
        eventually(&format!("the operator waits: {why}"), PATIENCE, said).await;
    }

    /// Sends a signal by its name: `STOP`, `CONT`.
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn ended(&mut self) -> ExitStatus {
        let process = &mut self.process;
        eventually("the operator has ended", PATIENCE, async || process.ended()).await
    }

    /// `HOST:PORT` of its HTTP server.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `HOST:PORT` where it takes webhooks.
    pub fn hooks(&self) -> &str {
        &self.hooks
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// All that this operator and those before it on the same data logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    pub async fn metrics(&self) -> String {
        get(&self.address, "/metrics").await.expect("the operator answers").1
    }

    /// `kill -9`.
    pub fn kill(self) {}

    /// Asks it to stop, and waits until it has.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn terminate(mut self) -> ExitStatus {
        self.process.signal("TERM");
        let process = &mut self.process;
        eventually("the operator stopped on SIGTERM", PATIENCE, async || process.ended()).await
    }
}
