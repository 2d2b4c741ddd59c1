//! The validating webhook: its certificate, which lives in memory and is made anew every few days, and what it says of rules.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use data_encoding::{BASE64, HEXLOWER};
use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};
use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhookConfiguration, WebhookClientConfig};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use parking_lot::RwLock;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    controller,
    kubernetes::Cluster,
    server::admission::{self, Judge, Opinion},
};

/// The name of the webhook in its configuration.
const WEBHOOK: &str = "rules.signalbox.dev";
/// For how long a certificate is good.
const GOOD_DAYS: i64 = 30;
/// A certificate is made anew after so long.
const ANEW: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long the API server may take to hear of a new authority, before its certificate is shown.
const HEARS: Duration = Duration::from_secs(10);
/// How often it is looked whether the configuration has our authority still: an upgrade of the chart may take it out.
const LOOK: Duration = Duration::from_secs(30);
/// Right after the start it is tried so often, and so many times.
const LOOK_SOON: Duration = Duration::from_secs(2);
const SOON: u32 = 15;
/// Rules that are compiled at the same time, on threads of their own.
const COMPILES: usize = 2;

/// Where the API server asks; nothing where the settings say so.
pub(super) async fn listen(settings: &Settings) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = settings.admission_address else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("listen for the API server's questions on {address}")).map(Some)
}

/// Answers, and keeps the certificate good, until `stop`.
///
/// # Errors
/// When no certificate can be made.
pub(super) async fn run(
    listener: TcpListener,
    settings: Settings,
    cluster: Cluster,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let first = Identity::new(&settings.admission_host)?;
    let shown = Arc::new(Shown(RwLock::new(Arc::clone(&first.key))));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("set TLS up")?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
    let path = first.path.clone();
    let keeping = keep(cluster.own().clone(), &settings, &shown, first);
    let serving = admission::serve(listener, Arc::new(tls), (&path, judge(cluster.clone())), stop.clone());
    tokio::select! {
        served = serving => Ok(served?),
        kept = keeping => kept,
    }
}

fn judge(cluster: Cluster) -> Judge {
    let turns = Arc::new(Semaphore::new(COMPILES));
    Judge(Arc::new(move |object| {
        let (cluster, turns) = (cluster.clone(), Arc::clone(&turns));
        Box::pin(async move {
            let Ok(turn) = turns.acquire_owned().await else { return Opinion::default() };
            // The turn goes with the thread: whoever asked may be gone before it has ended.
            let compiled = tokio::task::spawn_blocking(move || {
                let compiled = controller::asked(&object);
                drop(turn);
                compiled
            });
            match compiled.await {
                Ok(Ok(asked)) => Opinion { faults: Vec::new(), warnings: controller::warnings(&cluster, &asked).await },
                Ok(Err(faults)) => Opinion { faults, warnings: Vec::new() },
                Err(error) => {
                    Opinion { faults: Vec::new(), warnings: vec![format!("the rule could not be looked at: {error}")] }
                }
            }
        })
    }))
}

/// Tells the API server whom to trust, again and again, and changes the certificate when its time has come.
async fn keep(client: Client, settings: &Settings, shown: &Shown, first: Identity) -> anyhow::Result<()> {
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client);
    let name = &settings.admission_configuration;
    let path = first.path.clone();
    let mut current = first;
    let mut since = Instant::now();
    // An API server that has just started knows no rights yet.
    let mut soon = SOON;
    let mut failed = false;
    loop {
        let told = trust(&configurations, name, (&current.authority, &path)).await;
        if let Err(error) = &told
            && !failed
        {
            tracing::warn!(configuration = name, %error, "the API server cannot be told whom to trust about rules: it takes them unchecked");
        }
        failed = told.is_err();
        soon = if failed { soon.saturating_sub(1) } else { 0 };
        tokio::time::sleep(if soon > 0 { LOOK_SOON } else { LOOK }).await;
        if since.elapsed() >= ANEW {
            let next = Identity::new(&settings.admission_host)?;
            // Both, until the new one is shown.
            let both = format!("{}{}", next.authority, current.authority);
            if trust(&configurations, name, (&both, &path)).await.is_ok() {
                tokio::time::sleep(HEARS).await;
                *shown.0.write() = Arc::clone(&next.key);
                (current, since) = (next, Instant::now());
            }
        }
    }
}

/// Has the configuration name this authority and this path; writes nothing when it does.
async fn trust(
    configurations: &Api<ValidatingWebhookConfiguration>,
    name: &str,
    (authority, path): (&str, &str),
) -> Result<(), kube::Error> {
    let configuration = configurations.get(name).await?;
    let webhooks = configuration.webhooks.unwrap_or_default();
    let Some(now) = webhooks.into_iter().find(|webhook| webhook.name == WEBHOOK).map(|webhook| webhook.client_config)
    else {
        return Ok(());
    };
    let (mut wanted, is_aimed) = aimed(&now, path);
    if is_aimed && now.ca_bundle.is_some_and(|bundle| bundle.0 == authority.as_bytes()) {
        return Ok(());
    }
    wanted["caBundle"] = BASE64.encode(authority.as_bytes()).into();
    // Strategic: the list is merged by name.
    let patch = json!({"webhooks": [{"name": WEBHOOK, "clientConfig": wanted}]});
    configurations.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    tracing::info!(configuration = name, "the API server was told whom to trust about rules");
    Ok(())
}

/// The configuration's address with this path, and whether it has it already.
fn aimed(now: &WebhookClientConfig, path: &str) -> (Value, bool) {
    match &now.url {
        Some(url) => {
            let host = url.find("://").map_or(0, |at| at + 3);
            let end = url[host..].find('/').map_or(url.len(), |at| host + at);
            let wanted = format!("{}{path}", &url[..end]);
            (json!({"url": wanted}), wanted == *url)
        }
        None => {
            let known = now.service.as_ref().and_then(|service| service.path.as_deref());
            (json!({"service": {"path": path}}), known == Some(path))
        }
    }
}

/// A certificate, and the authority that vouches for it.
struct Identity {
    /// In PEM.
    authority: String,
    key: Arc<CertifiedKey>,
    /// A path that nobody can guess who does not know the private key.
    path: String,
}

impl Identity {
    /// For a name or an address, from yesterday on: clocks differ.
    fn new(host: &str) -> anyhow::Result<Self> {
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        let (from, to) = (parts(today.yesterday()?), parts(today.checked_add(Span::new().days(GOOD_DAYS))?));
        let [from, to] = [from, to].map(|(year, month, day)| rcgen::date_time_ymd(year, month, day));
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "signalbox");
        (params.not_before, params.not_after) = (from, to);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("make an authority")?;
        let mut params = CertificateParams::new([host.to_owned()]).context("name the webhook's host")?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.not_before, params.not_after) = (from, to);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority).context("make a certificate")?;
        let path = format!("/rules/{}", HEXLOWER.encode(&Sha256::digest(key.serialize_der())));
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = rustls::crypto::ring::sign::any_supported_type(&private).context("use the certificate's key")?;
        let key = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signing));
        Ok(Self { authority: authority.pem(), key, path })
    }
}

/// Year, month and day.
fn parts(date: Date) -> (i32, u8, u8) {
    (i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
}

/// The certificate that is shown now.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;
    use crate::kubernetes::fake::{Fake, failure};

    #[tokio::test]
    async fn a_rule_is_compiled_beside_everything_else_and_no_more_than_two_at_once() {
        let cluster = Cluster::with_client(Fake::new(|_| failure(404, "NotFound", "no")).client());
        let judge = judge(cluster);
        let rule = |when: &str| {
            let spec = json!({"sources": [{"name": "s", "kubernetesEvent": {}}], "when": [{"name": "w", "expression": when}],
                "actions": [{"name": "a", "emit": {"type": "com.acme.a", "data": "x"}}]});
            json!({"metadata": {"name": "r", "namespace": "shop"}, "spec": spec}).to_string()
        };
        let mut asked = pin!((judge.0)(rule("evnt.type == 'x'")));
        assert!(poll!(&mut asked).is_pending(), "this thread goes on");
        let faults = asked.await.faults;
        assert!(faults[0].starts_with("spec.when[0].expression:1:1:"), "{faults:?}");
        // Who asked and is gone gives the turn back all the same.
        for _ in 0..10 * COMPILES {
            let mut gone = pin!((judge.0)(rule("true")));
            let _ = poll!(&mut gone);
        }
        assert_eq!((judge.0)(rule("true")).await.faults, [""; 0]);
    }
}
