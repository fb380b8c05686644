//! What a root of somebody else's signs later: its CRLs, and more issuing CAs of devices, made and ended.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ca_server::step::Step;
use fleetca_tests::{
    binaries,
    corporation::{
        Corporation, ISSUING,
        asked::{Asked, ca_server, device_issuers, dies, names, path, sync, verified},
    },
    crl::Crl,
    device::Device,
    http,
    process::{Finished, run},
    server::Server,
};
use serde_json::Value;

/// `ca-server issuer ACTION` with the control root's key at hand, while the server stands.
fn ceremony(server: &mut Server, action: &[&str]) -> Finished {
    server.stop();
    let (dir, roots) = (server.dir(), server.scratch().join("roots"));
    let place = ["--dir", path(&dir), "--root-dir", path(&roots), "--output", "json"];
    let finished = run(Command::new(binaries::ca_server()).arg("issuer").args(action).args(place));
    server.start_again();
    finished
}

/// A request for one more issuing CA, beside the server that runs.
fn request(server: &Server, name: &str) -> PathBuf {
    let (dir, csr) = (server.dir(), server.scratch().join(name));
    ca_server(&["issuer", "request", "--dir", path(&dir), "--csr-out", path(&csr)]).succeeded();
    csr
}

fn published(server: &Server, crl: &Path) -> Finished {
    server.admin().try_run(&["crl", "publish", "--root-crl", path(crl)])
}

#[test]
fn the_corporate_roots_crl_is_renewed_and_never_goes_back_nor_cuts_off_whom_the_ca_still_has_sign() {
    let Some(asked) = Asked::new("ed25519") else { return };
    let (server, corporation) = asked.served();
    server.admin().create_fleet("pumps");
    let device = Device::enroll(&server, "pumps", "pump-1");
    let number = || {
        let status = server.admin().run(&["crl", "status"]);
        let rows = status.as_array().expect("a list").iter();
        rows.filter(|crl| crl["hierarchy"] == "device-root")
            .map(|crl| crl["number"].as_u64().expect("a number"))
            .sum::<u64>()
    };
    let refused = |crl: &Path, why: &str| {
        let finished = published(&server, crl);
        assert!(finished.code == 1 && finished.stderr.contains(why), "not {why:?}, but {finished:?}");
    };
    let before = number();
    // Another CA of theirs, with a serial number of 20 octets.
    let other = corporation.sign(&corporation.request("/CN=Mail CA"));
    corporation.revoke(&other, "affiliationChanged");
    let second = corporation.crl();
    published(&server, &second).succeeded();
    assert_eq!(number(), before + 1);
    verified(&server, &device).succeeded();
    refused(&second, "does not exceed");
    let out = server.scratch().join("crls.pem");
    let gateway = Device::enroll_gateway(&server, "eu-7");
    sync(&["--dir", path(gateway.folder())], &out).succeeded();

    let stranger = Corporation::new(&server.scratch().join("stranger"), "P-256").expect("OpenSSL is there");
    refused(&stranger.crl(), "no such issuer");
    refused(
        &corporation.crl_with(&["-crl_lastupdate", "20250101000000Z", "-crl_nextupdate", "20250201000000Z"]),
        "and not now",
    );
    // What of theirs has expired leaves the list; nobody else is asked.
    corporation.forget_revoked();
    published(&server, &corporation.crl()).succeeded();
    // One that revokes the issuing CA is for the ceremony.
    let issuing = server.scratch().join("issuing.pem");
    let issuers = device_issuers(&server);
    fs::write(&issuing, issuers[0]["pem"].as_str().expect("PEM")).expect("a file");
    corporation.revoke(&issuing, "CACompromise");
    refused(&corporation.crl(), "which signs here");
    verified(&server, &device).succeeded();
    assert_eq!(http::get(&server.metrics_url("/readyz")).status, 200);
    sync(&["--dir", path(gateway.folder())], &out).succeeded();
}

#[test]
fn later_issuing_cas_come_and_go_by_what_the_corporate_root_signs() {
    let Some(asked) = Asked::new("P-384") else { return };
    let (mut server, corporation) = asked.served();
    let settings = server.dir().join("config.toml");
    let text = fs::read_to_string(&settings)
        .expect("settings")
        .replace("issuer_wait_seconds = 3600", "issuer_wait_seconds = 0");
    fs::write(&settings, text).expect("settings");
    let admin = server.admin();
    admin.create_fleet("pumps");
    let device = Device::enroll(&server, "pumps", "pump-1");
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let out = server.scratch().join("crls.pem");
    let one = device_issuers(&server)[0]["id"].as_str().expect("an ID").to_owned();

    // Without the root's key nothing is made here, and each command says what else to do.
    for action in [&["create"][..], &["rotate", &one]] {
        let refused = ceremony(&mut server, action);
        assert!(refused.stderr.contains("somebody else's") && refused.stderr.contains("issuer request"), "{refused:?}");
    }
    let refused = ceremony(&mut server, &["revoke", &one]);
    assert!(refused.stderr.contains("have it revoke the issuing CA"), "{refused:?}");

    let first = server.scratch().join("first.pem");
    let issuers = device_issuers(&server);
    let pem = issuers.iter().find(|issuer| issuer["id"] == one.as_str()).expect("it is there")["pem"].as_str();
    fs::write(&first, pem.expect("PEM")).expect("a file");
    let (csr, spare) = (request(&server, "two.csr"), request(&server, "spare.csr"));
    let two = corporation.sign(&csr);
    let wrong = [
        (corporation.intermediate().sign(&csr), "have to be signed by the root itself"),
        (corporation.sign(&corporation.request("/CN=Nobody")), "no request waits for it"),
        (
            corporation.sign_with(&csr, ISSUING, &["-startdate", "20200101000000Z", "-enddate", "20210101000000Z"]),
            "it has expired",
        ),
        (corporation.sign_with(&csr, ISSUING, &["-subj", &subject_of(&first)]), "already"),
    ];
    for (issuing, why) in &wrong {
        let refused = ceremony(&mut server, &["create", "--issuer-cert", path(issuing)]);
        assert!(refused.code == 1 && refused.stderr.contains(why), "not {why:?}, but {refused:?}");
    }
    // It takes over; the same command again is no other CA.
    let rotate = ["rotate", &one, "--issuer-cert", path(&two)];
    let made: Value = serde_json::from_str(&ceremony(&mut server, &rotate).succeeded()).expect("JSON");
    let second = made["issuer"].as_str().expect("an ID").to_owned();
    assert_eq!((ceremony(&mut server, &rotate).code, device_issuers(&server).len()), (0, 2));
    assert_eq!(names(&server.dir().join("requests")).len(), 2, "the spare one's key and request");
    let signed_by = |device: &Device| admin.run(&["certificate", "show", &device.serial()])["issuer"].clone();
    assert_eq!(signed_by(&device), one.as_str());
    sync(&["--dir", path(gateway.folder())], &out).succeeded();
    device.renew();
    assert_eq!(signed_by(&device), second.as_str());
    verified(&server, &device).succeeded();

    // The first one's key is stolen: the root revokes it, and only by its CRL does it go.
    let without = corporation.crl();
    let refused = ceremony(&mut server, &["revoke", &one, "--root-crl", path(&without)]);
    assert!(refused.stderr.contains("it does not revoke"), "{refused:?}");
    corporation.revoke(&first, "certificateHold");
    let held = corporation.crl();
    let refused = ceremony(&mut server, &["revoke", &one, "--root-crl", path(&held)]);
    assert!(refused.stderr.contains("on hold there only"), "{refused:?}");
    corporation.forget_revoked();
    corporation.revoke(&first, "CACompromise");
    let crl = corporation.crl();
    let stranger = Corporation::new(&server.scratch().join("stranger"), "P-256").expect("OpenSSL is there");
    let refused = ceremony(&mut server, &["revoke", &one, "--root-crl", path(&stranger.crl())]);
    assert!(refused.stderr.contains("another issuer's"), "{refused:?}");
    let struck = ceremony(&mut server, &["revoke", &one, "--root-crl", path(&crl)]);
    assert_eq!(serde_json::from_str::<Value>(&struck.succeeded()).expect("JSON")["standing"], "revoked");
    sync(&["--dir", path(gateway.folder())], &out).succeeded();
    assert_eq!(Crl::all_from_pem(&fs::read_to_string(&out).expect("a file")).len(), 2, "the root's, and the second's");
    verified(&server, &device).succeeded();
    // What the first one has signed is refused by its certificate alone, for want of any word of its own.
    assert!(!server.dir().join(format!("keys/{one}.pem")).exists());

    // And one that ends when nobody needs it: as if its last certificate had expired.
    let three = corporation.sign(&spare);
    ceremony(&mut server, &["rotate", &second, "--issuer-cert", path(&three)]).succeeded();
    device.renew();
    server.stop();
    let db = rusqlite::Connection::open(server.dir().join("ca.db")).expect("the database");
    let past = "UPDATE certificates SET not_after = not_after - 864000000 WHERE issuer = (SELECT key FROM issuers WHERE id = ?1)";
    db.execute(past, [&second]).expect("a change");
    drop(db);
    server.start_again();
    corporation.revoke(&two, "cessationOfOperation");
    let crl = corporation.crl();
    let ended = ceremony(&mut server, &["end", &second, "--root-crl", path(&crl)]);
    assert_eq!(serde_json::from_str::<Value>(&ended.succeeded()).expect("JSON")["standing"], "ended");
    verified(&server, &device).succeeded();
    // An old answer is no new issuing CA.
    let again = ceremony(&mut server, &rotate);
    assert!(again.code == 1 && again.stderr.contains(&format!("as {second}, which is ended")), "{again:?}");
    admin.run(&["audit", "verify"]);
    let records = admin.run(&["audit", "list", "--action", "issuer.revoked"]);
    assert!(records[0]["serial"].as_str().is_some_and(|serial| serial.len() > 32), "{records}");
}

#[test]
fn a_later_answer_killed_at_any_step_goes_on_with_the_same_command() {
    let Some(asked) = Asked::new("P-256") else { return };
    let (mut server, corporation) = asked.served();
    let (dir, roots) = (server.dir(), server.scratch().join("roots"));
    server.stop();
    let mut made = 1;
    let mut deaths = 0;
    for step in Step::ALL {
        for times in 1.. {
            let csr = server.scratch().join(format!("{step:?}-{times}.csr"));
            ca_server(&["issuer", "request", "--dir", path(&dir), "--csr-out", path(&csr)]).succeeded();
            let issuing = corporation.sign(&csr);
            let create =
                ["issuer", "create", "--dir", path(&dir), "--root-dir", path(&roots), "--issuer-cert", path(&issuing)];
            let died = dies(step, times, server.scratch(), &create);
            ca_server(&create).succeeded();
            made += 1;
            deaths += usize::from(died);
            assert!(names(&dir.join("requests")).is_empty(), "{step:?} {times}");
            let keys = names(&dir.join("keys"));
            assert_eq!(keys.iter().filter(|name| name.ends_with(".pem")).count(), made + 1, "{step:?} {times}");
            if !died {
                break;
            }
        }
    }
    assert!(deaths > 3, "{deaths}");
    server.start_again();
    assert_eq!(device_issuers(&server).len(), made);
}

/// The subject of a certificate, as `openssl ca -subj` takes it.
fn subject_of(certificate: &Path) -> String {
    let text =
        run(Command::new("openssl").args(["x509", "-noout", "-subject", "-nameopt", "compat", "-in"]).arg(certificate));
    text.succeeded().trim().trim_start_matches("subject=").trim().to_owned()
}
