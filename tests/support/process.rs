//! Child processes that cannot outlive the test, whatever becomes of the test.
//!
//! A [`Workspace`] is a folder and a small shell process, the keeper, which waits for the end of its input.
//! That comes when the workspace is dropped and also when the test process dies in any way, a static is
//! never dropped, or someone presses Ctrl-C: the keeper then kills what was spawned and removes the folder.
//! (`PR_SET_PDEATHSIG` would do half of that, needs unsafe code, and fires when the *thread* that spawned
//! the child ends: with one thread a test, the first test to end would take a shared control plane down.)

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A temporary folder and the processes that live in it.
pub struct Workspace {
    path: PathBuf,
    keeper: Child,
}

impl Workspace {
    pub fn new(name: &str) -> Self {
        let path = tempfile::Builder::new()
            .prefix(&format!("signalbox-{name}-"))
            .tempdir()
            .expect("make a temporary folder")
            .keep();
        let script = r#"trap "" INT TERM HUP; cat >/dev/null
            for pid in "$1"/*.pid; do [ -e "$pid" ] && kill -KILL "$(cat "$pid")"; done 2>/dev/null
            for _ in 1 2 3 4 5; do rm -rf "$1" && break; sleep 0.1; done 2>/dev/null"#; // they may still write
        let keeper = Command::new("sh")
            .args(["-c", script, "keeper"])
            .arg(&path)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("start sh");
        Self { path, keeper }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only this user can read, and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path.join(name);
        fs::write(&path, content).expect("write into the workspace");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("make a file private");
        path
    }

    /// Starts `command`, its output appended to `NAME.log`.
    pub fn spawn(&self, name: &str, mut command: Command) -> Process {
        let log = self.path.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).expect("open a log");
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("share the log"))
            .stderr(output)
            // Its own group: Ctrl-C ends the test, and with it the keeper ends this, at once.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| unreachable!("start {command:?}: {error}"));
        let pid_file = self.write(&format!("{name}-{}.pid", child.id()), child.id().to_string());
        Process { name: name.to_owned(), child, log, pid_file }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A running child. Dropping it kills it and, in a failing test, shows the end of its log.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    pid_file: PathBuf,
}

impl Process {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        format!("--- {} ends with:\n{tail}", self.name)
    }

    /// Sends a signal by its name: `TERM`, `STOP`, `CONT`.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$1\" \"$2\"", "kill", signal, &self.pid().to_string()])
            .status()
            .expect("run sh");
        assert!(status.success(), "send {signal} to {}", self.name);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("ask for the state of a child")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        // First the file: from wait() on, the number may belong to somebody else.
        let _ = fs::remove_file(&self.pid_file);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
