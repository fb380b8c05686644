//! What gateways run, against a hostile HTTP server on the loopback interface: whatever it answers, the file is not
//! there, or holds exactly the CRLs that the CA has signed.

#![no_main]

use std::{fs, sync::LazyLock};

use ca_server::pki::{CaRole, PemLabel, from_pem, to_pem};
use enroll_client::{
    crl_sync::{CrlSync, Form, Source},
    trust::Roots,
};
use fleetca_fuzz::{
    folder,
    hostile::{Hostile, ok},
    split, variant,
    world::World,
};
use libfuzzer_sys::fuzz_target;

struct House {
    world: World,
    server: Hostile,
    real: [Vec<u8>; 2],
    crls: Vec<Vec<u8>>,
    folder: tempfile::TempDir,
}

static HOUSE: LazyLock<House> = LazyLock::new(|| {
    let world = World::new();
    let crls = [CaRole::DeviceIssuing, CaRole::DeviceRoot].map(|role| world.crl(role)).to_vec();
    let bundle: String = crls.iter().map(|crl| to_pem(PemLabel::Crl, crl)).collect();
    let real = [bundle.as_bytes(), world.certificate(CaRole::DeviceIssuing)].map(ok);
    let server = Hostile::start(&world.runtime);
    House { world, server, real, crls, folder: folder() }
});

fuzz_target!(|input: &[u8]| {
    let house = &*HOUSE;
    let (first, second) = split(input);
    house.server.answer(variant(&house.real[0], first), variant(&house.real[1], second));
    let out = house.folder.path().join("crls.pem");
    for file in [&out, &house.folder.path().join("crls.pem.state.json")] {
        // It need not be there.
        let _ = fs::remove_file(file);
    }
    let roots = Roots::from_ders(&[house.world.certificate(CaRole::DeviceRoot)]).expect("a root");
    let source = Source::Http { url: house.server.url(), roots };
    let sync = CrlSync { source, form: Form::Bundle, out: out.clone(), on_change: None, probe: None, max_age: None, on_stale: None };
    let synced = house.world.runtime.block_on(sync.run());
    assert_eq!(synced.is_ok(), out.exists());
    if let Ok(text) = fs::read_to_string(&out) {
        let mut written = from_pem(PemLabel::Crl, &text).expect("it is PEM");
        written.sort();
        let mut signed = house.crls.clone();
        signed.sort();
        assert_eq!(written, signed);
    }
});
