//! `restore --crl`: CRLs that gateways held, whatever is in them. What is taken is signed by an issuer of ours, and each of
//! its entries is revoked from then on, and on the next CRL of a server that goes on.

#![no_main]

use std::{
    fs,
    sync::{Arc, LazyLock},
    time::Duration,
};

use ca_server::{
    authority::{RestoreError, TakenBack, notice_restored, resume, take_back},
    clock::{Clock, SystemClock},
    identity::RevocationReason,
    inventory::device::Status,
    pki::{CaRole, ParsedCrl},
    store::{Store, sqlite::SqliteStore},
};
use fleetca_fuzz::{folder, signed_variant, world::World};
use libfuzzer_sys::fuzz_target;

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Ca {
    world: World,
    /// The newest CRL of each place, as gateways hold it.
    crls: Vec<(CaRole, Vec<u8>)>,
    /// A database that knows nothing of what the newest CRL of the devices' CA says.
    database: Vec<u8>,
    folder: tempfile::TempDir,
}

static CA: LazyLock<Ca> = LazyLock::new(|| {
    let (world, folder) = (World::new(), folder());
    let copy = folder.path().join("copy.db");
    let made_at = SystemClock.now();
    SqliteStore::copy(&world.database(), &copy).expect("a copy");
    world.runtime.block_on(async {
        let device = "device/pump-7".parse().expect("a subject");
        let revoked = world.authority.revoke(&device, RevocationReason::KeyCompromise, "operator/ana").await;
        revoked.expect("a receipt");
        let store = SqliteStore::open_existing(&copy).expect("a store");
        notice_restored(&store, made_at, SystemClock.now()).await.expect("it is noticed");
    });
    let crls = CaRole::ALL.map(|role| (role, world.crl(role))).to_vec();
    let database = fs::read(&copy).expect("it is there");
    Ca { world, crls, database, folder }
});

/// Each entry is revoked, whether its certificate is known or not.
async fn holds(store: &dyn Store, crl: &ParsedCrl, back: &TakenBack) {
    for entry in crl.entries().iter() {
        let known = store.peer(entry.serial).await.expect("the store works");
        let orphan = store.orphan(entry.serial).await.expect("the store works");
        let revoked = known.map_or(orphan.is_some(), |peer| peer.certificate.revoked.is_some());
        assert!(revoked, "{} is on a CRL that was taken back, and not revoked", entry.serial);
    }
    for subject in &back.cut_off {
        let holder = store.holder(subject).await.expect("the store works").expect("it is known");
        assert_ne!(holder.status, Status::Active, "{subject}");
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, _)) = input.split_first() else { return };
    let (role, real) = &CA.crls[usize::from(kind >> 2) % CA.crls.len()];
    let (world, signer) = (&CA.world, &CA.world.signers[role]);
    let der = signed_variant(real, input, signer.as_ref());
    let Ok(crl) = ParsedCrl::parse(der.clone().into()) else {
        return;
    };
    let now = SystemClock.now();
    // In one folder: what the store sets aside there for a full disk is set aside once.
    let path = |name: &str| CA.folder.path().join(name);
    for left in ["ca.db-wal", "ca.db-shm"] {
        // It need not be there.
        let _ = fs::remove_file(path(left));
    }
    fs::write(path("ca.db"), &CA.database).expect("a file");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open_existing(&path("ca.db")).expect("a store"));
    let taken = world.runtime.block_on(async {
        let taken = take_back(store.as_ref(), std::slice::from_ref(&der), now).await;
        if let Err(RestoreError::Store(error)) = &taken {
            panic!("{error}");
        }
        let [back] = <[TakenBack; 1]>::try_from(taken.ok()?).expect("one CRL was given");
        let again = take_back(store.as_ref(), std::slice::from_ref(&der), now).await.expect("it was taken before");
        assert!(again.iter().all(|back| back.taken.is_none()), "it is known now");
        if back.taken.is_some() && !role.is_root() {
            holds(store.as_ref(), &crl, &back).await;
        }
        let issuers = store.issuers().await.expect("the issuers");
        let all: Vec<_> = issuers.iter().map(|row| row.id).collect();
        resume(store.as_ref(), &[], &all, DAY, now).await.expect("it goes on");
        back.taken.is_some().then_some(())
    });
    // The next number must follow: near the end of all numbers there is none, and only we could have used them up.
    if taken.is_none() || role.is_root() || crl.number() > u64::MAX / 2 {
        return;
    }
    let authority = world.over(store);
    let certificate = ca_server::pki::IssuerCertificate::parse(world.certificate(*role)).expect("a CA certificate");
    let next = authority.publisher.current(&certificate.id()).expect("it is published");
    let next = ParsedCrl::parse(next.der.clone()).expect("our own CRL");
    assert!(next.number() > crl.number());
    for entry in crl.entries().iter() {
        let lives = now.since(entry.serial.made_at()) < DAY && entry.serial.made_at() < now;
        let listed = next.entries().iter().any(|listed| listed.serial == entry.serial);
        assert!(listed || !lives, "{} is not on the next CRL", entry.serial);
    }
});
