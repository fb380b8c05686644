//! A CA of devices under a root of somebody else's: the root is made and used by `openssl` alone, and its key is never here.

use std::{fs, path::Path};

use ca_server::step::Step;
use fleetca_tests::{
    corporation::{
        Corporation, ISSUING, ROOT,
        asked::{Asked, bundle, ca_server, device_issuers, dies, names, path, sync, verified},
        request_text,
    },
    crl::Crl,
    device::Device,
    http,
    process::run,
    server::TRUST_DOMAIN,
};
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn devices_live_under_a_corporate_root_from_the_request_to_their_revocation() {
    let Some(asked) = Asked::new("rsa:2048") else { return };
    let text = request_text(&asked.csr()).succeeded();
    for wanted in
        ["Fleet CA device issuing", "CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "Subject Key Identifier"]
    {
        assert!(text.contains(wanted), "{wanted} in: {text}");
    }
    // Nothing but the request, and nothing serves.
    let dir = asked.dir();
    assert_eq!(names(&dir), ["requests"]);
    let refused = ca_server(&["serve", "--dir", path(&dir)]);
    assert!(refused.code == 1 && refused.stderr.contains("waits for the certificate of its issuing CA"), "{refused:?}");
    let refused = ca_server(&["init", "--dir", path(&dir), "--trust-domain", TRUST_DOMAIN]);
    assert!(refused.code == 1 && refused.stderr.contains("a request for the certificate"), "{refused:?}");
    // The same again gives the same request; another does not take its place.
    let csr = fs::read(asked.csr()).expect("a file");
    fs::remove_file(asked.csr()).expect("it is there");
    ca_server(&asked.ask()).succeeded();
    assert_eq!(fs::read(asked.csr()).expect("a file"), csr);
    let mut other = asked.ask();
    other[4] = "other.test";
    assert!(ca_server(&other).stderr.contains("with other settings"));

    let roots = asked.roots();
    let (server, corporation) = asked.served();
    assert!(!names(&server.dir()).contains(&"requests".to_owned()));
    assert_eq!(names(&roots), ["control-root.crl", "control-root.key.pem", "control-root.pem"]);
    let pem = |path: &Path| fs::read_to_string(path).expect("a file").replace(['\r', '\n'], "");
    assert_eq!(pem(&server.device_root()), pem(&corporation.root()));
    assert_eq!(http::get(&server.metrics_url("/readyz")).status, 200);

    let admin = server.admin();
    admin.create_fleet("pumps");
    let (good, bad) = (Device::enroll(&server, "pumps", "good"), Device::enroll(&server, "pumps", "bad"));
    good.renew();
    for device in [&good, &bad] {
        verified(&server, device).succeeded();
    }
    let receipt = admin.run(&["device", "revoke", "bad", "--reason", "keyCompromise"]);
    assert_eq!(receipt["crls"][0]["issuer"], device_issuers(&server)[0]["id"]);
    verified(&server, &good).succeeded();
    let refused = verified(&server, &bad);
    assert!(refused.code != 0 && refused.stderr.contains("certificate revoked"), "{refused:?}");
    let refused = run(bad.command("renew").arg("--force"));
    assert_eq!(refused.code, 1, "{refused:?}");

    // Both ways of a gateway to its file.
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let (over_mtls, over_http) = (server.scratch().join("mtls.pem"), server.scratch().join("http.pem"));
    sync(&["--dir", path(gateway.folder())], &over_mtls).succeeded();
    sync(&["--http-url", &server.http_url(""), "--trust", path(&server.device_root())], &over_http).succeeded();
    for file in [over_mtls, over_http] {
        let crls = Crl::all_from_pem(&fs::read_to_string(file).expect("a file"));
        assert!(crls.len() == 2 && crls.iter().any(|crl| crl.lists(&bad.serial())), "{crls:?}");
    }
    // What else stands on the root: the URLs in certificates, and a backup.
    let status = admin.run(&["crl", "status"]);
    let of_root =
        status.as_array().expect("a list").iter().find(|crl| crl["hierarchy"] == "device-root").expect("it is there");
    assert_eq!(of_root["number"], 0x1000);
    let root = of_root["issuer"].as_str().expect("an ID");
    assert_eq!(http::get(&server.http_url(&format!("/issuers/{root}.cer"))).status, 200);
    assert_eq!(Crl::fetch(&server, root).number(), 0x1000);
    let (backup, restored) = (server.scratch().join("backup"), server.scratch().join("restored"));
    ca_server(&["backup", "--dir", path(&server.dir()), "--out", path(&backup)]).succeeded();
    let keys = server.dir().join("keys");
    let restore = ["restore", "--from", path(&backup), "--dir", path(&restored), "--keys", path(&keys)];
    ca_server(&[&restore[..], &["--crl", path(&bundle(&server)), "--resume"]].concat()).succeeded();
    admin.run(&["audit", "verify"]);
    let signed: Value = serde_json::from_str(
        &ca_server(&["root", "sign-crl", "--root-dir", path(&roots), "--output", "json"]).succeeded(),
    )
    .expect("JSON");
    assert_eq!(signed.as_array().map(Vec::len), Some(1), "the control root's only: {signed}");
}

#[test]
fn an_answer_that_devices_could_not_stand_on_is_refused_with_its_fault_and_leaves_the_request_waiting() {
    let Some(asked) = Asked::new("P-384") else { return };
    let (corporation, csr) = (&asked.corporation, asked.csr());
    let (root, crl) = (corporation.root(), corporation.crl());
    let scratch = asked.folder.path();
    let refused = |issuing: &Path, root: &Path, crl: &Path, why: &str| {
        let refused = asked.answer(issuing, root, crl);
        assert!(refused.code == 1 && refused.stderr.contains(why), "not {why:?}, but {refused:?}");
        assert_eq!((names(&asked.dir()), asked.roots().exists()), (vec!["requests".to_owned()], false), "{why}");
    };
    let good = corporation.sign(&csr);
    let with = |line: &str| format!("{ISSUING}{line}\n");
    let cases = [
        (corporation.sign(&corporation.request("/CN=Another")), "for another key than the request's"),
        (
            corporation.sign_with(&csr, "keyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\n", &[]),
            "is not a CA's",
        ),
        (corporation.sign_with(&csr, &ISSUING.replace(",cRLSign", ""), &[]), "is not a CA's"),
        (corporation.sign_with(&csr, &ISSUING.replace("keyCertSign,", ""), &[]), "is not a CA's"),
        (
            corporation.sign_with(
                &csr,
                &ISSUING.replace("subjectKeyIdentifier=hash", "subjectKeyIdentifier=none"),
                &[],
            ),
            "no subject key identifier",
        ),
        (
            corporation.sign_with(&csr, ISSUING, &["-startdate", "20200101000000Z", "-enddate", "20210101000000Z"]),
            "it has expired",
        ),
        (
            corporation.sign_with(&csr, ISSUING, &["-startdate", "20480101000000Z", "-enddate", "20490101000000Z"]),
            "outlives its issuer",
        ),
        (corporation.sign_with(&csr, ISSUING, &["-days", "9000"]), "outlives its issuer"),
        (
            corporation.sign_with(&csr, &with("nameConstraints=critical,permitted;DNS:corp.example"), &[]),
            "nameConstraints",
        ),
        (corporation.sign_with(&csr, &with("extendedKeyUsage=serverAuth"), &[]), "extendedKeyUsage"),
        (corporation.sign_with(&csr, &with("policyConstraints=requireExplicitPolicy:0"), &[]), "policyConstraints"),
        (
            corporation.sign_with(&csr, &with("1.3.6.1.4.1.99999.7=critical,DER:0500"), &[]),
            "1.3.6.1.4.1.99999.7 is critical",
        ),
        (corporation.intermediate().sign(&csr), "have to be signed by the root itself"),
        (root.clone(), "for another key"),
        (csr.clone(), "something else in it"),
    ];
    for (issuing, why) in cases {
        refused(&issuing, &root, &crl, why);
    }
    // Of the same name, and of another key.
    let impostor = Corporation::new(&scratch.join("impostor"), "P-384").expect("OpenSSL is there");
    refused(&impostor.sign(&csr), &root, &crl, "another issuer's key");

    // The root itself.
    let odd = |name: &str, kind: &str, extensions: &str, options: &[&str]| {
        let corporation = Corporation::with(&scratch.join(name), kind, extensions, options).expect("OpenSSL is there");
        (corporation.sign_with(&csr, ISSUING, &["-days", "1"]), corporation.root(), corporation.crl())
    };
    let days = ["-days", "3650"];
    for ((issuing, root, crl), why) in [
        (odd("short", "P-256", &ROOT.replace("CA:TRUE", "CA:TRUE,pathlen:0"), &days), "lets no CA stand below it"),
        (odd("mute", "P-256", &ROOT.replace(",cRLSign", ""), &days), "is not a CA's"),
        (
            odd("narrow", "P-256", &format!("{ROOT}nameConstraints=permitted;DNS:corp.example\n"), &days),
            "nameConstraints",
        ),
        (odd("weak", "rsa:1024", ROOT, &days), "an RSA key has 1024 bits"),
        (odd("curve", "P-521", ROOT, &days), "are not supported"),
        (odd("old", "rsa:2048", ROOT, &["-days", "3650", "-sha1"]), "is not supported; RSA"),
    ] {
        refused(&issuing, &root, &crl, why);
    }
    let below = corporation.intermediate();
    refused(&below.sign(&csr), &below.root(), &below.crl(), "this is no root");

    // The root's CRL.
    refused(&good, &root, &impostor.crl(), "the CRL is another issuer's");
    let stale = corporation.crl_with(&["-crl_lastupdate", "20250101000000Z", "-crl_nextupdate", "20250201000000Z"]);
    refused(&good, &root, &stale, "and not now");
    refused(&good, &root, &root, "not exactly one CRL");
    let mut forged = pem_der(&crl);
    *forged.last_mut().expect("octets") ^= 1;
    let forged_file = scratch.join("forged.crl");
    fs::write(&forged_file, forged).expect("a file");
    refused(&good, &root, &forged_file, "is not signed by its issuer");
    let revoked = corporation.sign(&csr);
    corporation.revoke(&revoked, "superseded");
    refused(&revoked, &root, &corporation.crl(), "it revokes the issuing CA's certificate");

    asked.answer(&good, &root, &corporation.crl()).succeeded();
}

#[test]
fn an_init_under_a_corporate_root_killed_at_any_step_goes_on_with_the_same_command() {
    let scratch = TempDir::new().expect("a temporary folder");
    let Some(corporation) = Corporation::new(&scratch.path().join("corporation"), "ed25519") else { return };
    let crl = corporation.crl();
    for folders_are_there in [false, true] {
        let mut deaths = 0;
        for step in Step::ALL {
            for times in 1.. {
                let folder = TempDir::new().expect("a temporary folder");
                let asked = Asked { folder, corporation: corporation.clone() };
                let ask = asked.ask();
                if folders_are_there {
                    [asked.dir(), asked.roots()].iter().for_each(|folder| fs::create_dir(folder).expect("a folder"));
                }
                let died_asking = dies(step, times, asked.folder.path(), &ask);
                ca_server(&ask).succeeded();
                let issuing = corporation.sign(&asked.csr());
                let (dir, roots, root) = (asked.dir(), asked.roots(), corporation.root());
                let place = ["init", "--dir", path(&dir), "--root-dir", path(&roots)];
                let files = ["--issuer-cert", path(&issuing), "--root-cert", path(&root), "--root-crl", path(&crl)];
                let answer = [&place[..], &files].concat();
                let died = dies(step, times, asked.folder.path(), &answer);
                deaths += usize::from(died) + usize::from(died_asking);
                if died {
                    // Whatever is there: no server runs on a part of it.
                    let is_whole = dir.join("config.toml").exists();
                    let recovered = asked.folder.path().join("recovered");
                    let recover =
                        ["operator", "recover", "--dir", path(&dir), "--name", "probe", "--out", path(&recovered)];
                    assert_eq!(ca_server(&recover).code == 0, is_whole, "{step:?} {times}");
                    ca_server(&answer).succeeded();
                }
                assert!(!dir.join("requests").exists(), "{step:?} {times}");
                assert_eq!(names(&roots), ["control-root.crl", "control-root.key.pem", "control-root.pem"]);
                assert_eq!(names(asked.folder.path()).iter().filter(|name| name.contains("init")).count(), 0);
                let recovered = asked.folder.path().join("ana");
                let recover = ["operator", "recover", "--dir", path(&dir), "--name", "ana", "--out", path(&recovered)];
                ca_server(&recover).succeeded();
                if !died && !died_asking {
                    break;
                }
            }
        }
        assert!(deaths > 10, "{deaths}");
    }
}

/// The octets of a PEM file with one block.
fn pem_der(path: &Path) -> Vec<u8> {
    der::pem::decode_vec(&fs::read(path).expect("a file")).expect("PEM").1
}
