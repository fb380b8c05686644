//! What `sync-crls` keeps beside its file, however damaged, and CRLs that our CA has signed, whatever is in them: the file
//! is as it was, or holds what came; it never goes back to a number below the one kept; what is kept reads again.

#![no_main]

use std::{fs, sync::LazyLock};

use ca_server::pki::{CaRole, IssuerCertificate, PemLabel, to_pem};
use enroll_client::{
    crl_sync::{CrlSync, Form, Source, SyncError, Synced, crl::Crl},
    trust::Roots,
};
use fleetca_fuzz::{
    folder,
    hostile::{Hostile, ok},
    signed_variant, split, variant,
    world::World,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

struct House {
    world: World,
    server: Hostile,
    /// What the CA has signed: of the issuing CA, and of the root.
    crls: [Vec<u8>; 2],
    /// What was kept when they were fetched.
    state: Vec<u8>,
    issuer: String,
    folder: tempfile::TempDir,
}

static HOUSE: LazyLock<House> = LazyLock::new(|| {
    let world = World::new();
    let crls = [CaRole::DeviceIssuing, CaRole::DeviceRoot].map(|role| world.crl(role));
    let issuing = IssuerCertificate::parse(world.certificate(CaRole::DeviceIssuing)).expect("a CA certificate");
    let server = Hostile::start(&world.runtime);
    let (issuer, state) = (issuing.id().to_string(), Vec::new());
    let mut house = House { world, server, crls, state, issuer, folder: folder() };
    house.serve(&house.crls[0]);
    house.sync().expect("the real ones are taken");
    house.state = fs::read(house.path("crls.pem.state.json")).expect("it is kept");
    house
});

impl House {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn bundle(&self, issuing: &[u8]) -> String {
        [issuing, &self.crls[1]].map(|crl| to_pem(PemLabel::Crl, crl)).concat()
    }

    fn serve(&self, issuing: &[u8]) {
        let bundle = self.bundle(issuing);
        self.server.answer(ok(bundle.as_bytes()), ok(self.world.certificate(CaRole::DeviceIssuing)));
    }

    fn sync(&self) -> Result<Synced, SyncError> {
        let roots = Roots::from_ders(&[self.world.certificate(CaRole::DeviceRoot)]).expect("a root");
        let source = Source::Http { url: self.server.url(), roots };
        let out = self.path("crls.pem");
        self.world.runtime.block_on(CrlSync { source, form: Form::Bundle, out, on_change: None, probe: None, max_age: None, on_stale: None }.run())
    }

    /// The number that a state says was the highest, hexadecimal without leading zeros.
    fn number(&self, state: &[u8]) -> Option<String> {
        let state: Value = serde_json::from_slice(state).ok()?;
        let number = state["crls"][&self.issuer]["number"].as_str()?;
        Some(number.trim_start_matches('0').to_owned())
    }
}

fuzz_target!(|input: &[u8]| {
    let house = &*HOUSE;
    let (state, crl) = split(input);
    let state = variant(&house.state, state);
    let crl = signed_variant(&house.crls[0], crl, house.world.signers[&CaRole::DeviceIssuing].as_ref());
    let before = house.bundle(&house.crls[0]);
    fs::write(house.path("crls.pem"), &before).expect("a file");
    fs::write(house.path("crls.pem.state.json"), &state).expect("a file");
    house.serve(&crl);
    let synced = house.sync();
    let after = fs::read_to_string(house.path("crls.pem")).expect("it is there");
    if synced.is_err() {
        assert_eq!(after, before, "a failure changes nothing");
        return;
    }
    assert_eq!(after, house.bundle(&crl));
    let number = Crl::parse(&crl).expect("it was taken").number.as_hex().trim_start_matches('0').to_owned();
    if let Some(kept) = house.number(&state) {
        assert!((kept.len(), &kept) <= (number.len(), &number), "from number {kept} back to {number}");
    }
    let kept = fs::read(house.path("crls.pem.state.json")).expect("it is there");
    assert_eq!(house.number(&kept), Some(number));
    assert!(!house.sync().expect("the same is taken again").changed);
});
