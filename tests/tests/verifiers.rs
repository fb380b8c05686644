//! Verifiers that others wrote, each with our complete CRLs: the good pass, who is revoked or on hold does not, and
//! neither does anybody where a CRL is missing or was changed, as far as the verifier looks. Of both hierarchies: chains of devices under two issuing CAs, and gateways'.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fleetca_tests::{binaries, device::Device, http, openssl, pem, process::run, require, server::Server};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};

const GOOD: &str = "good";
const HELD: &str = "revoked CERTIFICATE_HOLD";
const GONE: &str = "revoked UNSPECIFIED";

/// A chain, and what is to be said of it.
struct Case {
    holder: Device,
    says: &'static str,
}

impl Case {
    /// Leaf, then issuing CA (PEM).
    fn chain(&self) -> PathBuf {
        self.holder.presented().chain
    }
}

/// One hierarchy.
struct Hierarchy {
    root: PathBuf,
    cases: Vec<Case>,
}

struct World {
    server: Server,
    devices: Hierarchy,
    gateways: Hierarchy,
    /// Every issuer's complete CRL (PEM).
    crls: PathBuf,
}

impl World {
    fn new() -> World {
        let mut server = Server::start_with_limits(&[("issuer_wait_seconds", 0)]);
        server.admin().create_fleet("sensors");
        create_issuer(&mut server);
        let admin = server.admin();
        let mut cases = Vec::new();
        for devices in spread(&server) {
            for (holder, says) in devices.into_iter().zip([GOOD, HELD, GOOD, GONE]) {
                cases.push(Case { holder, says });
            }
        }
        for (n, case) in cases.iter().enumerate() {
            let id = case.holder.folder().file_name().expect("a name").to_str().expect("UTF-8");
            let actions: &[&str] = [&[][..], &["hold"], &["hold", "release"], &["revoke"]][n % 4];
            actions.iter().for_each(|action| drop(admin.run(&["device", action, id])));
        }
        let gateway = |id, says| Case { holder: Device::enroll_gateway(&server, id), says };
        let gateways = vec![gateway("eu-7", GOOD), gateway("eu-8", GONE)];
        admin.run(&["gateway", "revoke", "eu-8"]);
        let crls = server.scratch().join("crls.pem");
        fs::write(&crls, ids(&server).iter().map(|id| crl(&server, id)).collect::<String>()).expect("a file");
        let devices = Hierarchy { root: server.device_root(), cases };
        let gateways = Hierarchy { root: server.control_root(), cases: gateways };
        World { server, devices, gateways, crls }
    }

    fn hierarchies(&self) -> [&Hierarchy; 2] {
        [&self.devices, &self.gateways]
    }

    /// Holds what a verifier says to what is so, with all CRLs.
    fn judge(&self, says: impl Fn(&Hierarchy, &Case) -> bool) {
        for hierarchy in self.hierarchies() {
            for case in &hierarchy.cases {
                let good = case.says == GOOD;
                assert_eq!(says(hierarchy, case), good, "{}", case.chain().display());
            }
        }
    }

    /// The IDs of the device root and of the first device's issuing CA.
    fn needed(&self) -> [String; 2] {
        let chain = [&self.devices.cases[0].chain(), &self.devices.root].map(|path| pem::read_certificates(path));
        let of = |certificate: &CertificateDer<'_>| {
            let is_its =
                |id: &&String| http::get(&self.server.http_url(&format!("/issuers/{id}.cer"))).ok() == **certificate;
            ids(&self.server).iter().find(is_its).expect("an issuer").clone()
        };
        [of(&chain[1][0]), of(&chain[0][1])]
    }

    /// Files with all CRLs but one: each time another of those that the first device's chain needs.
    fn incomplete(&self) -> [PathBuf; 2] {
        self.needed().map(|missing| {
            let path = self.server.scratch().join(format!("without-{missing}.pem"));
            let others = ids(&self.server).into_iter().filter(|id| *id != missing);
            fs::write(&path, others.map(|id| crl(&self.server, &id)).collect::<String>()).expect("a file");
            path
        })
    }

    /// A file with all CRLs, that of the first device's issuing CA with another signature.
    fn changed(&self) -> PathBuf {
        let [_, issuing] = self.needed();
        let mut der = http::get(&self.server.http_url(&format!("/crl/{issuing}/full.crl"))).ok();
        *der.last_mut().expect("a CRL has octets") ^= 1;
        let changed = text(&pem::write_crl(self.server.scratch(), "signed-otherwise", &der));
        let path = self.server.scratch().join("changed.pem");
        let others = ids(&self.server).into_iter().filter(|id| *id != issuing);
        fs::write(&path, others.map(|id| crl(&self.server, &id)).collect::<String>() + &changed).expect("a file");
        path
    }
}

/// One more issuing CA for devices; the server is stopped for it.
fn create_issuer(server: &mut Server) {
    server.stop();
    let mut command = Command::new(binaries::ca_server());
    command.args(["issuer", "create", "--dir"]).arg(server.dir()).arg("--root-dir").arg(server.dir().join("offline"));
    run(&mut command).succeeded();
    server.start_again();
}

/// Four devices under each of two issuing CAs.
fn spread(server: &Server) -> Vec<Vec<Device>> {
    let mut under: BTreeMap<Vec<u8>, Vec<Device>> = BTreeMap::new();
    for n in 0..64 {
        let device = Device::enroll(server, "sensors", &format!("sensor-{n}"));
        let devices = under.entry(device.chain()[1].to_vec()).or_default();
        devices.push(device);
        if under.len() == 2 && under.values().all(|devices| devices.len() >= 4) {
            return under.into_values().collect();
        }
    }
    panic!("of 64 devices hardly any came under one of the two");
}

/// The IDs of all issuers.
fn ids(server: &Server) -> Vec<String> {
    let issuers = server.admin().run(&["issuer", "list"]);
    let ids = issuers.as_array().expect("a list").iter().map(|issuer| issuer["id"].as_str().expect("an ID"));
    ids.map(str::to_owned).collect()
}

/// An issuer's complete CRL (PEM).
fn crl(server: &Server, id: &str) -> String {
    let pem = http::get(&server.http_url(&format!("/crl/{id}/full.pem"))).ok();
    String::from_utf8(pem).expect("PEM")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("PEM")
}

#[test]
fn openssl_lets_in_who_is_good_and_nobody_without_all_crls() {
    let world = World::new();
    if require::program("openssl").is_none() {
        return;
    }
    let verify = |hierarchy: &Hierarchy, case: &Case, crls: &Path| {
        let verified = openssl::verify(&case.chain(), &hierarchy.root, Some(&case.chain()), Some(crls));
        verified.expect("openssl is there").code == 0
    };
    world.judge(|hierarchy, case| verify(hierarchy, case, &world.crls));
    for crls in world.incomplete().into_iter().chain([world.changed()]) {
        assert!(!verify(&world.devices, &world.devices.cases[0], &crls), "{}", crls.display());
    }
}

#[test]
fn gnutls_lets_in_who_is_good_and_takes_each_issuers_crl() {
    let world = World::new();
    let Some(certtool) = require::program("certtool") else { return };
    world.judge(|hierarchy, case| {
        let mut command = Command::new(&certtool);
        command.args(["--verify", "--load-ca-certificate"]).arg(&hierarchy.root).arg("--load-crl").arg(&world.crls);
        let by_list = run(command.arg("--infile").arg(case.chain())).code == 0;
        // `--verify-chain` reads everything from one file, and passes `--load-crl` over without a word.
        let whole = world.server.scratch().join("whole.pem");
        fs::write(&whole, [text(&case.chain()), text(&hierarchy.root), text(&world.crls)].concat()).expect("a file");
        let chain = run(Command::new(&certtool).arg("--verify-chain").arg("--infile").arg(&whole));
        let by_chain = !chain.stdout.contains("NOT trusted");
        assert_eq!(by_list, by_chain, "{}: {chain:?}", case.chain().display());
        by_list
    });
    // It misses no CRL: whoever lets it judge has to see to the set.
    for crls in world.incomplete() {
        let mut command = Command::new(&certtool);
        command.args(["--verify", "--load-ca-certificate"]).arg(&world.devices.root).arg("--load-crl").arg(crls);
        run(command.arg("--infile").arg(world.devices.cases[0].chain())).succeeded();
    }
    let chain = text(&world.devices.cases[0].chain());
    let issuing = world.server.scratch().join("issuing.pem");
    fs::write(&issuing, &chain[chain.rfind("-----BEGIN").expect("PEM")..]).expect("a file");
    let lists = world.needed().map(|id| crl(&world.server, &id));
    for (signer, list, fits) in [(&issuing, 1, true), (&world.devices.root, 0, true), (&world.devices.root, 1, false)] {
        let file = world.server.scratch().join("crl.pem");
        fs::write(&file, &lists[list]).expect("a file");
        let mut command = Command::new(&certtool);
        command.args(["--verify-crl", "--load-ca-certificate"]).arg(signer).arg("--infile").arg(&file);
        let verified = run(&mut command);
        assert_eq!(verified.stdout.contains("Verification output: Verified"), fits, "{verified:?}");
    }
}

/// By rustls-webpki, as rustls does it: the whole chain, an unknown status refused, and so is a CRL out of date.
fn webpki_lets_in(hierarchy: &Hierarchy, case: &Case, crls: &Path) -> bool {
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(case.chain()).expect("PEM").map(|der| der.expect("DER")).collect();
    let root = CertificateDer::from_pem_file(&hierarchy.root).expect("PEM");
    let anchors = [anchor_from_trusted_cert(&root).expect("a root")];
    let crls = CertificateRevocationListDer::pem_file_iter(crls).expect("PEM");
    let crls: Vec<_> = crls
        .map(|der| CertRevocationList::from(OwnedCertRevocationList::from_der(&der.expect("DER")).expect("a CRL")))
        .collect();
    let crls: Vec<_> = crls.iter().collect();
    let options = RevocationOptionsBuilder::new(&crls)
        .expect("there are CRLs")
        .with_depth(RevocationCheckDepth::Chain)
        .with_status_policy(UnknownStatusPolicy::Deny)
        .with_expiration_policy(ExpirationPolicy::Enforce)
        .build();
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    let leaf = EndEntityCert::try_from(&chain[0]).expect("a leaf");
    let verified = leaf.verify_for_usage(
        algorithms,
        &anchors,
        &chain[1..],
        UnixTime::now(),
        KeyUsage::client_auth(),
        Some(options),
        None,
    );
    match verified {
        Ok(_) => true,
        Err(
            webpki::Error::CertRevoked
            | webpki::Error::UnknownRevocationStatus
            | webpki::Error::InvalidCrlSignatureForPublicKey,
        ) => false,
        Err(error) => panic!("{}: {error}", case.chain().display()),
    }
}

#[test]
fn rustls_webpki_lets_in_who_is_good_and_nobody_without_all_crls() {
    let world = World::new();
    world.judge(|hierarchy, case| webpki_lets_in(hierarchy, case, &world.crls));
    for crls in world.incomplete().into_iter().chain([world.changed()]) {
        assert!(!webpki_lets_in(&world.devices, &world.devices.cases[0], &crls), "{}", crls.display());
    }
}

/// Runs a program that prints a line for each chain, its file and a verdict, and gives the verdicts.
fn verdicts(command: &mut Command, cases: &[Case]) -> Vec<String> {
    let said = run(command.args(cases.iter().map(Case::chain))).succeeded();
    let of = |case: &Case| {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("{}: ", case.chain().display())));
        line.unwrap_or_else(|| panic!("nothing of {}: {said}", case.chain().display())).to_owned()
    };
    cases.iter().map(of).collect()
}

/// Builds what asks mbedTLS, which has no program for it in Debian.
fn mbedtls(folder: &Path) -> Option<PathBuf> {
    require::file(Path::new("/usr/include/mbedtls/x509_crt.h"), "it is in Debian's libmbedtls-dev")?;
    let program = folder.join("verify");
    let mut compile = Command::new(require::program("cc")?);
    compile.args(["-Wall", "-Werror", "-o"]).arg(&program);
    compile.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("c/verify.c")).args(["-lmbedx509", "-lmbedcrypto"]);
    run(&mut compile).succeeded();
    Some(program)
}

#[test]
fn mbedtls_lets_in_who_is_good_and_nobody_by_a_crl_that_was_changed() {
    let world = World::new();
    let Some(program) = mbedtls(world.server.scratch()) else { return };
    let command = |hierarchy: &Hierarchy, crls: &Path| {
        let mut command = Command::new(&program);
        command.arg(&hierarchy.root).arg(crls);
        command
    };
    for hierarchy in world.hierarchies() {
        let expected = hierarchy.cases.iter().map(|case| if case.says == GOOD { GOOD } else { "revoked" });
        let says = verdicts(&mut command(hierarchy, &world.crls), &hierarchy.cases);
        assert_eq!(says, expected.collect::<Vec<_>>());
    }
    let first = |crls: &Path| verdicts(&mut command(&world.devices, crls), &world.devices.cases[..1]).remove(0);
    let changed = first(&world.changed());
    assert!(changed.contains("CRL is not correctly signed"), "{changed}");
    // It misses no CRL: whoever lets it judge has to see to the set.
    for crls in world.incomplete() {
        assert_eq!(first(&crls), GOOD, "{}", crls.display());
    }
    let cut = world.server.scratch().join("cut.pem");
    let whole = text(&world.crls);
    fs::write(&cut, &whole[..whole.len() / 2]).expect("a file");
    assert_eq!(run(&mut command(&world.devices, &cut)).code, 2, "half of a file");
}

#[test]
fn java_lets_in_who_is_good_by_crls_and_by_ocsp() {
    let world = World::new();
    // It compiles what it runs.
    let (Some(java), Some(_)) = (require::program("java"), require::program("javac")) else { return };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("java/Verify.java");
    let says = |hierarchy: &Hierarchy, crls: &Path| {
        let mut command = Command::new(&java);
        // Quick to start; and nothing is fetched that is not asked for.
        command.args(["-XX:TieredStopAtLevel=1", "-Xshare:auto"]).arg(&program).arg(&hierarchy.root).arg(crls);
        verdicts(command.arg(world.server.http_url("/ocsp")), &hierarchy.cases)
    };
    for hierarchy in world.hierarchies() {
        let expected: Vec<_> = hierarchy.cases.iter().map(|case| format!("{0}, {0}", case.says)).collect();
        assert_eq!(says(hierarchy, &world.crls), expected, "by CRLs, by OCSP");
    }
    // What certificates point to is not there: nothing takes the place of the root's CRL.
    let missing = says(&world.devices, &world.incomplete()[0]);
    assert!(missing[0].starts_with("UNDETERMINED_REVOCATION_STATUS"), "{missing:?}");
}
