//! Enrollment by an IDevID (IEEE 802.1AR), from chains that `openssl` made.

use std::path::Path;

use enroll_client::attester::{Attester, factory::FactoryIdentity};
use fleetca_tests::{
    device::Device,
    maker::{CA, IDEVID, Made, Maker, Wish, text},
    process::{Finished, run},
    server::Server,
    stranger::{self, Refusal},
};
use tonic::Status;

/// The extensions of an IDevID with a hardware module's name: type 1.2.3.4, serial 0a0b.
const MODULE: &str = "keyUsage=digitalSignature\nsubjectAltName=otherName:1.3.6.1.5.5.7.8.4;SEQUENCE:module\n\
                      [module]\ntype=OID:1.2.3.4\nserial=FORMAT:HEX,OCTETSTRING:0a0b\n";

/// A maker with a root and an intermediate, whose root a fleet pins.
struct World {
    server: Server,
    maker: Maker,
    root: Made,
    factory: Made,
}

impl World {
    fn new() -> Option<World> {
        let server = Server::start();
        let maker = Maker::new(server.scratch().join("maker"))?;
        let root = maker.make("root", &Wish { subject: "/O=Maker/CN=Root", ..CA }, None);
        let factory = maker.make("factory", &Wish { subject: "/O=Maker/CN=Factory", ..CA }, Some(&root));
        let world = World { server, maker, root, factory };
        world.fleet("boards", &world.root);
        Some(world)
    }

    fn fleet(&self, name: &str, root: &Made) {
        let roots = text(&root.certificate);
        self.server.admin().run(&["fleet", "create", name, "--attest", "factory,token", "--factory-roots", roots]);
    }

    fn register(&self, id: &str, fleet: &str, issuer: &Made, serial: &str) {
        let idevid = format!("{}:{serial}", issuer.spki_sha256());
        self.server.admin().run(&["device", "register", id, "--fleet", fleet, "--idevid", &idevid]);
    }

    fn idevid(&self, name: &str, wish: &Wish<'_>) -> Made {
        self.maker.make(name, wish, Some(&self.factory))
    }

    /// Enrolls with the IDevID and the maker's intermediate.
    fn enroll(&self, id: &str, idevid: &Made) -> Finished {
        let chain = self.maker.chain(id, &[idevid, &self.factory]);
        self.enroll_with(id, &chain, &idevid.key)
    }

    fn enroll_with(&self, id: &str, chain: &Path, key: &Path) -> Finished {
        let mut command = Device::new(self.server.scratch().join(id)).command("enroll");
        command.args(["--server", &self.server.url(), "--device-id", id, "--root"]).arg(self.server.control_root());
        run(command.arg("--attest").arg(format!("factory:{},{}", chain.display(), key.display())))
    }

    fn shown(&self, id: &str) -> serde_json::Value {
        self.server.admin().run(&["device", "show", id])
    }
}

/// Enrolls over the raw protocol, and gives the refusal.
async fn told(world: &World, id: &str, idevid: &Made, shown: impl FnOnce(&[u8]) -> Vec<u8>) -> Status {
    let read = |path: &Path| std::fs::read(path).expect("it is there");
    let chain = world.maker.chain("told", &[idevid, &world.factory]);
    let identity = FactoryIdentity::from_pem(&read(&chain), &read(&idevid.key)).expect("an IDevID");
    let connection = stranger::connect(&world.server).await;
    stranger::enroll_by(&connection, id, &Attester::Factory(identity), shown).await.expect_err("a refusal")
}

fn refused(finished: &Finished, reason: &str) {
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.stderr.contains(reason), "{reason}: {finished:?}");
}

#[test]
fn a_device_enrolls_by_the_identity_that_its_maker_gave_it_and_again() {
    let Some(world) = World::new() else { return };
    let wishes: [(&str, &str, Wish<'_>); 3] = [
        ("board-1", "SN-1", IDEVID),
        (
            "board-2",
            "SN-2",
            Wish {
                subject: "/CN=x/serialNumber=SN-2",
                key: &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
                ..IDEVID
            },
        ),
        // By its hardware module's name: type 1.2.3.4, serial 0a0b.
        ("board-3", "hw:1.2.3.4:0a0b", Wish { subject: "/CN=x", extensions: MODULE, ..IDEVID }),
    ];
    for (id, serial, wish) in wishes {
        let idevid = world.idevid(id, &wish);
        refused(&world.enroll(id, &idevid), "ATTESTATION_FAILED");
        world.register(id, "boards", &world.factory, serial);
        world.enroll(id, &idevid).succeeded();
        let shown = world.shown(id);
        assert_eq!((&shown["method"], &shown["tier"]), (&"factory".into(), &"factory".into()));
        // Its disk is gone: it enrolls again, and what it gets goes through Confirm.
        std::fs::remove_dir_all(world.server.scratch().join(id)).expect("it was there");
        world.enroll(id, &idevid).succeeded();
        assert_eq!(world.shown(id)["generation"], 2);
    }
}

#[test]
fn a_serial_number_that_reads_like_a_hardware_module_is_no_identity() {
    let Some(world) = World::new() else { return };
    world.register("board-1", "boards", &world.factory, "hw:1.2.3.4:0a0b");
    let likeness = Wish { subject: "/CN=x/serialNumber=hw:1.2.3.4:0a0b", ..IDEVID };
    refused(&world.enroll("board-1", &world.idevid("likeness", &likeness)), "ATTESTATION_FAILED");
    let module = Wish { subject: "/CN=x", extensions: MODULE, ..IDEVID };
    world.enroll("board-1", &world.idevid("module", &module)).succeeded();
}

/// Refuse 33: a token that somebody made for it is less than what the device has proven.
#[test]
fn a_device_that_has_proven_its_factory_identity_never_enrolls_by_less() {
    let Some(world) = World::new() else { return };
    world.register("board-1", "boards", &world.factory, "SN-1");
    world.enroll("board-1", &world.idevid("board-1", &IDEVID)).succeeded();
    let token = world.server.scratch().join("again.token");
    let options = ["--fleet", "boards", "--device-id", "board-1", "--reenroll"];
    let token = world.server.admin().token(&options, &token);
    let thief = Device::new(world.server.scratch().join("thief"));
    refused(&thief.try_enroll(&world.server, "board-1", &token), "TIER_REFUSED");
    world.server.admin().run(&["fleet", "set", "boards", "--reenroll", "hardware"]);
    std::fs::remove_dir_all(world.server.scratch().join("board-1")).expect("it was there");
    refused(&world.enroll("board-1", &world.idevid("again", &IDEVID)), "ALREADY_ENROLLED");
}

/// Refuse 33, after a revocation: an admin lets it back in, once, and by no less than it has proven.
#[test]
fn a_revoked_board_comes_back_once_by_the_identity_that_it_has_proven() {
    let Some(world) = World::new() else { return };
    world.register("board-1", "boards", &world.factory, "SN-1");
    let idevid = world.idevid("board-1", &IDEVID);
    world.enroll("board-1", &idevid).succeeded();
    let admin = world.server.admin();
    assert_eq!(admin.reason(&["device", "allow-reenroll", "board-1"]), "STATE_REFUSED");
    admin.run(&["device", "revoke", "board-1"]);
    std::fs::remove_dir_all(world.server.scratch().join("board-1")).expect("it was there");
    refused(&world.enroll("board-1", &idevid), "DEVICE_REVOKED");
    let allowed = admin.run(&["device", "allow-reenroll", "board-1"]);
    assert_eq!((&allowed["status"], &allowed["reenroll_allowed"]), (&"revoked".into(), &true.into()));
    assert!(allowed["reenroll_until"].is_string(), "{allowed}");
    admin.run(&["device", "allow-reenroll", "board-1", "--for", "1h"]);
    let token = world.server.scratch().join("less.token");
    let token = admin.token(&["--fleet", "boards", "--device-id", "board-1"], &token);
    let thief = Device::new(world.server.scratch().join("thief"));
    refused(&thief.try_enroll(&world.server, "board-1", &token), "TIER_REFUSED");
    assert_eq!(world.shown("board-1")["reenroll_allowed"], true, "a failed attempt uses nothing up");
    world.enroll("board-1", &idevid).succeeded();
    let shown = world.shown("board-1");
    assert_eq!((&shown["status"], &shown["reenroll_allowed"]), (&"active".into(), &false.into()));
    assert_eq!(shown["generation"], 2, "it was confirmed");
    let revoked = |row: &&serde_json::Value| row["revoked_at"].is_string();
    let certificates = shown["certificates"].as_array().expect("certificates");
    assert_eq!(certificates.iter().filter(revoked).count(), 1, "what was revoked stays so: {shown}");
    admin.run(&["device", "revoke", "board-1"]);
    refused(&world.enroll("board-1", &idevid), "DEVICE_REVOKED");
}

/// Refuse 14, 24, 25: what leads to no root, or was not made for this, or would take long to look at.
#[test]
fn chains_that_are_not_the_makers_or_not_for_this_are_refused() {
    let Some(world) = World::new() else { return };
    world.register("board-1", "boards", &world.factory, "SN-1");
    let honest = world.idevid("honest", &IDEVID);
    let (maker, factory) = (&world.maker, &world.factory);

    // A CA of the same name, with keys of its own.
    let elsewhere = Maker::new(world.server.scratch().join("attacker")).expect("openssl is there");
    let root = elsewhere.make("root", &Wish { subject: "/O=Maker/CN=Root", ..CA }, None);
    let intermediate = elsewhere.make("factory", &Wish { subject: "/O=Maker/CN=Factory", ..CA }, Some(&root));
    let forged = elsewhere.make("board", &IDEVID, Some(&intermediate));

    let encipherment = Wish { extensions: "keyUsage=critical,keyEncipherment\n", ..IDEVID };
    let authority = Wish { extensions: CA.extensions, ..IDEVID };
    let twice = Wish { subject: "/serialNumber=SN-1/serialNumber=SN-2", ..IDEVID };
    let nameless = Wish { subject: "/CN=SN-1", ..IDEVID };
    let (encipherment, authority, twice, nameless) = (
        world.idevid("encipherment", &encipherment),
        world.idevid("authority", &authority),
        world.idevid("twice", &twice),
        world.idevid("nameless", &nameless),
    );
    let chains: [(&str, &[&Made], &Path); 7] = [
        ("forged", &[&forged, &intermediate], &forged.key),
        ("forged and the real one above", &[&forged, factory], &forged.key),
        ("for encipherment", &[&encipherment, factory], &encipherment.key),
        ("a CA", &[&authority, factory], &authority.key),
        ("two serial numbers", &[&twice, factory], &twice.key),
        ("none", &[&nameless, factory], &nameless.key),
        ("without its intermediate", &[&honest], &honest.key),
    ];
    for (what, certificates, key) in chains {
        let chain = maker.chain("hostile", certificates);
        let finished = world.enroll_with("board-1", &chain, key);
        assert!(finished.stderr.contains("ATTESTATION_FAILED"), "{what}: {finished:?}");
    }
    // That is known on the device already; what the server makes of it: `a_chain_that_somebody_else_shows_is_no_proof`.
    let finished = world.enroll_with("board-1", &maker.chain("hostile", &[&honest, factory]), &forged.key);
    assert!(finished.code == 2 && finished.stderr.contains("the key is not the one"), "{finished:?}");
    assert_eq!(world.shown("board-1")["status"], "registered");
    world.enroll("board-1", &honest).succeeded();

    // All is well but for the size of the intermediate's key.
    let bits = |bits: &'static str| ["-algorithm", "RSA", "-pkeyopt", bits];
    for (id, key, taken) in
        [("board-8", bits("rsa_keygen_bits:3072"), true), ("board-9", bits("rsa_keygen_bits:5120"), false)]
    {
        let issuer = maker.make(id, &Wish { subject: "/CN=RSA", key: &key, ..CA }, Some(&world.root));
        let idevid = maker.make(&format!("{id}-idevid"), &IDEVID, Some(&issuer));
        world.register(id, "boards", &issuer, "SN-1");
        let chain = maker.chain(id, &[&idevid, &issuer]);
        let finished = world.enroll_with(id, &chain, &idevid.key);
        if taken { _ = finished.succeeded() } else { refused(&finished, "ATTESTATION_FAILED") }
    }
}

/// Refuse 20: which board would have passed for the name, and which name for the board, is not for who asks to learn.
#[tokio::test]
async fn a_refusal_tells_neither_the_identity_nor_the_name_that_would_have_passed() {
    let Some(world) = World::new() else { return };
    let board = |name: &str, serial: &str| {
        world.idevid(name, &Wish { subject: &format!("/CN=x/serialNumber={serial}"), ..IDEVID })
    };
    let (strange, other) = (board("strange", "SN-5"), board("other", "SN-6"));
    let issuer = world.factory.spki_sha256();
    world.register("board-1", "boards", &world.factory, "SN-1");
    world.register("board-6", "boards", &world.factory, "SN-6");
    let expected = ["SN-1", &issuer, "board-6", "boards"].map(str::as_bytes);
    let over_other_octets = |start: &[u8]| [start, stranger::UNKNOWN_FIELD].concat();
    for (told, reason) in [
        (told(&world, "board-1", &strange, <[u8]>::to_vec).await, "ATTESTATION_FAILED"),
        (told(&world, "board-1", &other, <[u8]>::to_vec).await, "ID_REFUSED"),
        (told(&world, "", &other, over_other_octets).await, "ATTESTATION_FAILED"),
    ] {
        assert_eq!(Refusal::of(&told).reason, reason);
        stranger::tells_none_of(&told, &expected);
    }
}

/// Refuse 26.
#[test]
fn the_same_serial_number_under_another_maker_is_another_device() {
    let Some(world) = World::new() else { return };
    let other = world.maker.make("other", &Wish { subject: "/O=Other/CN=Root", ..CA }, None);
    world.fleet("others", &other);
    world.register("board-1", "boards", &world.factory, "SN-1");
    world.register("other-1", "others", &other, "SN-1");
    let theirs = world.maker.make("theirs", &IDEVID, Some(&other));
    let chain = world.maker.chain("theirs", &[&theirs]);
    refused(&world.enroll_with("board-1", &chain, &theirs.key), "ID_REFUSED");
    world.enroll_with("other-1", &chain, &theirs.key).succeeded();
    world.enroll("board-1", &world.idevid("own", &IDEVID)).succeeded();
    // A root that another fleet pins is none for this one.
    world.register("board-2", "boards", &other, "SN-2");
    let strange = world.maker.make("strange", &Wish { subject: "/serialNumber=SN-2", ..IDEVID }, Some(&other));
    let chain = world.maker.chain("strange", &[&strange]);
    refused(&world.enroll_with("board-2", &chain, &strange.key), "ATTESTATION_FAILED");
}

#[test]
fn an_expired_intermediate_strands_nobody_unless_the_fleet_wants_it_so() {
    let Some(world) = World::new() else { return };
    let ended = Wish { subject: "/CN=Ended", until: "20210101000000Z", ..CA };
    let ended = world.maker.make("ended", &ended, Some(&world.root));
    let idevid = world.maker.make("old", &IDEVID, Some(&ended));
    let chain = world.maker.chain("old", &[&idevid, &ended]);
    world.register("board-1", "boards", &ended, "SN-1");
    let admin = world.server.admin();
    admin.run(&["fleet", "set", "boards", "--factory-validity", "now"]);
    refused(&world.enroll_with("board-1", &chain, &idevid.key), "ATTESTATION_FAILED");
    admin.run(&["fleet", "set", "boards", "--factory-validity", "birth"]);
    world.enroll_with("board-1", &chain, &idevid.key).succeeded();
}

#[test]
fn a_banned_key_is_refused_wherever_it_is_in_the_chain() {
    let Some(world) = World::new() else { return };
    world.register("board-1", "boards", &world.factory, "SN-1");
    let idevid = world.idevid("board", &IDEVID);
    let admin = world.server.admin();
    for banned in [&idevid, &world.factory, &world.root] {
        admin.run(&["fleet", "set", "boards", "--banned-keys", &banned.spki_sha256()]);
        refused(&world.enroll("board-1", &idevid), "ATTESTATION_FAILED");
    }
    admin.run(&["fleet", "set", "boards", "--banned-keys", &"0".repeat(64)]);
    world.enroll("board-1", &idevid).succeeded();
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_when_it_is_set() {
    let Some(world) = World::new() else { return };
    let admin = world.server.admin();
    let text_file = world.server.scratch().join("text.pem");
    std::fs::write(&text_file, "no certificate").expect("it is written");
    for (arguments, says) in [
        (&["--attest", "factory"][..], "factory needs the roots"),
        (&["--attest", "token", "--least-tier", "factory"], "no method accepted proves the least tier"),
        (&["--attest", "previous"], "unknown attestation method"),
        (&["--attest", "token", "--grace", "400d"], "grace must be at most"),
        (&["--attest", "token", "--factory-roots", text(&text_file)], "something else in it than PEM blocks"),
        (&["--attest", "token", "--banned-keys", "00"], "must be a SHA-256"),
    ] {
        let refused = admin.refused(&[&["fleet", "create", "none"], arguments].concat());
        assert!(refused.contains(says), "{says}: {refused}");
    }
}
