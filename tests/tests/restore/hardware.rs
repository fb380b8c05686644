//! Devices whose key is in a TPM, and a time that is lost: they ask for the same key again, which nobody else may.

use enroll_client::{connect::Connection, credential::Credential};
use fleetca_proto::v1::RenewRequest;
use fleetca_tests::tpm::Tpm;

use super::*;

/// Enrolls a device by its TPM, which was registered for it.
fn enroll(server: &Server, id: &str, tpm: &Tpm) -> Device {
    let device = Device::new(server.scratch().join(id));
    let mut command = device.command("enroll");
    command.args(["--server", &server.url(), "--attest", &format!("tpm:{},p-256", tpm.socket())]);
    run(command.arg("--root").arg(server.control_root())).succeeded();
    device
}

fn register(server: &Server, id: &str, tpm: &Tpm) {
    let mut command = Device::new(server.scratch().join(id)).program("show-tpm");
    let shown = run(command.args([&format!("{},p-256", tpm.socket()), "--output", "json"])).succeeded();
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let hash = shown["ek_sha256"].as_str().expect("a hash");
    server.admin().run(&["device", "register", id, "--fleet", "pumps", "--ek-hash", hash]);
}

fn key_of(device: &Device) -> Vec<u8> {
    Credential::load(device.folder()).expect("a credential").key().spki()
}

#[tokio::test]
async fn a_device_with_a_tpm_comes_back_out_of_the_lost_time_with_its_key_and_no_other() {
    let mut server = Server::start();
    let Some(tpms) = Tpm::start_many(2) else { return };
    server.admin().run(&["fleet", "create", "pumps", "--attest", "tpm"]);
    for (id, tpm) in ["known", "late"].into_iter().zip(&tpms) {
        register(&server, id, tpm);
    }
    let known = enroll(&server, "known", &tpms[0]);
    let copy = backup(&server, "backup", &[]);

    // The time that will be lost.
    known.renew();
    known.renew();
    let late = enroll(&server, "late", &tpms[1]);

    let keys = lose(&mut server).join("keys");
    let options = ["--from", text(&copy), "--keys", text(&keys), "--resume", "--accept-loss", &issuer_in(&copy)];
    restore(&server.dir(), &options).succeeded();
    server.start_again();
    recover(&server);

    // Whoever is root on the device can use the key, and gets no certificate for one that could be taken along.
    let credential = Credential::load(known.folder()).expect("a credential");
    let mut renewal = Connection::with_credential(&credential).await.expect("a connection").renewal();
    let request = RenewRequest { csr: SubjectKey::generate().csr(), ..Default::default() };
    let refused = renewal.renew(request).await.expect_err("another key");
    assert_eq!(Refusal::of(&refused).reason, "ATTESTATION_FAILED");

    for device in [&known, &late] {
        let (serial, key) = (device.serial(), key_of(device));
        device.renew();
        device.renew();
        assert_ne!(device.serial(), serial);
        assert_eq!(key_of(device), key);
    }
    assert_eq!(server.admin().run(&["device", "show", "known"])["tier"], "hardware");
}
