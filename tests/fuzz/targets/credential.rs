//! A credential folder of which one file is another: it is refused, or it is what one could have made of it. The first
//! octet says which file.

#![no_main]

use std::{fs, sync::LazyLock};

use enroll_client::{certificate::Certificate, credential::Credential, trust::Roots, wall_time::WallTime};
use fleetca_fuzz::{folder, variant, world::World};
use libfuzzer_sys::fuzz_target;

const FILES: [&str; 5] = ["key.pem", "credential.pem", "trust.pem", "device-roots.pem", "state.json"];
const STATE: &str = include_str!("../seeds/state/state");

struct Real {
    world: World,
    contents: [Vec<u8>; 5],
    folder: tempfile::TempDir,
}

static REAL: LazyLock<Real> = LazyLock::new(|| {
    use ca_server::pki::CaRole::{ControlRoot, DeviceRoot};
    let (world, folder) = (World::new(), folder());
    fs::create_dir_all(folder.path().join("generations/000001")).expect("a folder");
    std::os::unix::fs::symlink("generations/000001", folder.path().join("current")).expect("a link");
    let chain = world.issued.chain.iter().map(|der| Certificate::parse(der).expect("our own").to_pem());
    let root = |place| Roots::from_ders(&[world.certificate(place)]).expect("a root").to_pem().into_bytes();
    let contents = [
        world.key.to_pem().as_bytes().to_vec(),
        chain.collect::<String>().into_bytes(),
        root(ControlRoot),
        root(DeviceRoot),
        STATE.replace("operator", "device").replace("admin", "pump-7").into_bytes(),
    ];
    Real { world, contents, folder }
});

fuzz_target!(|input: &[u8]| {
    let Some((which, rest)) = input.split_first() else { return };
    let which = usize::from(*which) % FILES.len();
    for (at, (name, content)) in FILES.iter().zip(&REAL.contents).enumerate() {
        let path = REAL.folder.path().join("current").join(name);
        let content = if at == which { variant(content, rest) } else { content.clone() };
        fs::write(path, content).expect("a file");
    }
    let Ok(credential) = Credential::load(REAL.folder.path()) else { return };
    // Whatever else is in it, the key is the one that the leaf is for.
    assert_eq!(credential.key().spki(), credential.leaf().spki());
    let now = WallTime::now();
    if credential.check(now).is_ok() {
        assert_eq!(credential.leaf().der().as_ref(), REAL.world.issued.chain[0]);
        assert_eq!(credential.id().as_str(), "pump-7");
        assert!(credential.check(WallTime::from_unix(0)).is_ok(), "a clock that is off does not matter");
    }
});
