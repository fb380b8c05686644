//! Everything that is issued, judged by software that we did not write: pkilint and OpenSSL.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use der::{Decode, Encode, asn1::ObjectIdentifier, oid::AssociatedOid};
use fleetca_tests::{
    device::Device,
    http, openssl,
    pem::{read_certificates, write_certificate, write_crl},
    pkilint::{self, Subject},
    server::{PUBLIC_URL, Server},
    tls,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_cert::{
    Certificate,
    ext::pkix::{
        CrlDistributionPoints,
        crl::dp::DistributionPoint,
        name::{DistributionPointName, GeneralName},
    },
};

/// How far notBefore lies before the issuance, in seconds, where the settings say nothing else.
const BACKDATED: u64 = 300;

/// One of each kind of thing that a CA issues, as PEM files.
struct Exhibits {
    server: Server,
    /// Every certificate, with that of its issuer.
    certificates: Vec<(PathBuf, PathBuf)>,
    crls: Vec<(Subject, PathBuf)>,
}

/// The URL of a certificate's one CRL distribution point.
fn distribution_point(certificate: &Certificate) -> String {
    let extensions = certificate.tbs_certificate().extensions().expect("extensions");
    let points = extensions.iter().find(|extension| extension.extn_id == CrlDistributionPoints::OID);
    let points = CrlDistributionPoints::from_der(points.expect("a CRLDP").extn_value.as_bytes()).expect("a CRLDP");
    match &points.0[..] {
        [DistributionPoint { distribution_point: Some(DistributionPointName::FullName(names)), .. }] => {
            match &names[..] {
                [GeneralName::UniformResourceIdentifier(url)] => url.to_string(),
                other => panic!("not one URL: {other:?}"),
            }
        }
        other => panic!("not one distribution point: {other:?}"),
    }
}

/// The ID of an issuer: the first 16 hexadecimal digits of the SHA-256 of its public key.
fn issuer_id(certificate: &[u8]) -> String {
    let certificate = Certificate::from_der(certificate).expect("an issuer's certificate");
    let spki = certificate.tbs_certificate().subject_public_key_info().to_der().expect("it was DER");
    let digest = ring::digest::digest(&ring::digest::SHA256, &spki);
    digest.as_ref()[..8].iter().map(|octet| format!("{octet:02x}")).collect()
}

impl Exhibits {
    fn collect() -> Exhibits {
        let server = Server::start();
        let admin = server.admin();
        admin.create_fleet("sensors");
        admin.run(&["fleet", "create", "pumps", "--attest", "token", "--crl-scope", "device"]);
        let sensor = Device::enroll(&server, "sensors", "sensor-1");
        let pump = Device::enroll(&server, "pumps", "pump-1");
        let revoked = Device::enroll(&server, "pumps", "pump-2");
        admin.run(&["device", "revoke", "pump-2", "--reason", "keyCompromise"]);
        let gateway = Device::enroll_gateway(&server, "eu-7");
        let operator = Device::new(server.dir().join("operator"));

        let folder = server.scratch();
        let write = |name: &str, der: &[u8]| write_certificate(folder, name, der);
        let (control_root, device_root) = (server.control_root(), server.device_root());
        let control_ca = write("control-ca", &operator.chain()[1]);
        let issuing_ca = write("issuing-ca", &sensor.chain()[1]);
        let chain = tls::server_chain(server.addresses().devices.port(), &control_root);
        let certificates = vec![
            (control_root.clone(), control_root.clone()),
            (device_root.clone(), device_root.clone()),
            (control_ca.clone(), control_root),
            (issuing_ca.clone(), device_root),
            (write("server", &chain[0]), control_ca.clone()),
            (write("operator", &operator.chain()[0]), control_ca.clone()),
            (write("gateway", &gateway.chain()[0]), control_ca),
            (write("sensor-1", &sensor.chain()[0]), issuing_ca.clone()),
            (write("pump-1", &pump.chain()[0]), issuing_ca),
        ];
        let crls = certificates[..4]
            .iter()
            .map(|(path, _)| {
                let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
                let id = issuer_id(&read_certificates(path)[0]);
                let crl = http::get(&server.http_url(&format!("/crl/{id}/full.crl"))).ok();
                let subject = if name.ends_with("root") { Subject::Arl } else { Subject::Crl };
                (subject, write_crl(folder, &format!("{name}-crl"), &crl))
            })
            .collect::<Vec<_>>();
        let point = distribution_point(&revoked.certificate());
        let list = http::get(&server.http_url(point.strip_prefix(PUBLIC_URL).expect("it is ours"))).ok();
        let crls = [crls, vec![(Subject::Crl, write_crl(folder, "pump-2-list", &list))]].concat();
        Exhibits { server, certificates, crls }
    }
}

/// Runs a check for every item, on as many threads as there are processors, and gives what it found.
fn check_all<T: Sync>(items: &[T], check: impl Fn(&T) -> Vec<String> + Sync) -> Vec<String> {
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let check = &check;
    thread::scope(|scope| {
        let share = items.len().div_ceil(threads).max(1);
        let workers: Vec<_> =
            items.chunks(share).map(|chunk| scope.spawn(|| chunk.iter().flat_map(check).collect::<Vec<_>>())).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no check panics")).collect()
    })
}

fn about(path: &Path, findings: Option<Vec<String>>) -> Vec<String> {
    let name = path.file_name().expect("a name").to_string_lossy();
    findings.into_iter().flatten().map(|finding| format!("{name}: {finding}")).collect()
}

fn pkilint_is_content(exhibits: &Exhibits) {
    let findings = check_all(&exhibits.certificates, |(certificate, issuer)| {
        let mut findings = about(certificate, pkilint::findings(Subject::Certificate, certificate));
        // A root is its own issuer, and need not say so by an authority key identifier.
        if issuer != certificate {
            findings.extend(about(certificate, pkilint::pair_findings(issuer, certificate)));
        }
        findings
    });
    assert!(findings.is_empty(), "{findings:#?}");
    let findings = check_all(&exhibits.crls, |(subject, crl)| about(crl, pkilint::findings(*subject, crl)));
    assert!(findings.is_empty(), "{findings:#?}");
}

/// Every leaf, under its root, with the CRLs of its whole chain.
fn openssl_is_content(exhibits: &Exhibits) {
    let folder = exhibits.server.scratch();
    let read = |name: &str| fs::read_to_string(folder.join(format!("{name}.pem"))).expect("an exhibit");
    let crls = folder.join("all-crls.pem");
    let names = ["control-root-crl", "device-root-crl", "control-ca-crl", "issuing-ca-crl"];
    fs::write(&crls, names.map(read).concat()).expect("a file is written");
    for (leaf, issuer) in &exhibits.certificates[4..] {
        let root = &exhibits.certificates.iter().find(|(path, _)| path == issuer).expect("its issuer is here").1;
        if let Some(verdict) = openssl::verify(leaf, root, Some(issuer), Some(&crls)) {
            assert!(verdict.code == 0, "{}: {verdict:?}", leaf.display());
        }
    }
}

#[test]
fn pkilint_and_openssl_are_content_with_everything_that_is_issued() {
    let exhibits = Exhibits::collect();
    pkilint_is_content(&exhibits);
    openssl_is_content(&exhibits);
}

#[test]
fn openssl_refuses_a_revoked_device() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    let device = Device::enroll(&server, "sensors", "sensor-1");
    server.admin().run(&["device", "revoke", "sensor-1", "--reason", "keyCompromise"]);
    let bundle = server.scratch().join("bundle.pem");
    fs::write(&bundle, http::get(&server.http_url("/crl/bundle.pem")).ok()).expect("a file is written");
    let chain = device.presented().chain;
    let Some(verdict) = openssl::verify(&chain, &server.device_root(), Some(&chain), Some(&bundle)) else { return };
    assert_ne!(verdict.code, 0);
    assert!(verdict.stderr.contains("certificate revoked"), "{verdict:?}");
}

/// How long a certificate is valid from its issuance on, in seconds.
fn lasts(certificate: &Certificate) -> u64 {
    let validity = certificate.tbs_certificate().validity();
    let span = validity.not_after.to_unix_duration() - validity.not_before.to_unix_duration();
    span.as_secs() - BACKDATED
}

#[test]
fn everything_lasts_as_long_as_is_documented_and_has_a_p_256_key() {
    const DAY: u64 = 24 * 3600;
    let server = Server::start();
    let admin = server.admin();
    admin.create_fleet("sensors");
    admin.run(&["fleet", "create", "brief", "--validity", "5m"]);
    let issuers = admin.run(&["issuer", "list"]);
    let issuer = |hierarchy: &str| {
        let found = issuers.as_array().expect("a list").iter().find(|issuer| issuer["hierarchy"] == hierarchy);
        let pem = found.expect("an issuer")["pem"].as_str().expect("PEM").to_owned();
        CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM").into_owned()
    };
    let leaf = |device: Device| device.chain()[0].clone().into_owned();
    for (certificate, expected) in [
        (issuer("control-root"), 20 * 365 * DAY),
        (issuer("device-root"), 20 * 365 * DAY),
        (issuer("control"), 3 * 365 * DAY),
        (issuer("device"), 3 * 365 * DAY),
        (tls::server_chain(server.addresses().devices.port(), &server.control_root())[0].clone(), 30 * DAY),
        (leaf(Device::new(server.admin().credential().to_path_buf())), 30 * DAY),
        (leaf(Device::enroll_gateway(&server, "eu-7")), 7 * DAY),
        (leaf(Device::enroll(&server, "sensors", "sensor-1")), DAY),
        (leaf(Device::enroll(&server, "brief", "brief-1")), 300),
    ] {
        let certificate = Certificate::from_der(&certificate).expect("a certificate");
        let name = certificate.tbs_certificate().subject().to_string();
        assert_eq!(lasts(&certificate), expected, "{name}");
        let algorithm = &certificate.tbs_certificate().subject_public_key_info().algorithm;
        let curve = algorithm.parameters.as_ref().and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
        assert_eq!(curve.expect("a named curve").to_string(), "1.2.840.10045.3.1.7", "{name}");
    }
}
