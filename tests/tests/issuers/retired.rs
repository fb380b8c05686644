//! What a retired issuing CA goes on answering: all that certificates which live still point to.

use fleetca_tests::{pem, server::PUBLIC_URL};
use rustls_pki_types::CertificateDer;

use super::*;

/// The paths of all URLs of ours in a certificate (DER): each stands behind its tag and its length.
fn paths(certificate: &[u8]) -> BTreeSet<String> {
    const URI: u8 = 0x86;
    let begins = |at: &usize| certificate[*at..].starts_with(PUBLIC_URL.as_bytes()) && certificate[at - 2] == URI;
    let url = |at: usize| &certificate[at + PUBLIC_URL.len()..at + usize::from(certificate[at - 1])];
    let urls = (2..certificate.len()).filter(begins).map(url);
    urls.map(|path| String::from_utf8(path.to_vec()).expect("a URL is ASCII")).collect()
}

/// What OpenSSL is told of a certificate, by POST, and believes. `None` where there is no OpenSSL.
fn ocsp(server: &Server, chain: &[CertificateDer<'_>]) -> Option<String> {
    let folder = server.scratch();
    let [leaf, issuing] =
        [("leaf", &chain[0]), ("issuing", &chain[1])].map(|(name, der)| pem::write_certificate(folder, name, der));
    let mut command = openssl::command()?;
    command.args(["ocsp", "-url", &server.http_url("/ocsp"), "-issuer"]).arg(&issuing).arg("-cert").arg(&leaf);
    let answer =
        run(command.arg("-no_nonce").arg("-CAfile").arg(server.device_root()).arg("-verify_other").arg(&issuing));
    assert!(answer.stderr.contains("Response verify OK"), "{answer:?}");
    let line = answer.stdout.lines().find_map(|line| line.strip_prefix(&format!("{}: ", path(&leaf))));
    Some(line.unwrap_or_else(|| panic!("{answer:?}")).to_owned())
}

#[test]
fn all_that_a_live_certificate_names_answers_when_its_issuing_ca_is_retired() {
    let mut server = server();
    server.stop();
    let settings = server.dir().join("config.toml");
    let text = fs::read_to_string(&settings).expect("there are settings");
    fs::write(&settings, format!("ocsp_in_certificates = true\n{text}")).expect("they can be written");
    server.start_again();
    let admin = server.admin();
    admin.create_fleet("pumps");
    admin.run(&["fleet", "create", "doors", "--crl-scope", "device"]);
    let one = first(&server);
    let fleets = [("pumps", "pump-1"), ("doors", "door-1"), ("doors", "door-2")];
    let devices = fleets.map(|(fleet, id)| (id, Device::enroll(&server, fleet, id)));
    let before = devices.each_ref().map(|(_, device)| (device.serial(), device.chain()));
    held(&mut server, "rotate", &one).succeeded();
    // Two of them have moved since; what they had is good until it expires.
    devices[..2].iter().for_each(|(_, device)| device.renew());
    let left = devices.each_ref().map(|(_, device)| issuer_of(&server, device) == one);
    assert_eq!((left, &use_of(&server, &one)["standing"]), ([false, false, true], &"retired".into()));

    for ((id, _), (serial, chain)) in devices.iter().zip(&before) {
        let named = paths(&chain[0]);
        let list = named.iter().find(|path| path.starts_with("/crl/")).expect("a distribution point");
        let expected = [list.clone(), format!("/issuers/{one}.cer"), "/ocsp".to_owned()];
        assert_eq!(named, BTreeSet::from(expected));
        for path in named.iter().chain(&paths(&chain[1])).filter(|path| *path != "/ocsp") {
            assert_eq!(http::get(&server.http_url(path)).status, 200, "{path}");
        }
        let listed = || Crl::from_der(&http::get(&server.http_url(list)).ok()).lists(serial);
        assert!(!listed(), "{id}");
        let Some(says) = ocsp(&server, chain) else { return };
        assert_eq!(says, "good", "{id}");
        admin.run(&["device", "revoke", id]);
        assert!(listed(), "{id}");
        assert_eq!(ocsp(&server, chain).as_deref(), Some("revoked"), "{id}");
    }
    let lists = before.each_ref().map(|(_, chain)| paths(&chain[0]).into_iter().find(|path| path.starts_with("/crl/")));
    assert_eq!(lists.iter().collect::<BTreeSet<_>>().len(), 3, "one for all, and a list of each device's own");
}
