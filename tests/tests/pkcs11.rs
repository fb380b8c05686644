//! Enrollment by an IDevID whose key is in a PKCS#11 token (SoftHSM2): what works, and what is said where it does not.

use std::path::PathBuf;

use fleetca_tests::{
    device::Device,
    maker::{CA, IDEVID, Made, Maker, Wish, text},
    process::{Finished, run},
    server::Server,
    softhsm::{PIN_COUNT_LOW, PIN_FINAL_TRY, PIN_LOCKED, SoftHsm},
};

const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const P521: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"];

/// A maker whose root a fleet pins, and a token.
struct World {
    server: Server,
    maker: Maker,
    root: Made,
    hsm: SoftHsm,
}

impl World {
    fn new() -> Option<World> {
        let server = Server::start();
        let hsm = SoftHsm::new(server.scratch().join("hsm"), "board")?;
        let maker = Maker::new(server.scratch().join("maker"))?;
        let root = maker.make("root", &CA, None);
        let roots = text(&root.certificate);
        server.admin().run(&["fleet", "create", "boards", "--attest", "factory", "--factory-roots", roots]);
        Some(World { server, maker, root, hsm })
    }

    /// Makes an IDevID for this device and registers it; its key is in a file.
    fn device(&self, id: &str, key: &[&str]) -> Made {
        let subject = format!("/O=Maker/serialNumber={id}");
        let made = self.maker.make(id, &Wish { subject: &subject, key, ..IDEVID }, Some(&self.root));
        let idevid = format!("{}:{id}", self.root.spki_sha256());
        self.server.admin().run(&["device", "register", id, "--fleet", "boards", "--idevid", &idevid]);
        made
    }

    /// The same, with its key in the token, under the device's ID as label.
    fn device_in_token(&self, id: &str, key: &[&str]) -> Made {
        let made = self.device(id, key);
        self.hsm.import("board", &made.key, id, "01");
        made
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.server.scratch().join(id)
    }

    fn enroll(&self, id: &str, idevid: &Made, uri: &str) -> Finished {
        let mut command = Device::new(self.folder(id)).command("enroll");
        command.args(["--server", &self.server.url(), "--device-id", id, "--root"]).arg(self.server.control_root());
        command.arg("--attest").arg(format!("factory:{},{uri}", idevid.certificate.display()));
        run(self.hsm.for_program(&mut command))
    }

    /// It ends with that code and says that, and the server was asked for nothing.
    fn refused(&self, id: &str, idevid: &Made, uri: &str, code: i32, says: &str) {
        let finished = self.enroll(id, idevid, uri);
        assert_eq!(finished.code, code, "{finished:?}");
        assert!(finished.stderr.contains(says), "{says}: {finished:?}");
        assert!(!self.folder(id).exists());
    }
}

#[test]
fn a_device_enrolls_by_an_idevid_whose_key_is_in_a_token() {
    let Some(world) = World::new() else { return };
    for (id, key) in [("board-1", IDEVID.key), ("board-2", P384), ("board-3", RSA)] {
        let idevid = world.device_in_token(id, key);
        let uri = world.hsm.uri(&format!("token=board;object={id};id=%01;type=private"));
        world.enroll(id, &idevid, &uri).succeeded();
        let shown = world.server.admin().run(&["device", "show", id]);
        assert_eq!((&shown["status"], &shown["method"]), (&"active".into(), &"factory".into()));
    }
    assert_eq!(world.hsm.flags() & PIN_COUNT_LOW, 0);
}

#[test]
fn a_wrong_pin_is_said_and_the_last_attempt_is_never_made() {
    let Some(world) = World::new() else { return };
    let idevid = world.device_in_token("board-1", IDEVID.key);
    let uri = world.hsm.uri("object=board-1");
    let right = std::fs::read(world.hsm.pin_file()).expect("the PIN");
    let refused = |code, says| world.refused("board-1", &idevid, &uri, code, says);

    std::fs::write(world.hsm.pin_file(), "4321").expect("a PIN");
    refused(1, "the PIN is wrong");
    let after_one = world.hsm.flags();
    assert_ne!(after_one & PIN_COUNT_LOW, 0, "it was tried");

    // No PIN goes to such a token: a wrong one would leave its mark.
    world.hsm.set_flags(after_one & !PIN_COUNT_LOW | PIN_FINAL_TRY);
    refused(1, "one more wrong PIN locks the token");
    world.hsm.set_flags(after_one & !PIN_COUNT_LOW | PIN_LOCKED);
    refused(1, "the token is locked");
    assert_eq!(world.hsm.flags() & PIN_COUNT_LOW, 0, "it was not tried");

    world.hsm.set_flags(after_one & !PIN_COUNT_LOW);
    std::fs::write(world.hsm.pin_file(), "").expect("no PIN");
    refused(1, "no PIN in its first line");
    std::fs::remove_file(world.hsm.pin_file()).expect("it was there");
    refused(1, "No such file");

    std::fs::write(world.hsm.pin_file(), right).expect("the PIN");
    world.enroll("board-1", &idevid, &uri).succeeded();
}

#[test]
fn a_key_that_is_not_the_certificates_is_found_out_before_anything_is_asked() {
    let Some(world) = World::new() else { return };
    let idevid = world.device("board-1", IDEVID.key);
    for (label, key) in [("same-kind", IDEVID.key), ("longer", P384), ("rsa", RSA)] {
        let other = world.maker.make(label, &Wish { key, ..IDEVID }, Some(&world.root));
        world.hsm.import("board", &other.key, label, "01");
        let uri = world.hsm.uri(&format!("object={label}"));
        world.refused("board-1", &idevid, &uri, 1, "is not the certificate's");
    }
    let strange = world.device("board-2", P521);
    world.refused("board-2", &strange, &world.hsm.uri("object=same-kind"), 1, "P-256, P-384, RSA");
}

#[test]
fn what_is_not_there_is_named() {
    let Some(world) = World::new() else { return };
    let idevid = world.device_in_token("board-1", IDEVID.key);
    let refused = |uri: &str, code, says| world.refused("board-1", &idevid, uri, code, says);
    let uri = |which| world.hsm.uri(which);
    refused("pkcs11:object=board-1?module-path=/nowhere/module.so", 1, "/nowhere/module.so cannot be used");
    let text_file = idevid.certificate.display();
    refused(&format!("pkcs11:object=board-1?module-path={text_file}"), 1, "cannot be used");
    refused(&uri("token=other;object=board-1"), 1, "0 tokens fit");
    refused(&uri("serial=0;object=board-1"), 1, "0 tokens fit");
    refused(&uri("token=board;object=other"), 1, "0 private keys fit");
    refused(&uri("object=board-1;id=%02"), 1, "0 private keys fit");
    let without_pin = uri("object=board-1");
    refused(without_pin.split_once('&').expect("a PIN").0, 1, "without pin-source=FILE");
    refused(&format!("{without_pin}&pin-value=1234"), 2, "a PIN is never an argument");
    refused("pkcs11:object=board-1", 2, "module-path");

    world.hsm.import("board", &idevid.key, "board-1", "02");
    refused(&uri("object=board-1"), 1, "2 private keys fit");
    world.hsm.add_token("spare");
    refused(&uri("object=board-1;id=%02"), 1, "2 tokens fit");
    world.enroll("board-1", &idevid, &uri("token=board;object=board-1;id=%02")).succeeded();
}
