//! A real Kubernetes API on loopback: etcd, kube-apiserver and kube-controller-manager, no kubelet.
//!
//! Deployments make ReplicaSets and Jobs make Pods, which nobody runs. Ready in seconds; several fit side by
//! side. The programs are one binary, `$SIGNALBOX_KUBE` or what `e2e/cluster/program kube` builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

use super::credentials::{Credentials, kubeconfig, random};
use super::eventually;
use super::http::{free_port, post};
use super::process::{Process, Workspace};

/// Starting may have to wait for a busy machine; on a quiet one it takes three seconds.
const START: Duration = Duration::from_secs(120);

/// The control plane that the tests of this binary share; the first to ask starts it.
///
/// Keep apart by [`ControlPlane::namespace`]. Tests that stop a part of it start one of their own.
pub async fn shared() -> &'static ControlPlane {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    SHARED.get_or_init(ControlPlane::start).await
}

/// A running control plane. Dropping it leaves nothing behind.
pub struct ControlPlane {
    // Fields are dropped in order: the programs first, then their folder.
    manager: Mutex<Option<Process>>,
    api_server: Mutex<Option<Process>>,
    etcd: Mutex<Option<Process>>,
    kube: PathBuf,
    api_port: u16,
    etcd_port: u16,
    credentials: Credentials,
    kubeconfig: PathBuf,
    workspace: Workspace,
}

impl ControlPlane {
    /// Starts one, ready to be used: RBAC is set up and the controllers run.
    pub async fn start() -> Self {
        let kube = program();
        let workspace = Workspace::new("control-plane");
        let credentials = Credentials::make(&workspace);
        let (api_port, etcd_port) = (free_port(), free_port());
        let config = kubeconfig(&url(api_port), &credentials.ca, &credentials.admin_token);
        let kubeconfig = workspace.write("admin.kubeconfig", config);
        let etcd = workspace.spawn("etcd", etcd(&kube, workspace.path(), etcd_port));
        let plane = Self {
            manager: Mutex::new(None),
            api_server: Mutex::new(None),
            etcd: Mutex::new(Some(etcd)),
            kube,
            api_port,
            etcd_port,
            credentials,
            kubeconfig,
            workspace,
        };
        plane.start_api_server().await;
        plane.start_controller_manager();
        plane.await_service_account("default").await;
        plane
    }

    pub fn url(&self) -> String {
        url(self.api_port)
    }

    /// Where etcd answers, without TLS or login.
    pub fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_port)
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig file for whoever has `token`.
    pub fn kubeconfig_for_token(&self, token: &str) -> PathBuf {
        self.kubeconfig_for_token_at(&self.url(), token)
    }

    /// The same, for somebody who asks at another address, such as that of a proxy.
    pub fn kubeconfig_for_token_at(&self, url: &str, token: &str) -> PathBuf {
        let config = kubeconfig(url, &self.credentials.ca, token);
        self.workspace.write(&format!("{}.kubeconfig", random()), config)
    }

    /// A client of the administrator's. A client belongs to the runtime, and so to the test, that made it.
    pub async fn client(&self) -> Client {
        client(self.config().await)
    }

    /// The administrator's client configuration, to be changed and made a client of.
    pub async fn config(&self) -> Config {
        load(&self.kubeconfig).await
    }

    /// A client for whoever has `token`.
    pub async fn client_for_token(&self, token: &str) -> Client {
        client(load(&self.kubeconfig_for_token(token)).await)
    }

    /// A client that acts as `user` (for instance `system:serviceaccount:shop:default`) by impersonation.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Client {
        let mut config = self.config().await;
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(groups.iter().map(|&group| group.to_owned()).collect());
        client(config)
    }

    /// A real token of a service account, good for an hour.
    pub async fn service_account_token(&self, namespace: &str, account: &str) -> String {
        let request = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
        Api::<ServiceAccount>::namespaced(self.client().await, namespace)
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .expect("request a token")
            .status
            .and_then(|status| status.token)
            .expect("the answer holds a token")
    }

    /// Makes a namespace `PREFIX-NUMBER` of the test's own, whose `default` account exists.
    pub async fn namespace(&self, prefix: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::<Namespace>::all(self.client().await)
            .create(&PostParams::default(), &namespace)
            .await
            .expect("create a namespace");
        self.await_service_account(&name).await;
        name
    }

    /// Runs kubectl as the administrator.
    pub async fn kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_with_input(args, "").await
    }

    /// Applies manifests, YAML or JSON.
    ///
    /// # Panics
    /// When kubectl fails.
    pub async fn apply(&self, manifests: &str) {
        let output = self.kubectl_with_input(&["apply", "--server-side", "-f", "-"], manifests).await;
        assert!(output.status.success(), "apply: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What `kubectl apply` of manifests says, without storing them.
    pub async fn try_apply(&self, manifests: &str) -> Output {
        self.kubectl_with_input(&["apply", "--server-side", "--dry-run=server", "-f", "-"], manifests).await
    }

    async fn kubectl_with_input(&self, args: &[&str], input: &str) -> Output {
        let mut child = tokio::process::Command::new(&self.kube)
            .arg("kubectl")
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("start kubectl");
        let mut stdin = child.stdin.take().expect("its input is a pipe");
        // kubectl may end without reading, for instance because of a wrong flag.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await.expect("run kubectl")
    }

    /// Starts the API server (again) on the same port and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_api_server(&self) {
        let process = self.workspace.spawn("kube-apiserver", self.api_server_command());
        *lock(&self.api_server) = Some(process);
        // A client of the old server would first have to notice that its connections are dead.
        let client = self.client().await;
        eventually("the API server is ready", START, async || {
            self.assert_running();
            client.request_text(readyz()).await.ok()
        })
        .await;
    }

    /// Kills the API server: connections break, new ones are refused.
    pub fn stop_api_server(&self) {
        *lock(&self.api_server) = None;
    }

    /// Stops the API server from answering, connections staying open, until [`Self::resume_api_server`].
    pub fn pause_api_server(&self) {
        self.signal_api_server("STOP");
    }

    pub fn resume_api_server(&self) {
        self.signal_api_server("CONT");
    }

    fn signal_api_server(&self, signal: &str) {
        lock(&self.api_server).as_ref().expect("the API server runs").signal(signal);
    }

    /// Makes etcd forget the past. The API server, whose caches know some of it, is started again: who asks for changes since an earlier version gets
    /// a 410.
    ///
    /// # Panics
    /// When etcd does not do it.
    pub async fn compact(&self) {
        let head = self.ask_etcd("range", &json!({"key": "AA=="})).await["header"].clone();
        let revision = head["revision"].as_str().expect("a revision");
        self.ask_etcd("compaction", &json!({"revision": revision, "physical": true})).await;
        self.stop_api_server();
        self.start_api_server().await;
    }

    async fn ask_etcd(&self, what: &str, body: &Value) -> Value {
        let address = format!("127.0.0.1:{}", self.etcd_port);
        let (status, answer) = post(
            &address,
            &format!("/v3/kv/{what}"),
            &[("Content-Type", "application/json")],
            body.to_string().as_bytes(),
        )
        .await
        .expect("etcd answers");
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Keeps what etcd holds, for [`Self::restore`]. The API server is away for a moment.
    pub async fn back_up(&self) {
        self.copy_etcd("etcd", "backup").await;
    }

    /// Sets etcd back to the time of [`Self::back_up`], its versions included.
    pub async fn restore(&self) {
        self.copy_etcd("backup", "etcd").await;
    }

    async fn copy_etcd(&self, from: &str, to: &str) {
        self.stop_api_server();
        *lock(&self.etcd) = None;
        let mut copy = Command::new("sh");
        copy.current_dir(self.workspace.path()).args(["-c", "rm -rf \"$2\" && cp -a \"$1\" \"$2\"", "copy", from, to]);
        assert!(copy.status().expect("run sh").success(), "copy {from} to {to}");
        let etcd = etcd(&self.kube, self.workspace.path(), self.etcd_port);
        *lock(&self.etcd) = Some(self.workspace.spawn("etcd", etcd));
        self.start_api_server().await;
    }

    pub fn start_controller_manager(&self) {
        let process = self.workspace.spawn("kube-controller-manager", self.manager_command());
        *lock(&self.manager) = Some(process);
    }

    pub fn stop_controller_manager(&self) {
        *lock(&self.manager) = None;
    }

    /// The controllers have seen the namespace: what needs an account can be made in it.
    async fn await_service_account(&self, namespace: &str) {
        let accounts = Api::<ServiceAccount>::namespaced(self.client().await, namespace);
        eventually("the controller manager made the default account", START, async || {
            self.assert_running();
            accounts.get_opt("default").await.ok().flatten()
        })
        .await;
    }

    fn assert_running(&self) {
        for process in [&self.api_server, &self.manager] {
            if let Some(process) = lock(process).as_mut() {
                let ended = process.ended();
                assert!(ended.is_none(), "{} ended: {ended:?}", process.name());
            }
        }
    }

    fn api_server_command(&self) -> Command {
        let Credentials { certificate, key, signing_key, checking_key, tokens, .. } = &self.credentials;
        let mut command = Command::new(&self.kube);
        command.arg("kube-apiserver").args([
            format!("--etcd-servers={}", self.etcd_url()),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.api_port),
            format!("--tls-cert-file={}", certificate.display()),
            format!("--tls-private-key-file={}", key.display()),
            format!("--cert-dir={}", self.workspace.path().display()),
            format!("--token-auth-file={}", tokens.display()),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-signing-key-file={}", signing_key.display()),
            format!("--service-account-key-file={}", checking_key.display()),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--allow-privileged=true".to_owned(),
            // A loopback address is no endpoint that the API would accept for its own Service.
            "--advertise-address=127.0.0.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
        ]);
        command
    }

    fn manager_command(&self) -> Command {
        let mut command = Command::new(&self.kube);
        command.arg("kube-controller-manager").args([
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--root-ca-file={}", self.credentials.ca.display()),
            format!("--service-account-private-key-file={}", self.credentials.signing_key.display()),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            // With the default of 20 its informers alone take 4 s to start.
            "--kube-api-qps=300".to_owned(),
            "--kube-api-burst=600".to_owned(),
        ]);
        command
    }
}

fn etcd(kube: &Path, folder: &Path, port: u16) -> Command {
    let mut command = Command::new(kube);
    command.arg("etcd").args([
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls=http://127.0.0.1:{port}"),
        format!("--advertise-client-urls=http://127.0.0.1:{port}"),
        // It has no peers, so any port will do.
        "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        "--log-level=warn".to_owned(),
        // A crash of the machine may lose the test's data; tests are about crashes of programs.
        "--unsafe-no-fsync".to_owned(),
    ]);
    command
}

/// The binary that holds all the programs.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("SIGNALBOX_KUBE") {
        return path.into();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/cluster/program");
    let output = Command::new(&script).arg("kube").stderr(Stdio::inherit()).output().expect("run e2e/cluster/program");
    assert!(output.status.success(), "e2e/cluster/program kube failed: see its messages, or set SIGNALBOX_KUBE");
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    fs::canonicalize(&path).expect("the program that was just built")
}

fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

async fn load(kubeconfig: &Path) -> Config {
    let file = Kubeconfig::read_from(kubeconfig).expect("read a kubeconfig");
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("use a kubeconfig")
}

fn client(config: Config) -> Client {
    Client::try_from(config).expect("make a client")
}

fn readyz() -> axum::http::Request<Vec<u8>> {
    axum::http::Request::get("/readyz").body(Vec::new()).expect("a valid request")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
