//! TLS towards servers whose names users give: whom to trust, what to show, and whose certificate it must be.

use std::sync::{Arc, OnceLock};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};

use crate::api::{SecretKeyRef, Tls};

/// Why there can be no connection by TLS. Never holds a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// What should be certificates of authorities is none.
    #[error("the certificates of authorities cannot be read: {0}: they must be PEM, -----BEGIN CERTIFICATE-----")]
    Authorities(String),
    /// The certificate to show or its key is none, or they do not belong together.
    #[error("the client's certificate and key cannot be used: {0}: they must be PEM and belong together")]
    Identity(String),
    /// Nobody is trusted.
    #[error("there is nobody to trust: the system has no bundle of authorities, name one by caSecretRef")]
    Nobody,
    /// No certificate can be for it.
    #[error("{0:?} is no name that a certificate can be for")]
    Name(String),
}

/// What a client shows: a certificate, and the key to it, both PEM.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// The certificate, and those between it and its authority.
    pub certificate: &'a [u8],
    /// The private key.
    pub key: &'a [u8],
}

/// The authorities that the system trusts. Reading them takes some milliseconds.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "an authority of the system cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}

/// The certificates of the authorities that the system trusts, as PEM: for clients that do not take them otherwise.
#[cfg(feature = "kafka")]
pub(super) fn system_pem() -> String {
    let found = rustls_native_certs::load_native_certs().certs;
    let pem = |one: &CertificateDer<'_>| {
        let lines = data_encoding::BASE64.encode(one);
        let lines: Vec<&str> = lines.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    found.iter().map(pem).collect()
}

/// The authorities of a PEM file.
fn authorities(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| TlsError::Authorities("one is no PEM".to_owned()))?;
        roots.add(certificate).map_err(|error| TlsError::Authorities(error.to_string()))?;
    }
    if roots.is_empty() { Err(TlsError::Authorities("there is none".to_owned())) } else { Ok(roots) }
}

/// How to connect to a server whose certificate must be for `name`, whichever name or address the client that is given this connects to: clients of
/// brokers are given addresses that were checked. The authorities are those of `ca` (PEM), or else `system`.
///
/// # Errors
/// When the certificates or the key cannot be read, or do not belong together.
pub fn client_config(
    name: &str,
    ca: Option<&[u8]>,
    system: &Arc<RootCertStore>,
    identity: Option<Identity<'_>>,
) -> Result<ClientConfig, TlsError> {
    let roots = match ca {
        Some(pem) => Arc::new(authorities(pem)?),
        None => Arc::clone(system),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
    let inner = verifier.map_err(|_| TlsError::Nobody)?;
    let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))?;
    // What is called dangerous is to bring a verifier of one's own: this one checks what the usual one checks, for a fixed name.
    let builder =
        super::http::tls_builder().dangerous().with_custom_certificate_verifier(Arc::new(Named { inner, name }));
    let Some(Identity { certificate, key }) = identity else { return Ok(builder.with_no_client_auth()) };
    // What the reader says may hold lines of what it has read.
    let wrong = |what: &str| TlsError::Identity(format!("the {what} cannot be read"));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|_| wrong("certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| wrong("key"))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| TlsError::Identity(error.to_string()))
}

/// [`client_config`] as a spec says it: certificates are checked for `tls.serverName`, or else `host`, also by a client that connects to an address. `read`
/// gives the values of Secrets.
///
/// # Errors
/// Those of `read`, and when a certificate or a key cannot be used.
pub fn tls_of<'s, E: From<TlsError>>(
    tls: &Tls,
    host: &str,
    system: &Arc<RootCertStore>,
    read: impl Fn(&SecretKeyRef) -> Result<&'s [u8], E>,
) -> Result<ClientConfig, E> {
    let ca = tls.ca_secret_ref.as_ref().map(&read).transpose()?;
    let identity = match (&tls.client_certificate_secret_ref, &tls.client_key_secret_ref) {
        (Some(certificate), Some(key)) => Some(Identity { certificate: read(certificate)?, key: read(key)? }),
        _ => None,
    };
    Ok(client_config(tls.server_name.as_deref().unwrap_or(host), ca, system, identity)?)
}

/// The authorities that the system trusts, read when they are first asked for; a clone shares them. Of a common bundle they take 100 KiB, and to read them
/// some 500 KiB for a moment: an operator that nobody asks to speak TLS with anybody but the API server does without.
#[derive(Clone, Debug, Default)]
pub(super) struct SystemRoots(Arc<OnceLock<Arc<RootCertStore>>>);

impl SystemRoots {
    pub(super) fn get(&self) -> Arc<RootCertStore> {
        Arc::clone(self.0.get_or_init(|| {
            let roots = system_roots();
            if roots.is_empty() {
                tracing::warn!(
                    "no certificate authorities found, https addresses will be refused: SSL_CERT_FILE may name a bundle of them"
                );
            }
            Arc::new(roots)
        }))
    }

    /// TLS that trusts them, and shows no certificate.
    pub(super) fn client_config(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = OfSystem { roots: self.clone(), inner: OnceLock::new(), provider };
        // It checks what the usual one checks, and brings that about when it is needed.
        let builder = super::http::tls_builder().dangerous();
        builder.with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
    }
}

/// Checks certificates by [`SystemRoots`].
#[derive(Debug)]
struct OfSystem {
    roots: SystemRoots,
    /// Nothing when there is nobody to trust.
    inner: OnceLock<Option<Arc<WebPkiServerVerifier>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OfSystem {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let build = || {
            let provider = Arc::clone(&self.provider);
            WebPkiServerVerifier::builder_with_provider(self.roots.get(), provider).build().ok()
        };
        match self.inner.get_or_init(build) {
            Some(inner) => inner.verify_server_cert(certificate, between, name, ocsp, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks certificates for one name.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _connected_to: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(certificate, between, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(vec![]).expect("no names");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
        }

        fn pem(&self) -> String {
            self.0.pem()
        }

        /// A certificate for the name and its key.
        fn sign(&self, name: &str) -> (String, String) {
            self.sign_for(name, (2000, 3000))
        }

        /// The same, from the beginning of a year to that of another.
        fn sign_for(&self, name: &str, (from, to): (i32, i32)) -> (String, String) {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
            (params.signed_by(&key, &self.0).expect("signed").pem(), key.serialize_pem())
        }
    }

    /// What comes of a handshake with a server that shows this.
    async fn shake(config: ClientConfig, (certificate, key): &(String, String)) -> Result<(), String> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(|one| one.expect("PEM")).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let server = server.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("usable");
        let (near, far) = tokio::io::duplex(1 << 16);
        let serve = async {
            let mut stream = TlsAcceptor::from(Arc::new(server)).accept(far).await?;
            stream.write_all(b"x").await?;
            stream.flush().await
        };
        let address = ServerName::try_from("127.0.0.1").expect("an address");
        let connect = async {
            let mut stream = TlsConnector::from(Arc::new(config)).connect(address, near).await?;
            stream.read_u8().await
        };
        let (_, read) = tokio::join!(serve, connect);
        read.map(drop).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn only_a_certificate_of_an_authority_that_is_trusted_and_for_the_name_is_taken() {
        let (ours, theirs, none) = (Authority::new(), Authority::new(), Arc::new(RootCertStore::empty()));
        let config = |name: &str| client_config(name, Some(ours.pem().as_bytes()), &none, None).expect("usable");
        let right = ours.sign("nats.shop.svc");
        assert_eq!(shake(config("nats.shop.svc"), &right).await, Ok(()), "though an address was connected to");
        let why = shake(config("other.shop.svc"), &right).await.expect_err("another name");
        assert!(why.contains("not valid for name"), "{why}");
        let why = shake(config("nats.shop.svc"), &theirs.sign("nats.shop.svc")).await.expect_err("a stranger's");
        assert!(why.contains("invalid peer certificate"), "{why}");
        for (years, told) in [((2000, 2001), "expired"), ((2900, 3000), "not valid yet")] {
            let dated = ours.sign_for("nats.shop.svc", years);
            let why = shake(config("nats.shop.svc"), &dated).await.expect_err("not now");
            assert!(why.contains(told), "{why}");
        }
    }

    #[tokio::test]
    async fn authorities_of_the_system_are_read_when_the_first_certificate_comes() {
        let (ours, theirs) = (Authority::new(), Authority::new());
        let roots = SystemRoots::default();
        let config = roots.client_config();
        assert!(roots.0.get().is_none(), "nothing was read to make ready for TLS");
        let trusted = authorities(ours.pem().as_bytes()).expect("PEM");
        roots.0.set(Arc::new(trusted)).expect("not read yet");
        // The name that is checked is what was connected to.
        assert_eq!(shake(config.clone(), &ours.sign("127.0.0.1")).await, Ok(()));
        let why = shake(config.clone(), &ours.sign("nats.shop.svc")).await.expect_err("another name");
        assert!(why.contains("not valid for name"), "{why}");
        let why = shake(config, &theirs.sign("127.0.0.1")).await.expect_err("a stranger's");
        assert!(why.contains("invalid peer certificate"), "{why}");

        let nobody = SystemRoots::default();
        nobody.0.set(Arc::new(RootCertStore::empty())).expect("not read yet");
        let why = shake(nobody.client_config(), &ours.sign("127.0.0.1")).await.expect_err("nobody is trusted");
        assert!(why.contains("UnknownIssuer"), "{why}");
    }

    #[test]
    fn what_cannot_be_read_is_told_without_being_shown() {
        let none = Arc::new(RootCertStore::empty());
        let fault = |name, ca, identity| client_config(name, ca, &none, identity).map(drop).expect_err("a fault");
        assert_eq!(fault("a", None, None), TlsError::Nobody);
        assert!(
            matches!(fault("a", Some(&b"canary"[..]), None), TlsError::Authorities(why) if !why.contains("canary"))
        );
        let authority = Authority::new();
        let (ca, (certificate, key)) = (authority.pem(), authority.sign("a"));
        let other = authority.sign("a").1;
        for (certificate, key) in [(&*certificate, &*other), ("canary", &key), (&certificate, "canary")] {
            let identity = Identity { certificate: certificate.as_bytes(), key: key.as_bytes() };
            let fault = fault("a", Some(ca.as_bytes()), Some(identity));
            assert!(matches!(&fault, TlsError::Identity(_)) && !fault.to_string().contains("canary"), "{fault}");
        }
        assert_eq!(fault("a b", Some(ca.as_bytes()), None), TlsError::Name("a b".to_owned()));
    }
}
