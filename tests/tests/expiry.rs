//! What ends in the course of weeks: a server in this process, over its real ports, with a clock in the test's hand.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use ca_server::{
    clock::{Clock, ManualClock, SystemClock},
    folder::Folder,
    identity::Timestamp,
    server::Server,
};
use enroll_client::{
    agent::Agent,
    attester::{Attester, previous::Previous, token::JoinToken, tpm::TpmMethod},
    connect::Connection,
    credential::{Credential, LockedFolder},
    enroll::{Enrollment, enroll, recover},
    flow::{FlowError, Observer, Step},
    identity::Kind,
    keys::tpm::Chip,
    refusal::Refusal,
    renew::renew,
    renewal::Action,
    trust::{Roots, Trust},
};
use fleetca_proto::v1::{
    CreateFleetRequest, CreateGatewayRequest, CreateTokenRequest, DeviceStatus, FleetPolicy, GetCrlRequest,
    GetDeviceRequest, ListDevicesRequest, ListFleetsRequest, ListSecurityEventsRequest, RegisterDeviceRequest,
    UpdateFleetRequest, get_crl_request::Form, operator_client::OperatorClient,
};
use fleetca_tests::{
    device::Device,
    inside,
    process::run,
    server::init,
    stranger,
    tpm::Tpm,
    wait::{SOON, until_true},
};
use tempfile::TempDir;
use tonic::{Status, transport::Channel};

const HOUR: Duration = Duration::from_secs(3600);

struct World {
    server: Server,
    begun: Timestamp,
    clock: Arc<ManualClock>,
    folder: TempDir,
}

impl World {
    /// A server with a fleet whose devices' certificates are valid for a day.
    async fn start() -> World {
        let folder = TempDir::new().expect("a temporary folder");
        let ca = Folder::new(folder.path().join("ca"));
        init(ca.path());
        let begun = SystemClock.now();
        let clock = Arc::new(ManualClock::new(begun));
        let server = inside::serve(ca.path(), clock.clone()).await;
        let world = World { server, begun, clock, folder };
        let request = CreateFleetRequest { name: "sensors".into(), policy: None };
        world.operator().await.create_fleet(request).await.expect("a fleet");
        world
    }

    /// From now on it is so many hours after the start.
    fn after(&self, hours: u32) {
        self.clock.set(self.begun + hours * HOUR);
    }

    fn ca(&self) -> Folder {
        Folder::new(self.folder.path().join("ca"))
    }

    async fn connect(&self, port: u16, credential: &Credential) -> Connection {
        let url = format!("https://localhost:{port}").parse().expect("a URL");
        let trust = Trust::Roots(credential.control_roots().clone());
        Connection::open(&url, &trust, Some(credential)).await.expect("dates are judged in calls, not in the handshake")
    }

    async fn operator(&self) -> OperatorClient<Channel> {
        let credential = Credential::load(&self.ca().operator()).expect("the first operator's");
        self.connect(self.server.addresses.operators.port(), &credential).await.operator()
    }

    /// A token for a device that may be active.
    async fn token(&self, id: &str) -> JoinToken {
        let token = JoinToken::generate().expect("a token");
        let public_key = token.public_key().to_vec();
        let request = CreateTokenRequest {
            public_key,
            fleet: "sensors".into(),
            device_id: id.into(),
            uses: 1,
            reenroll: true,
            ..Default::default()
        };
        self.operator().await.create_token(request).await.expect("it is recorded");
        token
    }

    async fn enroll(&self, kind: Kind, id: &str, token: JoinToken) -> PathBuf {
        self.enroll_by(kind, id, Attester::Token(token)).await
    }

    async fn enroll_by(&self, kind: Kind, id: &str, attester: Attester) -> PathBuf {
        let roots = std::fs::read(self.ca().control_root()).expect("what devices pin");
        let enrollment = Enrollment {
            server: format!("https://localhost:{}", self.server.addresses.devices.port()).parse().expect("a URL"),
            trust: Trust::Roots(Roots::from_pem(&roots).expect("a root")),
            kind,
            id: Some(id.parse().expect("an ID")),
            attester,
        };
        let dir = self.folder.path().join(id);
        let folder = LockedFolder::open(&dir).expect("nobody else has it");
        enroll(&folder, &enrollment, Observer::none()).await.expect("a certificate");
        dir
    }

    /// What a credential fetches.
    async fn fetch(&self, dir: &Path) -> Result<(), Status> {
        let credential = Credential::load(dir).expect("a credential");
        let connection = self.connect(self.server.addresses.devices.port(), &credential).await;
        let request = GetCrlRequest { form: Some(Form::Bundle(Default::default())) };
        connection.revocation().get_crl(request).await.map(drop)
    }

    /// Comes back with what is in the folder.
    async fn recover(&self, dir: &Path) -> Result<(), Refusal> {
        let folder = LockedFolder::open(dir).expect("nobody else has it");
        match recover(&folder, Observer::none()).await {
            Ok(_) => Ok(()),
            Err(FlowError::Refused(refusal)) => Err(refusal),
            Err(other) => panic!("{other}"),
        }
    }

    /// Asks to come back with what is in the folder, over the raw protocol, and gives the refusal.
    async fn told(&self, dir: &Path) -> Status {
        let url = format!("https://localhost:{}", self.server.addresses.devices.port());
        let connection = stranger::connect_to(&url, &self.ca().control_root()).await;
        let previous = Previous::of(&Credential::load(dir).expect("a credential")).expect("its key");
        let attester = Attester::Previous(previous);
        stranger::enroll_by(&connection, "", &attester, <[u8]>::to_vec).await.expect_err("a refusal")
    }

    /// Renews with what is in the folder.
    async fn renew(&self, dir: &Path) -> Result<(), Refusal> {
        let folder = LockedFolder::open(dir).expect("nobody else has it");
        match renew(&folder, Observer::none()).await {
            Ok(_) => Ok(()),
            Err(FlowError::Refused(refusal)) => Err(refusal),
            Err(other) => panic!("{other}"),
        }
    }
}

/// The refusal of what has ended.
fn expired<T: std::fmt::Debug>(answer: Result<T, impl Into<Refusal>>) {
    let refusal: Refusal = answer.expect_err("it has expired").into();
    assert_eq!((refusal.reason.as_deref(), refusal.action), (Some("CERTIFICATE_EXPIRED"), Action::Reattest));
}

#[tokio::test]
async fn a_device_whose_certificate_has_ended_is_told_so_and_attests_again() {
    let world = World::start().await;
    let device = world.enroll(Kind::Device, "pump-7", world.token("pump-7").await).await;
    world.after(23);
    world.fetch(&device).await.expect("it is valid");
    let lapsed = ListDevicesRequest { lapsed: true, ..Default::default() };
    let listed = world.operator().await.list_devices(lapsed.clone()).await.expect("a list").into_inner();
    assert_eq!(listed.devices.len(), 0);

    world.after(25);
    expired(world.fetch(&device).await);
    expired(world.renew(&device).await);
    let listed = world.operator().await.list_devices(lapsed).await.expect("a list").into_inner();
    let [pump] = &listed.devices[..] else { panic!("{listed:?}") };
    assert_eq!((pump.id.as_str(), pump.status()), ("pump-7", DeviceStatus::Active), "lapsed, and on hold it is not");
    let metrics = world.server.authority().telemetry.metrics_text();
    assert!(metrics.contains("fleetca_security_events_total{kind=\"certificate.expired\"} 2"), "{metrics}");

    world.enroll(Kind::Device, "pump-7", world.token("pump-7").await).await;
    world.fetch(&device).await.expect("it is valid");
    world.renew(&device).await.expect("it renews");
}

#[tokio::test]
async fn a_device_that_slept_comes_back_by_its_expired_certificate_within_the_grace() {
    let world = World::start().await;
    let device = world.enroll(Kind::Device, "pump-7", world.token("pump-7").await).await;
    world.after(30 * 24);
    expired(world.renew(&device).await);
    // The program says that there is a way back; it asks the server in this process.
    let folder = device.clone();
    let told = tokio::task::spawn_blocking(move || run(Device::new(folder).command("renew").arg("--force")));
    let told = told.await.expect("it ends");
    assert!(told.code == 4 && told.stderr.contains("--attest previous"), "{told:?}");
    world.recover(&device).await.expect("it comes back");
    world.fetch(&device).await.expect("what it came back with is in force");
    world.renew(&device).await.expect("it renews");

    world.after(30 * 24 + 31 * 24 + 1);
    expired(world.recover(&device).await);
}

/// The grace that its fleet gives is over: a word to the device, and one to the operators.
#[tokio::test]
async fn a_device_that_slept_past_the_grace_is_told_to_attest_anew_and_is_an_event() {
    let world = World::start().await;
    let grace = Some(prost_types::Duration { seconds: 48 * 3600, nanos: 0 });
    let policy = Some(FleetPolicy { grace, ..Default::default() });
    let request = UpdateFleetRequest { name: "sensors".into(), policy };
    world.operator().await.update_fleet(request).await.expect("it is changed");
    let device = world.enroll(Kind::Device, "pump-7", world.token("pump-7").await).await;
    world.after(24 + 48 + 1);
    expired(world.recover(&device).await);
    let request = ListSecurityEventsRequest { kind: "certificate.expired".into(), ..Default::default() };
    let mut operator = world.operator().await;
    let listed = async {
        loop {
            let listed = operator.list_security_events(request.clone()).await.expect("a list").into_inner();
            if !listed.events.is_empty() {
                return listed.events;
            }
        }
    };
    let events = tokio::time::timeout(SOON, listed).await.expect("it is written down");
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((event.subject.as_str(), event.count), ("device/pump-7", 1), "{event:?}");
    assert!(event.detail.starts_with("CERTIFICATE_EXPIRED; by previous, proven certificate/"), "{event:?}");
}

/// Refuse 8, for `previous`: an old image of its disk, which its device has outlived.
#[tokio::test]
async fn a_certificate_that_another_took_the_place_of_is_told_to_attest_anew_and_is_an_event() {
    let world = World::start().await;
    let device = world.enroll(Kind::Device, "pump-7", world.token("pump-7").await).await;
    let image = world.folder.path().join("image");
    run(Command::new("cp").arg("-a").arg(&device).arg(&image)).succeeded();
    world.renew(&device).await.expect("it renews, and confirms");
    world.after(48);
    let refusal = world.recover(&image).await.expect_err("stale");
    assert_eq!((refusal.reason.as_deref(), refusal.action), (Some("CERTIFICATE_SUPERSEDED"), Action::Reattest));
    let metrics = world.server.authority().telemetry.metrics_text();
    assert!(metrics.contains("fleetca_security_events_total{kind=\"certificate.superseded\"} 1"), "{metrics}");
    // Refuse 20: which certificate it is that would have passed, it is not told.
    let (told, head) = (world.told(&image).await, Credential::load(&device).expect("a credential"));
    assert_eq!(stranger::Refusal::of(&told).reason, "CERTIFICATE_SUPERSEDED");
    let (serial, fingerprint) = (head.leaf().serial(), head.leaf().fingerprint());
    stranger::tells_none_of(&told, &[serial.as_bytes(), &fingerprint, &head.leaf().spki()[27..59]]);
    let request = GetDeviceRequest { id: "pump-7".into() };
    let shown = world.operator().await.get_device(request).await.expect("it is there").into_inner();
    assert_eq!(shown.status(), DeviceStatus::Active, "never a hold");
    world.recover(&device).await.expect("the newest comes back");
}

/// Nobody would know where a new key is: so it comes back with the one in its TPM, after its power was cut as well.
#[tokio::test]
async fn a_device_whose_key_is_in_a_tpm_comes_back_with_the_same_key() {
    let Some(tpm) = Tpm::start() else { return };
    let world = World::start().await;
    let method = || Attester::Tpm(Box::new(TpmMethod::new(tpm.socket().parse().expect("a location"), None)));
    let mut chip = Chip::open(&tpm.socket().parse().expect("a location")).expect("a TPM");
    let ek = chip.endorsement(None).expect("an endorsement key").fingerprint().expect("a key");
    chip.close().expect("it is let go");
    let mut operator = world.operator().await;
    let policy = FleetPolicy { attest: vec!["tpm".into()], ..Default::default() };
    operator.create_fleet(CreateFleetRequest { name: "pumps".into(), policy: Some(policy) }).await.expect("a fleet");
    let ek_sha256 = ek.iter().map(|octet| format!("{octet:02x}")).collect();
    let device = RegisterDeviceRequest { id: "pump-7".into(), fleet: "pumps".into(), ek_sha256, ..Default::default() };
    operator.register_device(device).await.expect("it is registered");
    let dir = world.enroll_by(Kind::Device, "pump-7", method()).await;
    let key = || Credential::load(&dir).expect("a credential").key().spki();
    let (first, serial) = (key(), Credential::load(&dir).expect("a credential").leaf().serial());

    world.after(48);
    let tpm = tpm.restarted();
    expired(world.renew(&dir).await);
    world.recover(&dir).await.expect("it comes back");
    assert_eq!(key(), first);
    assert_ne!(Credential::load(&dir).expect("a credential").leaf().serial(), serial);
    world.renew(&dir).await.expect("it renews");
    let request = GetDeviceRequest { id: "pump-7".into() };
    let shown = operator.get_device(request).await.expect("it is there").into_inner();
    assert_eq!(shown.tier, "hardware");
    drop(tpm);
}

/// Step by step, as the flow of any enrollment: killed anywhere, the same way again ends with the same certificate.
#[tokio::test]
async fn a_return_whose_answer_is_lost_is_asked_for_again() {
    let world = World::start().await;
    let device = world.enroll(Kind::Device, "pump-7", world.token("pump-7").await).await;
    world.after(48);
    let folder = LockedFolder::open(&device).expect("nobody else has it");
    let gone = tokio::sync::Notify::new();
    let answered = |step| {
        if step == Step::Answered {
            gone.notify_one();
        }
    };
    // Dropped as soon as the server has answered.
    tokio::select! {
        biased;
        () = gone.notified() => (),
        _ = recover(&folder, Observer::new(&answered)) => (),
    }
    drop(folder);
    world.recover(&device).await.expect("the same certificate");
    world.fetch(&device).await.expect("it is in force");
}

#[tokio::test]
async fn the_agent_of_a_device_that_slept_comes_back_by_itself() {
    let world = World::start().await;
    let device = world.enroll(Kind::Device, "pump-7", world.token("pump-7").await).await;
    let before = Credential::load(&device).expect("a credential").leaf().serial().to_owned();
    world.after(72);
    let told = world.folder.path().join("told");
    let agent = Agent { on_renew: Some(format!("touch '{}'", told.display())) };
    let folder = LockedFolder::open(&device).expect("nobody else has it");
    // Due at once, by its own clock, which is not the server's.
    Device::new(device.clone()).make_due();
    let wait = move || until_true(SOON, "programs are told of the new certificate", || told.exists());
    let stop = async { tokio::task::spawn_blocking(wait).await.expect("they are told") };
    agent.run(&folder, stop).await.expect("it goes on");
    assert_ne!(Credential::load(&device).expect("a credential").leaf().serial(), before);
    world.fetch(&device).await.expect("it is in force");
}

#[tokio::test]
async fn gateways_and_operators_end_after_a_week_and_after_thirty_days() {
    let world = World::start().await;
    let token = JoinToken::generate().expect("a token");
    let request = CreateGatewayRequest { id: "eu-7".into(), public_key: token.public_key().to_vec(), lifetime: None };
    world.operator().await.create_gateway(request).await.expect("it is recorded");
    let gateway = world.enroll(Kind::Gateway, "eu-7", token).await;
    world.after(7 * 24 - 1);
    world.fetch(&gateway).await.expect("it is valid");
    world.after(7 * 24 + 1);
    expired(world.fetch(&gateway).await);
    expired(world.renew(&gateway).await);

    let fleets = async || world.operator().await.list_fleets(ListFleetsRequest::default()).await;
    world.after(30 * 24 - 1);
    fleets().await.expect("it is valid");
    world.after(30 * 24 + 1);
    expired(fleets().await);
}
