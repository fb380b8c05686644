//! Kills of the server: at every durable step of every kind of request, at its start, and at any moment under load.
//! Whatever was acknowledged is known afterwards, no serial number and no CRL number is used twice, and the devices go
//! on with the very same requests.

use std::{fs, sync::Arc};

use ca_server::step::Step;
use fleetca_proto::v1::{
    AllowReenrollRequest, DeviceStatus, GetDeviceRequest, HoldDeviceRequest, ReleaseDeviceRequest, RevocationReason,
    RevocationReceipt, RevokeDeviceRequest,
};
use fleetca_tests::{
    admin::Admin,
    holder::Holder,
    http,
    ledger::Ledger,
    server::Server,
    stranger::{self, Refusal, SubjectKey},
    wait::{SOON, until_true},
};
use tokio::{sync::mpsc, task::JoinSet};
use tonic::Status;

/// The steps of a request that commits once, and of the seal that follows it within a second.
const ONE_COMMIT: [(Step, usize); 6] = [
    (Step::Committing, 1),
    (Step::Committed, 1),
    (Step::SealSigned, 1),
    (Step::Committing, 2),
    (Step::Committed, 2),
    (Step::Checkpointed, 1),
];

/// The steps of a request that waits until a CRL is published.
const AND_A_CRL: [(Step, usize); 7] = [
    (Step::Committing, 1),
    (Step::Committed, 1),
    (Step::CrlSigned, 1),
    (Step::Committing, 2),
    (Step::Committed, 2),
    (Step::CrlRecorded, 1),
    (Step::CrlServed, 1),
];

/// A server with a fleet, and what its clients were told.
struct World {
    server: Server,
    ledger: Ledger,
    devices: usize,
}

impl World {
    fn new() -> World {
        let server = Server::start_killable();
        server.admin().create_fleet("sensors");
        World { server, ledger: Ledger::default(), devices: 0 }
    }

    fn new_id(&mut self) -> String {
        self.devices += 1;
        format!("d{}", self.devices)
    }

    /// A device that has enrolled.
    async fn device(&mut self) -> (String, Holder) {
        let (id, strangers) = (self.new_id(), stranger::connect(&self.server).await);
        let holder = Admin::of(&self.server).enroll(&strangers, "sensors", &id).await;
        self.ledger.issued(&holder);
        (id, holder)
    }

    /// Has the server die at a step of what comes next. Nothing is under way by then: all that was committed is sealed.
    fn kill_at(&mut self, (step, times): (Step, usize)) {
        let database = self.server.dir().join("ca.db");
        let store = rusqlite::Connection::open(database).expect("the store opens");
        let unsealed =
            "SELECT (SELECT max(sequence) FROM audit_records) - (SELECT max(last_sequence) FROM audit_seals)";
        let sealed = || store.query_row(unsealed, [], |row| row.get(0)).is_ok_and(|left: i64| left == 0);
        until_true(SOON, "the log is sealed", sealed);
        self.server.kill_at(step, times);
    }

    /// After the kill: starts again, and holds the server to what was acknowledged.
    async fn come_back(&mut self) {
        self.server.until_killed();
        self.server.start_again();
        self.ledger.check(&self.server).await;
    }
}

async fn renews(world: &mut World, holder: &Holder) {
    let next = holder.renew_and_confirm(&world.server).await;
    world.ledger.issued(&next);
}

#[tokio::test]
async fn a_server_killed_at_any_step_of_an_enrollment_has_the_same_request_answered() {
    let mut world = World::new();
    for kill in ONE_COMMIT {
        let (id, key) = (world.new_id(), SubjectKey::generate());
        let token = Admin::of(&world.server).token("sensors", &id).await;
        let strangers = stranger::connect(&world.server).await;
        world.kill_at(kill);
        let answered = stranger::enroll(&strangers, &id, &token, &key).await;
        if let Ok(issued) = &answered {
            world.ledger.issued(&Holder::of(issued, &key));
        }
        world.come_back().await;
        let strangers = stranger::connect(&world.server).await;
        let issued = stranger::enroll(&strangers, &id, &token, &key).await.expect("the same request is answered");
        let holder = Holder::of(&issued, &key);
        world.ledger.issued(&holder);
        if let Ok(before) = answered {
            assert_eq!(before.chain, issued.chain, "{kill:?}: the same certificate again");
        }
        renews(&mut world, &holder).await;
    }
    world.ledger.check(&world.server).await;
}

#[tokio::test]
async fn a_server_killed_at_any_step_of_a_renewal_has_the_same_request_answered() {
    let mut world = World::new();
    for kill in ONE_COMMIT {
        let ((_, holder), key) = (world.device().await, SubjectKey::generate());
        world.kill_at(kill);
        let answered = holder.renew(&world.server, &key).await;
        if let Ok(issued) = &answered {
            world.ledger.issued(&Holder::of(issued, &key));
        }
        world.come_back().await;
        let issued = holder.renew(&world.server, &key).await.expect("the same request is answered");
        let next = Holder::of(&issued, &key);
        world.ledger.issued(&next);
        if let Ok(before) = answered {
            assert_eq!(before.chain, issued.chain, "{kill:?}: the same certificate again");
        }
        // And so with Confirm.
        world.kill_at(kill);
        let confirmed = next.confirm(&world.server).await;
        world.come_back().await;
        assert!(confirmed.is_ok() || !matches!(kill, (Step::SealSigned | Step::Checkpointed, _)), "{confirmed:?}");
        next.confirm(&world.server).await.expect("the same request is answered");
        renews(&mut world, &next).await;
    }
    world.ledger.check(&world.server).await;
}

#[tokio::test]
async fn a_server_killed_at_any_step_of_a_revocation_keeps_it_and_publishes_it() {
    let (mut world, mut revoked) = (World::new(), Vec::new());
    for kill in AND_A_CRL {
        let (id, holder) = world.device().await;
        let request = RevokeDeviceRequest { id, reason: RevocationReason::AffiliationChanged.into() };
        let admin = Admin::of(&world.server);
        world.kill_at(kill);
        if let Ok(receipt) = admin.client().revoke_device(request.clone()).await {
            world.ledger.revoked(holder.serial(), receipt.get_ref());
        }
        world.come_back().await;
        // What was on disk is in force and published, whether the operator heard of it or not.
        if kill != (Step::Committing, 1) {
            // Asked of an operator: a refused device would leave an event, whose commit the next kill could meet.
            let asked = GetDeviceRequest { id: request.id.clone() };
            let device = Admin::of(&world.server).client().get_device(asked).await.expect("the device");
            assert_eq!(device.get_ref().status(), DeviceStatus::Revoked, "{kill:?}");
        }
        let receipt = Admin::of(&world.server).client().revoke_device(request).await.expect("a receipt");
        world.ledger.revoked(holder.serial(), receipt.get_ref());
        world.ledger.check(&world.server).await;
        revoked.push(holder);
    }
    for holder in revoked {
        let refused = holder.renew(&world.server, &SubjectKey::generate()).await.expect_err("it is revoked");
        assert_eq!(Refusal::of(&refused).reason, "DEVICE_REVOKED");
    }
}

#[tokio::test]
async fn a_server_killed_at_any_step_of_a_hold_or_a_release_goes_on_from_where_it_was() {
    let mut world = World::new();
    for kill in AND_A_CRL {
        let (id, holder) = world.device().await;
        let hold = HoldDeviceRequest { id: id.clone() };
        let held = Admin::of(&world.server).client().hold_device(hold).await.expect("a receipt").into_inner();
        world.ledger.revoked(holder.serial(), &held);
        let admin = Admin::of(&world.server);
        world.kill_at(kill);
        let release = ReleaseDeviceRequest { id: id.clone(), ..Default::default() };
        let answered = admin.client().release_device(release.clone()).await;
        if kill != (Step::Committing, 1) {
            world.ledger.released(&holder.serial());
        }
        world.come_back().await;
        world.ledger.released(&holder.serial());
        let admin = Admin::of(&world.server);
        let device = admin.client().get_device(GetDeviceRequest { id }).await.expect("the device").into_inner();
        if device.status() != DeviceStatus::Active {
            assert!(answered.is_err() && kill == (Step::Committing, 1), "{kill:?}: {answered:?}");
            admin.client().release_device(release).await.expect("a receipt");
        }
        renews(&mut world, &holder).await;
    }
    world.ledger.check(&world.server).await;
}

/// The word that lets a revoked device back, and the enrollment that uses it up: each once, whatever was answered.
#[tokio::test]
async fn a_server_killed_at_any_step_of_a_way_back_lets_the_device_in_once() {
    let (mut world, mut done) = (World::new(), Vec::new());
    for kill in ONE_COMMIT {
        let (id, holder) = world.device().await;
        let request = RevokeDeviceRequest { id: id.clone(), reason: RevocationReason::AffiliationChanged.into() };
        let receipt = Admin::of(&world.server).client().revoke_device(request).await.expect("a receipt");
        world.ledger.revoked(holder.serial(), receipt.get_ref());

        let allow = AllowReenrollRequest { id: id.clone(), ..Default::default() };
        let admin = Admin::of(&world.server);
        world.kill_at(kill);
        let answered = admin.client().allow_reenroll(allow.clone()).await;
        world.come_back().await;
        let admin = Admin::of(&world.server);
        let asked = GetDeviceRequest { id: id.clone() };
        let device = admin.client().get_device(asked).await.expect("the device").into_inner();
        assert_eq!(device.reenroll_allowed, kill != (Step::Committing, 1), "{kill:?}: {answered:?}");
        // The same command again is harmless.
        admin.client().allow_reenroll(allow.clone()).await.expect("it may come back");

        let (token, key) = (admin.token("sensors", &id).await, SubjectKey::generate());
        let unused = admin.token("sensors", &id).await;
        let strangers = stranger::connect(&world.server).await;
        world.kill_at(kill);
        let answered = stranger::enroll(&strangers, &id, &token, &key).await;
        world.come_back().await;
        let strangers = stranger::connect(&world.server).await;
        let issued = stranger::enroll(&strangers, &id, &token, &key).await.expect("the same request is answered");
        if let Ok(before) = answered {
            assert_eq!(before.chain, issued.chain, "{kill:?}: the same certificate again");
        }
        let back = Holder::of(&issued, &key);
        world.ledger.issued(&back);
        back.confirm(&world.server).await.expect("it is in force");
        renews(&mut world, &back).await;
        done.push((id, holder, unused));
    }
    // It was used up: nobody else comes by it, and nothing of before is back. Asked at the end: who is refused leaves an
    // event, whose commit the next kill could meet.
    let strangers = stranger::connect(&world.server).await;
    for (id, before, unused) in done {
        let thief = stranger::enroll(&strangers, &id, &unused, &SubjectKey::generate()).await;
        assert_eq!(Refusal::of(&thief.expect_err("once")).reason, "ALREADY_ENROLLED");
        let allow = AllowReenrollRequest { id, ..Default::default() };
        let again = Admin::of(&world.server).client().allow_reenroll(allow).await;
        assert_eq!(Refusal::of(&again.expect_err("it is back")).reason, "STATE_REFUSED");
        let refused = before.renew(&world.server, &SubjectKey::generate()).await.expect_err("it was revoked");
        assert_eq!(Refusal::of(&refused).reason, "CERTIFICATE_REVOKED");
    }
    world.ledger.check(&world.server).await;
}

#[tokio::test]
async fn a_server_killed_at_any_step_of_its_start_starts() {
    let mut world = World::new();
    let (id, revoked) = world.device().await;
    let (_, honest) = world.device().await;
    let admin = Admin::of(&world.server);
    // A revocation that is on disk and on no CRL: the next start publishes it.
    world.kill_at((Step::Committed, 1));
    let request = RevokeDeviceRequest { id, reason: RevocationReason::AffiliationChanged.into() };
    admin.client().revoke_device(request.clone()).await.expect_err("the server is gone");
    world.server.until_killed();
    for kill in [(Step::CrlSigned, 1), (Step::Committing, 1), (Step::Committed, 1)] {
        world.server.kill_at(kill.0, kill.1);
        world.server.start_and_die();
    }
    world.server.start_again();
    world.ledger.check(&world.server).await;
    let receipt = Admin::of(&world.server).client().revoke_device(request).await.expect("a receipt").into_inner();
    assert_eq!(receipt.certificates, 0, "it was so already");
    world.ledger.revoked(revoked.serial(), &receipt);
    world.ledger.check(&world.server).await;
    // The server's own certificate is made anew where it is missing.
    let own = world.server.dir().join("server.pem");
    for kill in [(Step::Committing, 1), (Step::Committed, 1), (Step::FileDrafted, 1), (Step::FilePlaced, 1)] {
        world.server.stop();
        fs::remove_file(&own).expect("it was there");
        world.server.kill_at(kill.0, kill.1);
        world.server.start_and_die();
        world.server.start_again();
        world.ledger.check(&world.server).await;
        let left: Vec<_> = fs::read_dir(world.server.dir()).expect("a folder").collect();
        assert!(left.iter().flatten().all(|entry| entry.path().extension() != Some("new".as_ref())), "{left:?}");
    }
    renews(&mut world, &honest).await;
}

/// What a client under load was told.
#[derive(Debug)]
enum Told {
    Issued(Arc<Holder>),
    Revoked(String, RevocationReceipt),
    /// A CRL (DER) of this issuer was fetched.
    Crl(String, Vec<u8>),
}

/// One client: enrolls devices, renews each, and revokes every third, until the server is gone. Gives the devices that
/// are in force, and what it heard last.
async fn client(server: Arc<Server>, name: String, told: mpsc::UnboundedSender<Told>) -> (Vec<Arc<Holder>>, Status) {
    let mut alive = Vec::new();
    let outcome: Result<(), Status> = async {
        let admin = Admin::of(&server);
        let strangers = stranger::connect(&server).await;
        for number in 0.. {
            let (id, key) = (format!("{name}-{number}"), SubjectKey::generate());
            // One for each: a revocation would suspend the token that a device came by.
            let token = admin.try_token("sensors", &id).await?;
            let issued = stranger::enroll(&strangers, &id, &token, &key).await?;
            let holder = Arc::new(Holder::of(&issued, &key));
            let _ = told.send(Told::Issued(holder.clone()));
            alive.push(holder.clone());
            let key = SubjectKey::generate();
            let next = Arc::new(Holder::of(&holder.renew(&server, &key).await?, &key));
            let _ = told.send(Told::Issued(next.clone()));
            // From here on the one before may be former: an honest device goes on with the new one.
            alive.pop();
            alive.push(next.clone());
            next.confirm(&server).await?;
            if number % 3 == 2 {
                let request = RevokeDeviceRequest { id, reason: RevocationReason::KeyCompromise.into() };
                // Whether it is answered or not, the device is not known to be in force any more.
                alive.pop();
                let receipt = admin.client().revoke_device(request).await?.into_inner();
                let issuer = receipt.crls[0].issuer.clone();
                let _ = told.send(Told::Revoked(next.serial(), receipt));
                let url = server.http_url(&format!("/crl/{issuer}/full.crl"));
                let fetched = tokio::task::spawn_blocking(move || http::try_request("GET", &url, &[])).await;
                // A kill may cut an answer short.
                let whole = |fetched: &http::Response| {
                    fetched.header("content-length") == Some(&fetched.body.len().to_string())
                };
                if let Ok(Ok(crl)) = fetched
                    && crl.status == 200
                    && whole(&crl)
                {
                    let _ = told.send(Told::Crl(issuer, crl.body));
                }
            }
        }
        Ok(())
    }
    .await;
    (alive, outcome.expect_err("it goes on until it is refused"))
}

/// Numbers that look random and are the same in every run with one seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// `FLEETCA_KILL_ROUNDS` and `FLEETCA_KILL_SEED` choose more rounds, and other moments.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_again_and_again_under_load_forgets_nothing() {
    let (rounds, seed) = (setting("FLEETCA_KILL_ROUNDS", 5), setting("FLEETCA_KILL_SEED", 7));
    let mut dice = Dice(seed);
    let mut server = Server::start();
    server.admin().create_fleet("sensors");
    let mut ledger = Ledger::default();
    for round in 0..rounds {
        let (tell, mut told) = mpsc::unbounded_channel();
        let shared = Arc::new(server);
        let mut clients = JoinSet::new();
        for number in 0..4 {
            clients.spawn(client(shared.clone(), format!("r{round}-c{number}"), tell.clone()));
        }
        drop(tell);
        let mut keep = |told: Told| match told {
            Told::Issued(holder) => ledger.issued(&holder),
            Told::Revoked(serial, receipt) => ledger.revoked(serial, &receipt),
            Told::Crl(issuer, der) => drop(ledger.seen(&issuer, der)),
        };
        for _ in 0..10 + dice.roll(60) {
            match told.recv().await {
                Some(told) => keep(told),
                None => {
                    let heard: Vec<_> = clients.join_all().await.into_iter().map(|(_, heard)| heard).collect();
                    panic!("the clients ended by themselves: {heard:?}");
                }
            }
        }
        shared.signal("KILL");
        let ended = clients.join_all().await;
        while let Some(more) = told.recv().await {
            keep(more);
        }
        server = Arc::into_inner(shared).expect("the clients have ended");
        server.kill();
        server.start_again();
        ledger.check(&server).await;
        // Whatever the moment was, an honest device goes on: it confirms what it has, and renews.
        for holder in ended.iter().flat_map(|(alive, _)| alive) {
            holder.confirm(&server).await.expect("it is in force, or was already");
            let key = SubjectKey::generate();
            let issued = holder.renew(&server, &key).await.unwrap_or_else(|status| {
                panic!("round {round} of seed {seed}: {} does not go on: {status:?}", holder.serial())
            });
            let next = Holder::of(&issued, &key);
            next.confirm(&server).await.expect("it is in force");
            ledger.issued(&next);
        }
    }
    ledger.check(&server).await;
}
