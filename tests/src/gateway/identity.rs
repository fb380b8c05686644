//! A gateway's own server certificate, for `localhost`, under a CA that the test makes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};

/// Three PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The CA that clients trust.
    pub ca: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// The server's key.
    pub key: PathBuf,
}

impl Identity {
    /// Makes a CA and a certificate for `localhost` and `127.0.0.1`, good for a day, and writes them into `folder`.
    pub fn make(folder: &Path) -> Identity {
        let ca = issuer();
        let key = KeyPair::generate().expect("a key pair is generated");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = dated(CertificateParams::new(names).expect("the names are valid"))
            .signed_by(&key, &ca)
            .expect("the CA signs");
        let write = |name: &str, pem: String| {
            let path = folder.join(name);
            fs::write(&path, pem).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            path
        };
        Identity {
            ca: write("gateway-ca.pem", ca.pem()),
            certificate: write("gateway.pem", certificate.pem()),
            key: write("gateway.key", key.serialize_pem()),
        }
    }
}

fn issuer() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = dated(CertificateParams::default());
    params.distinguished_name.push(DnType::CommonName, "Gateways of a test");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key pair is generated");
    CertifiedIssuer::self_signed(params, key).expect("the CA signs itself")
}

fn dated(mut params: CertificateParams) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(1);
    params
}
