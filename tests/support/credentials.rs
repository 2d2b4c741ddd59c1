//! Keys, certificates and the kubeconfig of a control plane.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::json;

use super::process::Workspace;

/// Files that the three programs take as flags, and the administrator's token.
pub struct Credentials {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// What service account tokens are signed with, and checked with.
    pub signing_key: PathBuf,
    pub checking_key: PathBuf,
    pub tokens: PathBuf,
    pub admin_token: String,
}

impl Credentials {
    pub fn make(workspace: &Workspace) -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, key_pair()).expect("sign a CA");

        let key = key_pair();
        let mut server =
            CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("name a certificate");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server = server.signed_by(&key, &ca).expect("sign a certificate");

        let signing = key_pair();

        // The user is in the group that RBAC never refuses; only this token says so.
        let admin_token = random();
        let tokens = format!("{admin_token},admin,admin,system:masters\n");
        Self {
            ca: workspace.write("ca.crt", ca.pem()),
            certificate: workspace.write("server.crt", server.pem()),
            key: workspace.write("server.key", key.serialize_pem()),
            signing_key: workspace.write("service-accounts.key", signing.serialize_pem()),
            checking_key: workspace.write("service-accounts.pub", signing.public_key_pem()),
            tokens: workspace.write("tokens.csv", tokens),
            admin_token,
        }
    }
}

/// A kubeconfig for whoever has the token, as JSON (which is YAML).
pub fn kubeconfig(url: &str, ca: &Path, token: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": ca}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    })
    .to_string()
}

fn key_pair() -> KeyPair {
    KeyPair::generate().expect("make a key")
}

/// Unguessable enough for a server on loopback that lives for seconds.
pub fn random() -> String {
    (0..2).map(|_| format!("{:016x}", RandomState::new().hash_one(()))).collect()
}
