//! CRLs: what is served where, in which bytes and under which number, across changes, kills and ceremonies.

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use der::Decode;
use fleetca_proto::v1::{
    Bundle, CrlChunk, GetCrlRequest, RevocationReason, RevokeDeviceRequest, get_crl_request::Form,
    revocation_client::RevocationClient,
};
use fleetca_tests::{
    admin::Admin,
    binaries,
    crl::Crl,
    device::Device,
    holder::Holder,
    http, openssl, pem,
    process::run,
    server::{self, PUBLIC_URL, Server},
    stranger::{self, reason},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};
use x509_cert::{Certificate, ext::pkix::CrlReason};

const CRL_DISTRIBUTION_POINTS: &str = "2.5.29.31";
const ISSUING_DISTRIBUTION_POINT: &str = "2.5.29.28";
const FRESHEST_CRL: &str = "2.5.29.46";

fn server() -> Server {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    server
}

/// The issuer's ID by its place, for example `device-root`.
fn issuer(server: &Server, hierarchy: &str) -> String {
    let issuers = server.admin().run(&["issuer", "list"]);
    let found = issuers.as_array().expect("a list").iter().find(|issuer| issuer["hierarchy"] == hierarchy);
    found.unwrap_or_else(|| panic!("no {hierarchy}: {issuers}"))["id"].as_str().expect("an ID").to_owned()
}

fn full(server: &Server, issuer: &str) -> Vec<u8> {
    http::get(&server.http_url(&format!("/crl/{issuer}/full.crl"))).ok()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("PEM is text")
}

/// DER in one PEM block, as written by the harness.
fn in_pem(folder: &Path, der: &[u8]) -> String {
    fs::read_to_string(pem::write_crl(folder, "one", der)).expect("it was written")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

#[test]
fn a_complete_crl_is_served_in_both_forms_and_not_twice_to_who_has_it() {
    let server = server();
    let id = issuer(&server, "device");
    let url = server.http_url(&format!("/crl/{id}/full.crl"));
    let answer = http::get(&url);
    assert_eq!(answer.header("content-type"), Some("application/pkix-crl"));
    assert_eq!(answer.header("cache-control"), Some("max-age=5, must-revalidate"));
    assert!(answer.header("last-modified").is_some());
    let tag = answer.header("etag").expect("an entity tag").to_owned();
    let der = answer.ok();

    let answer = http::get(&server.http_url(&format!("/crl/{id}/full.pem")));
    assert_eq!(answer.header("content-type"), Some("application/x-pem-file"));
    assert_ne!(answer.header("etag"), Some(&*tag), "other bytes have another tag");
    assert_eq!(text(answer.ok()), in_pem(server.scratch(), &der));

    let unchanged = http::request("GET", &url, &[("If-None-Match", &tag)]);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    assert_eq!(unchanged.header("etag"), Some(&*tag));
    assert_eq!(http::request("GET", &url, &[("If-None-Match", "\"other\"")]).status, 200);
    let head = http::request("HEAD", &url, &[]);
    assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, Some(&*tag)));
    let part = http::request("GET", &url, &[("Range", "bytes=2-9")]);
    assert_eq!((part.status, &part.body[..]), (206, &der[2..10]));
    let zipped = http::request("GET", &url, &[("Accept-Encoding", "gzip")]);
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert_ne!(zipped.header("etag"), Some(&*tag));
    let mut unzipped = Vec::new();
    flate2::read::GzDecoder::new(&zipped.body[..]).read_to_end(&mut unzipped).expect("gzip");
    assert_eq!(unzipped, der);

    let list = Crl::from_der(&der);
    for extension in [ISSUING_DISTRIBUTION_POINT, FRESHEST_CRL] {
        assert_eq!(list.extension(extension), None, "{extension}");
    }
    server.admin().run(&["crl", "publish"]);
    let changed = http::request("GET", &url, &[("If-None-Match", &tag)]);
    assert!(Crl::from_der(&changed.ok()).number() > list.number(), "publishing takes a number, though nothing changed");
    for unknown in ["/crl/0123456789abcdef/full.crl", "/crl/x/full.crl", "/issuers/0123456789abcdef.cer", "/crl"] {
        assert_eq!(http::get(&server.http_url(unknown)).status, 404, "{unknown}");
    }
}

#[test]
fn every_issuer_has_its_certificate_and_its_signed_crl_at_its_address() {
    let server = server();
    let admin = server.admin();
    let crls = admin.run(&["crl", "status"]);
    let issuers = admin.run(&["issuer", "list"]);
    let issuers = issuers.as_array().expect("a list");
    let places: BTreeSet<_> = issuers.iter().map(|issuer| issuer["hierarchy"].as_str().expect("a word")).collect();
    assert_eq!(places, BTreeSet::from(["control", "control-root", "device", "device-root"]));
    assert_eq!(crls.as_array().expect("a list").len(), 4);
    for issuer in issuers {
        let (id, place) = (issuer["id"].as_str().expect("an ID"), issuer["hierarchy"].as_str().expect("a word"));
        let certificate = http::get(&server.http_url(&format!("/issuers/{id}.cer"))).ok();
        let listed = CertificateDer::from_pem_slice(issuer["pem"].as_str().expect("PEM").as_bytes()).expect("PEM");
        assert_eq!(certificate, listed.as_ref(), "{place}");

        let der = full(&server, id);
        let list = Crl::from_der(&der);
        let days = if place.ends_with("root") { 396 } else { 7 };
        let (this_update, next_update) = list.dates();
        assert_eq!(next_update - this_update, days * 24 * 3600, "{place}");
        let crl = crls.as_array().expect("a list").iter().find(|crl| crl["issuer"] == id).expect("its CRL");
        assert_eq!(crl["number"], list.number());
        assert_eq!(crl["size"], der.len());
        assert_eq!(crl["url"], format!("{PUBLIC_URL}/crl/{id}/full.crl"));

        let Some(mut openssl) = openssl::command() else { continue };
        let certificate = pem::write_certificate(server.scratch(), "issuer", &certificate);
        let crl = pem::write_crl(server.scratch(), "crl", &der);
        let verified = run(openssl.args(["crl", "-noout", "-in", path(&crl), "-CAfile", path(&certificate)]));
        assert!(verified.stderr.contains("verify OK"), "{place}: {verified:?}");
    }
}

#[test]
fn a_bundle_has_the_roots_crl_and_that_of_every_issuing_ca_of_devices() {
    let server = server();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let revoked = Device::enroll(&server, "sensors", "pump-8");
    server.admin().run(&["device", "revoke", "pump-8"]);
    let expected: String = ["device-root", "device"]
        .map(|place| in_pem(server.scratch(), &full(&server, &issuer(&server, place))))
        .concat();
    for place in ["/crl/bundle.pem", "/crl/fleet/sensors/bundle.pem"] {
        let answer = http::get(&server.http_url(place));
        assert_eq!(answer.header("content-type"), Some("application/x-pem-file"));
        let tag = answer.header("etag").expect("an entity tag").to_owned();
        assert_eq!(text(answer.ok()), expected, "{place}");
        let unchanged = http::request("GET", &server.http_url(place), &[("If-None-Match", &tag)]);
        assert_eq!(unchanged.status, 304);
    }
    assert_eq!(http::get(&server.http_url("/crl/fleet/pumps/bundle.pem")).status, 404);

    let crls = server.scratch().join("bundle.pem");
    fs::write(&crls, expected).expect("a file");
    let verify = |device: &Device| {
        let chain = device.presented().chain;
        openssl::verify(&chain, &server.device_root(), Some(&chain), Some(&crls))
    };
    let Some(good) = verify(&device) else { return };
    good.succeeded();
    let refused = verify(&revoked).expect("openssl is there");
    assert!(refused.stderr.contains("certificate revoked"), "{refused:?}");
}

/// The value of a certificate's CRL distribution points, and where the one in it leads.
fn distribution_point(holder: &Holder) -> (Vec<u8>, String) {
    let certificate = Certificate::from_der(holder.certificate()).expect("a certificate");
    let extensions = certificate.tbs_certificate().extensions().expect("extensions").to_vec();
    let point = extensions.iter().find(|extension| extension.extn_id.to_string() == CRL_DISTRIBUTION_POINTS);
    let value = point.expect("it says where its CRL is").extn_value.as_bytes().to_vec();
    let url = value.windows(4).position(|window| window == b"http").map(|at| value[at..].to_vec()).expect("a URL");
    (value, String::from_utf8(url).expect("ASCII"))
}

#[tokio::test]
async fn a_devices_own_list_has_its_own_entries_and_stands_where_its_certificate_says() {
    let server = server();
    let operator = server.admin();
    operator.run(&["fleet", "create", "pumps", "--attest", "token", "--crl-scope", "device"]);
    let (admin, strangers) = (Admin::of(&server), stranger::connect(&server).await);
    let first = admin.enroll(&strangers, "pumps", "pump-7").await;
    let second = first.renew_and_confirm(&server).await;
    let good = admin.enroll(&strangers, "pumps", "pump-8").await;
    let sensor = admin.enroll(&strangers, "sensors", "sensor-1").await;
    let id = issuer(&server, "device");
    operator.run(&["device", "revoke", "sensor-1"]);
    operator.run(&["device", "revoke", "pump-7", "--reason", "keyCompromise"]);

    let (point, url) = distribution_point(&first);
    assert_eq!(distribution_point(&second), (point.clone(), url.clone()), "one list for all that it ever gets");
    assert_eq!(distribution_point(&sensor).1, format!("{PUBLIC_URL}/crl/{id}/full.crl"));
    let place = url.strip_prefix(PUBLIC_URL).expect("below the public URL").to_owned();
    let handle = place.strip_prefix(&format!("/crl/{id}/device/")).and_then(|rest| rest.strip_suffix(".crl"));
    assert_eq!(handle.expect("a handle").len(), 32, "{place}");

    let der = http::get(&server.http_url(&place)).ok();
    let list = Crl::from_der(&der);
    let mut expected = [first.serial(), second.serial()];
    expected.sort();
    assert_eq!(list.serials(), expected);
    assert_eq!(list.reason(&first.serial()), Some(CrlReason::KeyCompromise));
    let (critical, scope) = list.extension(ISSUING_DISTRIBUTION_POINT).expect("a scope");
    assert!(critical);
    // CRLDistributionPoints is SEQUENCE OF DistributionPoint, and the scope must be just the one that is in there.
    assert_eq!(&point[..2], [0x30, u8::try_from(scope.len()).expect("short")]);
    assert_eq!(&point[2..], scope);
    let (this_update, next_update) = list.dates();
    assert_eq!(next_update - this_update, 3600);
    assert_eq!(list.number(), Crl::fetch(&server, &id).number());
    let pem = http::get(&server.http_url(&place.replace(".crl", ".pem"))).ok();
    assert_eq!(text(pem), in_pem(server.scratch(), &der));

    let (_, others) = distribution_point(&good);
    let others = http::get(&server.http_url(others.strip_prefix(PUBLIC_URL).expect("below the public URL"))).ok();
    assert_eq!(Crl::from_der(&others).serials(), [""; 0]);
    for unknown in ["0".repeat(32), "pump-7".into(), "..%2Ffull".into()] {
        assert_eq!(http::get(&server.http_url(&format!("/crl/{id}/device/{unknown}.crl"))).status, 404, "{unknown}");
    }

    let root = full(&server, &issuer(&server, "device-root"));
    let verify = |holder: &Holder, list: &[u8]| {
        let leaf = pem::write_certificate(server.scratch(), "leaf", holder.certificate());
        let issuing = http::get(&server.http_url(&format!("/issuers/{id}.cer"))).ok();
        let issuing = pem::write_certificate(server.scratch(), "issuing", &issuing);
        let crls = server.scratch().join("crls.pem");
        let both = in_pem(server.scratch(), &root) + &in_pem(server.scratch(), list);
        fs::write(&crls, both).expect("a file");
        openssl::verify(&leaf, &server.device_root(), Some(&issuing), Some(&crls))
    };
    let Some(accepted) = verify(&good, &others) else { return };
    accepted.succeeded();
    let refused = verify(&second, &der).expect("openssl is there");
    assert!(refused.stderr.contains("certificate revoked"), "{refused:?}");
    let elsewhere = verify(&good, &der).expect("openssl is there");
    assert_ne!(elsewhere.code, 0, "another device's list says nothing about it");
}

#[test]
fn numbers_only_grow_and_bytes_stay_across_kills_and_restarts() {
    let mut server = server();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let held = Device::enroll(&server, "sensors", "pump-8");
    let admin = server.admin();
    let id = issuer(&server, "device");
    admin.run(&["device", "revoke", "pump-7", "--reason", "affiliationChanged"]);
    admin.run(&["device", "hold", "pump-8"]);
    let places = ["/crl/bundle.pem".to_owned(), format!("/crl/{id}/full.crl")];
    let served = |server: &Server| places.clone().map(|place| http::get(&server.http_url(&place)).ok());
    let mut before = served(&server);
    for round in 0..3 {
        if round % 2 == 0 {
            server.kill()
        } else {
            server.stop()
        }
        server.start_again();
        assert_eq!(served(&server), before, "round {round}");

        let number = Crl::from_der(&before[1]).number();
        let command = if round % 2 == 0 { "release" } else { "hold" };
        let receipt = admin.run(&["device", command, "pump-8"]);
        before = served(&server);
        let list = Crl::from_der(&before[1]);
        assert!(list.number() > number, "round {round}");
        assert_eq!(receipt["crls"][0]["number"], list.number());
        assert_eq!(list.reason(&device.serial()), Some(CrlReason::AffiliationChanged), "round {round}");
        assert_eq!(list.lists(&held.serial()), command == "hold");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_within_200_ms_share_a_publication() {
    const DEVICES: usize = 40;
    let server = server();
    let (admin, strangers) = (Admin::of(&server), stranger::connect(&server).await);
    for index in 0..DEVICES {
        admin.enroll(&strangers, "sensors", &format!("pump-{index}")).await;
    }
    let begun = Instant::now();
    let mut revocations = JoinSet::new();
    for index in 0..DEVICES {
        let mut client = admin.client();
        let id = format!("pump-{index}");
        revocations.spawn(async move {
            let request = RevokeDeviceRequest { id, reason: RevocationReason::AffiliationChanged.into() };
            client.revoke_device(request).await.expect("it is revoked").into_inner()
        });
    }
    let receipts = revocations.join_all().await;
    let most = begun.elapsed().as_millis() / 200 + 2;
    let numbers: BTreeSet<u64> = receipts.iter().map(|receipt| receipt.crls[0].number).collect();
    assert!((numbers.len() as u128) <= most, "{} publications where {most} are enough", numbers.len());
    assert!(numbers.len() < DEVICES / 2);
    assert_eq!(Crl::fetch(&server, &receipts[0].crls[0].issuer).serials().len(), DEVICES);
}

/// `root sign-crl` in that folder; the files of the control root's and the device root's CRL.
fn sign_crls(root_dir: &Path) -> [PathBuf; 2] {
    run(Command::new(binaries::ca_server()).args(["root", "sign-crl", "--root-dir"]).arg(root_dir)).succeeded();
    ["control-root.crl", "device-root.crl"].map(|name| root_dir.join(name))
}

#[test]
fn a_roots_crl_is_renewed_by_a_ceremony_and_nothing_else_is_taken_in() {
    let mut server = server();
    let admin = server.admin();
    let roots = server.dir().join("offline");
    let ids = ["control-root", "device-root"].map(|place| issuer(&server, place));
    let state = |server: &Server| ids.clone().map(|id| full(server, &id));
    let before = state(&server);
    let publish = |file: &Path| ["crl", "publish", "--root-crl", path(file)].map(str::to_owned);
    let old = server.scratch().join("old.crl");
    fs::copy(roots.join("device-root.crl"), &old).expect("init leaves the roots' CRLs beside their keys");

    let signed = sign_crls(&roots);
    assert_eq!(state(&server), before, "signing alone changes nothing");
    for (file, id) in signed.iter().zip(&ids) {
        let crls = admin.run(&publish(file).each_ref().map(String::as_str));
        let number = Crl::from_der(&fs::read(file).expect("a file")).number();
        assert!(crls.as_array().expect("a list").iter().any(|crl| crl["issuer"] == **id && crl["number"] == number));
        assert_eq!(full(&server, id), fs::read(file).expect("a file"));
    }
    let after = state(&server);
    for (old, new) in before.iter().zip(&after) {
        assert!(Crl::from_der(new).number() > Crl::from_der(old).number());
    }

    let foreign = server.scratch().join("foreign");
    server::init(&foreign);
    let [foreign, _] = sign_crls(&foreign.join("offline"));
    let write = |name: &str, bytes: &[u8]| {
        let file = server.scratch().join(name);
        fs::write(&file, bytes).expect("a file");
        file
    };
    let mut forged = sign_crls(&roots).map(|file| fs::read(file).expect("a file"))[1].clone();
    *forged.last_mut().expect("a signature") ^= 1;
    let refused = [
        ("an older one", old),
        ("the same again", write("same.crl", &after[1])),
        ("another CA's", foreign),
        ("an issuing CA's", write("issuing.crl", &full(&server, &issuer(&server, "device")))),
        ("a forged one", write("forged.crl", &forged)),
        ("no CRL", write("none.crl", &[0x30, 0x00])),
    ];
    for (what, file) in refused {
        assert_eq!(admin.reason(&publish(&file).each_ref().map(String::as_str)), "CRL_REFUSED", "{what}");
        assert_eq!(state(&server), after, "{what}");
    }
    server.kill();
    server.start_again();
    assert_eq!(state(&server), after);
    let records = admin.run(&["audit", "list", "--action", "crl.root_taken_in"]);
    assert_eq!(records.as_array().expect("a list").len(), 2);
}

/// The CRLs of an answer, put together from their chunks.
async fn get_crl(client: &mut RevocationClient<Channel>, form: Option<Form>) -> Result<Vec<(String, Vec<u8>)>, Status> {
    let mut chunks = client.get_crl(GetCrlRequest { form }).await?.into_inner();
    let (mut crls, mut expected): (Vec<(String, Vec<u8>)>, _) = (Vec::new(), 0);
    while let Some(CrlChunk { index, issuer, number, data, total, .. }) = chunks.message().await? {
        assert!(data.len() <= 32 * 1024);
        if index as usize == crls.len() {
            assert!(number > 0);
            expected = expected.max(total);
            crls.push((issuer, Vec::new()));
        }
        assert_eq!(index as usize + 1, crls.len());
        crls[index as usize].1.extend(data);
    }
    assert_eq!(crls.len(), expected as usize);
    Ok(crls)
}

#[tokio::test]
async fn grpc_gives_the_same_bytes_and_a_device_no_other_devices_list() {
    let server = server();
    let (admin, strangers) = (Admin::of(&server), stranger::connect(&server).await);
    let device = admin.enroll(&strangers, "sensors", "pump-7").await;
    let mut revoked = admin.enroll(&strangers, "sensors", "pump-8").await.revocation(&server);
    server.admin().run(&["device", "revoke", "pump-8"]);
    let ids = ["device", "device-root", "control", "control-root"].map(|place| issuer(&server, place));

    let mut client = device.revocation(&server);
    for id in &ids {
        let crls = get_crl(&mut client, Some(Form::Full(id.clone()))).await.expect("a CRL");
        assert_eq!(crls, [(id.clone(), full(&server, id))]);
    }
    let bundle = text(http::get(&server.http_url("/crl/bundle.pem")).ok());
    for fleet in ["", "sensors"] {
        let crls = get_crl(&mut client, Some(Form::Bundle(Bundle { fleet: fleet.into() }))).await.expect("CRLs");
        let together: String = crls.iter().map(|(_, der)| in_pem(server.scratch(), der)).collect();
        assert_eq!(together, bundle, "{fleet:?}");
    }

    let own = get_crl(&mut client, Some(Form::Device("pump-7".into()))).await.expect("its list");
    assert_eq!(Crl::from_der(&own[0].1).serials(), [""; 0]);
    let others = get_crl(&mut client, Some(Form::Device("pump-8".into()))).await;
    assert_eq!(reason(others), "KIND_REFUSED");
    let gateway = Holder::copy(&Device::enroll_gateway(&server, "eu-7"));
    let operator = Holder::copy(&Device::enroll_operator(&server, "ana", "viewer"));
    for peer in [gateway, operator] {
        let list = get_crl(&mut peer.revocation(&server), Some(Form::Device("pump-8".into()))).await.expect("a list");
        let list = Crl::from_der(&list[0].1);
        assert_eq!(list.serials().len(), 1);
        assert!(list.extension(ISSUING_DISTRIBUTION_POINT).expect("a scope").0);
    }

    for (wrong, expected) in [
        (Some(Form::Full("0123456789abcdef".into())), "NOT_FOUND"),
        (Some(Form::Full("x".into())), "INVALID_ARGUMENT"),
        (Some(Form::Bundle(Bundle { fleet: "pumps".into() })), "NOT_FOUND"),
        (None, "INVALID_ARGUMENT"),
    ] {
        assert_eq!(reason(get_crl(&mut client, wrong.clone()).await), expected, "{wrong:?}");
    }
    let whole = || Some(Form::Bundle(Bundle::default()));
    let mut nobody = RevocationClient::new(strangers.channel());
    assert_eq!(reason(get_crl(&mut nobody, whole()).await), "CERTIFICATE_REQUIRED");
    assert_eq!(reason(get_crl(&mut revoked, whole()).await), "DEVICE_REVOKED");
}
