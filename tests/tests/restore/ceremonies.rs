//! What was done to issuing CAs in a time that is lost.

use super::*;

/// `ca-server issuer ACTION ISSUER`, with the root keys in a folder of their own; the server must not run.
fn ceremony(server: &Server, roots: &Path, action: &str, issuer: &str) -> Finished {
    local(&["issuer", action, issuer, "--dir", text(&server.dir()), "--root-dir", text(roots)])
}

#[test]
fn after_a_restoration_no_issuing_ca_signs_that_its_root_has_revoked() {
    let mut server = Server::start_with_limits(&[("issuer_wait_seconds", 0)]);
    let roots = server.scratch().join("roots");
    fs::rename(server.dir().join("offline"), &roots).expect("the root keys are moved offline");
    let admin = server.admin();
    admin.create_fleet("sensors");
    let issuers = admin.run(&["issuer", "list"]);
    let issuer = issuers.as_array().expect("a list").iter().find(|issuer| issuer["hierarchy"] == "device");
    let stolen = issuer.expect("an issuing CA")["id"].as_str().expect("an ID").to_owned();
    let device = Device::enroll(&server, "sensors", "d-1");
    server.stop();
    ceremony(&server, &roots, "rotate", &stolen).succeeded();
    server.start_again();
    let copy = backup(&server, "backup", &[]);
    server.stop();
    ceremony(&server, &roots, "revoke", &stolen).succeeded();
    server.start_again();
    let mut fetch = Command::new(binaries::enroll_client());
    fetch.args(["sync-crls", "--http-url", &server.http_url(""), "--trust"]).arg(server.device_root());
    run(fetch.arg("--out").arg(crls(&server))).succeeded();

    // The key was in the backup; its folder has none of the stolen CA any more.
    let lost = lose(&mut server);
    let (newest, keys) = (crls(&server), lost.join("keys"));
    assert!(!keys.join(format!("{stolen}.pem")).exists());
    let options = ["--from", text(&copy), "--keys", text(&keys), "--crl", text(&newest), "--resume"];
    // Whom that CA cut off in the lost time only its own last CRL tells, which no gateway keeps.
    let refused = restore(&server.dir(), &options);
    assert!(refused.code == 1 && refused.stderr.contains(&format!("--accept-loss {stolen}")), "{refused:?}");
    restore(&server.dir(), &[&options[..], &["--accept-loss", &stolen]].concat()).succeeded();
    let ports = ["--listen", "--operator-listen", "--http-listen", "--metrics-listen"];
    let ports = ports.into_iter().flat_map(|option| [option, "127.0.0.1:0"]);
    let refused = run(Command::new(binaries::ca_server()).arg("serve").arg("--dir").arg(server.dir()).args(ports));
    assert!(refused.code == 1 && refused.stderr.contains(&format!("issuer revoke {stolen}")), "{refused:?}");
    ceremony(&server, &roots, "revoke", &stolen).succeeded();
    server.start_again();
    recover(&server);
    let issuers = server.admin().run(&["issuer", "status"]);
    let found = issuers.as_array().expect("a list").iter().find(|issuer| issuer["id"] == stolen.as_str());
    assert_eq!(found.expect("it is known")["standing"], "revoked", "{issuers}");
    let refused = try_renew(&device);
    assert!(refused.code == 4 && refused.stderr.contains("ISSUER_REVOKED"), "{refused:?}");
}

/// The backup is from before it was known that a key is stolen: what has taken over from its CA is in no backup at all.
#[test]
fn after_a_restoration_to_before_the_rotation_a_revoked_issuing_ca_is_known_by_the_newest_file_all_the_same() {
    let mut server = Server::start_with_limits(&[("issuer_wait_seconds", 0)]);
    let roots = server.scratch().join("roots");
    fs::rename(server.dir().join("offline"), &roots).expect("the root keys are moved offline");
    server.admin().create_fleet("sensors");
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let copy = backup(&server, "backup", &[]);
    let stolen = issuer_in(&copy);
    server.stop();
    let made = ceremony(&server, &roots, "rotate", &stolen).succeeded();
    let rotated = made.split("for devices: ").nth(1).and_then(|rest| rest.get(..16)).expect("its ID").to_owned();
    ceremony(&server, &roots, "revoke", &stolen).succeeded();
    server.start_again();
    sync(&server, &gateway).succeeded();

    let lost = lose(&mut server);
    let (newest, keys) = (crls(&server), lost.join("keys"));
    // Of the stolen CA's key nothing is left, and nothing is wanted.
    let options = ["--from", text(&copy), "--keys", text(&keys), "--crl", text(&newest), "--resume", "--accept-loss"];
    let told = restore(&server.dir(), &[&options[..], &[&stolen]].concat()).succeeded();
    assert!(told.contains(&format!("of issuer {rotated}, WHICH IS NOT KNOWN HERE")), "{told}");
    assert!(told.contains("A CEREMONY WAS LOST"), "{told}");
    let ports = ["--listen", "--operator-listen", "--http-listen", "--metrics-listen"];
    let ports = ports.into_iter().flat_map(|option| [option, "127.0.0.1:0"]);
    let refused = run(Command::new(binaries::ca_server()).arg("serve").arg("--dir").arg(server.dir()).args(ports));
    assert!(refused.code == 1 && refused.stderr.contains(&format!("issuer revoke {stolen}")), "{refused:?}");
    ceremony(&server, &roots, "rotate", &stolen).succeeded();
    ceremony(&server, &roots, "revoke", &stolen).succeeded();
    server.start_again();
    recover(&server);
    // The gateway shows what it holds of an issuing CA that there is no more, and goes on with what there is.
    sync(&server, &gateway).succeeded();
    let ready = http::get(&server.metrics_url("/readyz"));
    assert_eq!(ready.status, 200, "{ready:?}");
    Device::enroll(&server, "sensors", "d-1");
}

/// The operator has a file of the lost time, but from before the revocation: the first gateway that knows better says so.
#[test]
fn after_a_restoration_with_an_older_file_a_gateway_tells_that_an_issuing_ca_was_revoked() {
    let mut server = Server::start_with_limits(&[("issuer_wait_seconds", 0)]);
    let roots = server.scratch().join("roots");
    fs::rename(server.dir().join("offline"), &roots).expect("the root keys are moved offline");
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let copy = backup(&server, "backup", &[]);
    let stolen = issuer_in(&copy);
    server.stop();
    ceremony(&server, &roots, "rotate", &stolen).succeeded();
    server.start_again();
    sync(&server, &gateway).succeeded();
    let older = server.scratch().join("older.pem");
    fs::copy(crls(&server), &older).expect("a copy");
    let kept = server.scratch().join("keys");
    run(Command::new("cp").arg("-a").arg(server.dir().join("keys")).arg(&kept)).succeeded();
    server.stop();
    ceremony(&server, &roots, "revoke", &stolen).succeeded();
    server.start_again();
    sync(&server, &gateway).succeeded();
    let newest = fs::read_to_string(crls(&server)).expect("a file of CRLs");

    lose(&mut server);
    let options = ["--from", text(&copy), "--keys", text(&kept), "--crl", text(&older), "--resume"];
    restore(&server.dir(), &options).succeeded();
    server.start_again();
    recover(&server);
    assert_eq!(http::get(&server.metrics_url("/readyz")).status, 200, "nobody knows");
    let told = sync(&server, &gateway);
    let ready = http::get(&server.metrics_url("/readyz"));
    let why = String::from_utf8_lossy(&ready.body);
    assert!(
        ready.status == 503 && why.contains("of this root") && why.contains("--root-crl"),
        "{ready:?} after {told:?}"
    );
    // The first one in its file is the root's; taken in it says what is left to do.
    let root_crl = server.scratch().join("root.pem");
    let end = "-----END X509 CRL-----\n";
    fs::write(&root_crl, newest.split_inclusive(end).next().expect("a CRL")).expect("a file");
    let refused = server.admin().refused(&["crl", "publish", "--root-crl", text(&root_crl)]);
    assert!(refused.contains(&format!("issuer revoke {stolen} --root-crl")), "{refused}");
    server.stop();
    ceremony(&server, &roots, "rotate", &stolen).succeeded();
    let dir = server.dir();
    let revoke = ["issuer", "revoke", &stolen, "--dir", text(&dir), "--root-dir", text(&roots)];
    local(&[&revoke[..], &["--root-crl", text(&root_crl)]].concat()).succeeded();
    server.start_again();
    sync(&server, &gateway).succeeded();
    let ready = http::get(&server.metrics_url("/readyz"));
    assert_eq!(ready.status, 200, "{ready:?}");
}
