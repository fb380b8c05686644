//! Lost times: what ends with them, what is remembered to notice them, what is taken in out of them.

use super::{newcomers, world::*};
use crate::{
    audit::Draft,
    identity::{Kind, RevocationReason, Subject, Timestamp},
    inventory::{device::Status, fleet::Policy, lineage::Lineage, unknown::UnknownDevices},
    store::*,
};

fn notice(secs: u64, lost_from: u64) -> Notice {
    let audit = draft(secs, "ca.restored");
    Notice { at: at(secs), lost_from: at(lost_from), lost_until: at(secs), evidence: "a test".into(), audit }
}

fn resumption(secs: u64) -> Resumption {
    Resumption { at: at(secs), window_until: at(secs + DAY), loss_accepted: false }
}

async fn resume<P: Place>(world: &World<P>, secs: u64) -> Result<(), StoreError> {
    world.store.record_resumption(resumption(secs), draft(secs, "ca.resumed")).await
}

pub(crate) async fn a_lost_time_ends_tokens_and_operators_once<P: Place>() {
    let world = World::<P>::new().await;
    world.fleet_token(1, 5).await;
    let ana = Subject::new(Kind::Operator, "ana".parse().unwrap());
    let mut operator = world.enrollment("ana", 1);
    let EnrollmentHolder::New(new) = &mut operator.holder else { panic!("a new one") };
    (new.subject, new.fleet, new.role) = (ana.clone(), None, Some(Role::Admin));
    operator.certificate.issuer = issuer("control");
    let serial = operator.certificate.serial;
    world.store.record_enrollment(operator).await.unwrap();
    let waits = newcomers::approved(&world).await;
    let restoration = world.store.record_notice(notice(100, 50)).await.unwrap();
    assert_eq!(newcomers::state(&world, &waits).await, Some(NewcomerState::Asked));
    assert_eq!((restoration.lost_from, restoration.lost_until, restoration.resumption), (at(50), at(100), None));
    assert_eq!(world.revoked(serial).await, Some(RevocationReason::PrivilegeWithdrawn));
    assert_eq!(world.store.token(&token_id(1)).await.unwrap().unwrap().state, TokenState::Suspended);
    // Noticed again: it may have begun earlier than it seemed, which is recorded; what was made since stays.
    world.fleet_token(2, 5).await;
    let records = world.audit().await.len();
    for (from, known) in [(60, 50), (40, 40)] {
        let restoration = world.store.record_notice(notice(200, from)).await.unwrap();
        assert_eq!((restoration.lost_from, restoration.lost_until), (at(known), at(200)));
    }
    assert_eq!(world.store.token(&token_id(2)).await.unwrap().unwrap().state, TokenState::Live);
    assert_eq!((world.audit().await.len(), world.store.restorations().await.unwrap().len()), (records + 2, 1));
}

pub(crate) async fn a_lost_time_closes_every_fleet_that_takes_devices_that_nobody_registered<P: Place>() {
    let world = World::<P>::new().await;
    let store = &world.store;
    let policy = |devices| {
        let mut policy = Policy::default();
        (policy.unknown.devices, policy.unknown.accept_any_holder) = (devices, devices == UnknownDevices::Register);
        policy
    };
    let open = [("boards", UnknownDevices::Register), ("plant", UnknownDevices::Pending)];
    for (name, devices) in open {
        let before = store.fleets_revision().await.unwrap();
        store.record_fleet(&name.parse().unwrap(), &policy(devices), draft(1, "fleet.created")).await.unwrap();
        assert!(store.fleets_revision().await.unwrap() > before);
    }
    let before = store.fleets_revision().await.unwrap();
    let restoration = store.record_notice(notice(100, 50)).await.unwrap();
    assert!(store.fleets_revision().await.unwrap() > before);
    let names: Vec<_> = restoration.closed_fleets.iter().map(|fleet| fleet.as_str()).collect();
    assert_eq!(names, ["boards", "plant"]);
    assert_eq!(store.restorations().await.unwrap(), [restoration]);
    assert!(store.open_fleets().await.unwrap().is_empty());
    for (name, _) in open {
        let now = store.policy(&name.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(now, policy(UnknownDevices::Refuse));
    }
    let records = world.audit().await;
    let of = |action: &str| records.iter().filter(|kept| kept.record.action == action).collect::<Vec<_>>();
    assert!(of("ca.restored")[0].record.detail.contains(r#""closed_fleets":["boards","plant"]"#), "{records:?}");
    assert_eq!(
        of("fleet.changed").iter().map(|kept| kept.record.subject.as_str()).collect::<Vec<_>>(),
        ["fleet/boards", "fleet/plant"]
    );
    // What an operator opens again since stays open, until another restoration.
    let boards = "boards".parse().unwrap();
    let (was, opened) = (policy(UnknownDevices::Refuse), policy(UnknownDevices::Pending));
    store.record_policy(&boards, &was, &opened, draft(110, "fleet.changed")).await.unwrap();
    store.record_notice(notice(200, 40)).await.unwrap();
    assert_eq!(store.policy(&boards).await.unwrap().unwrap(), opened);
    resume(&world, 210).await.unwrap();
    assert_eq!(store.record_notice(notice(300, 250)).await.unwrap().closed_fleets, [boards]);
}

pub(crate) async fn a_decision_is_made_once<P: Place>() {
    let world = World::<P>::new().await;
    assert!(matches!(resume(&world, 5).await, Err(StoreError::NotFound(_))));
    world.store.record_notice(notice(100, 50)).await.unwrap();
    resume(&world, 110).await.unwrap();
    assert!(matches!(resume(&world, 120).await, Err(StoreError::NotFound(_))));
    world.store.record_notice(notice(300, 200)).await.unwrap();
    let known = world.store.restorations().await.unwrap();
    assert_eq!(known.iter().map(|one| one.resumption).collect::<Vec<_>>(), [Some(resumption(110)), None]);
    assert!(known[0].covers(at(50)) && known[0].covers(at(100)) && !known[0].covers(at(101)));
    assert!(known[0].is_open(at(110)) && !known[0].is_open(at(111 + DAY)) && !known[1].is_open(at(300)));
}

pub(crate) async fn a_crl_is_remembered_until_nobody_takes_it<P: Place>() {
    let world = World::<P>::new().await;
    let put = async |number: u64, previous, horizon: Timestamp| {
        let head = CrlHead { horizon, ..crl(devices_ca(), number, 0) };
        world.store.put_crl(head, previous, None).await.unwrap();
    };
    let memory = async |number: u64, octet: u8| {
        let claimed = ClaimedCrl { issuer: devices_ca(), number, this_update: at(number), sha256: [octet; 32] };
        world.store.crl_memory(&claimed).await.unwrap()
    };
    put(5, None, at(0)).await;
    put(9, Some(5), at(0)).await;
    assert!(memory(5, 5).await.is_known && memory(9, 9).await.is_known);
    assert!(!memory(9, 7).await.is_known, "other bytes");
    let forgotten = memory(7, 7).await;
    assert_eq!((forgotten.is_known, forgotten.last_known, forgotten.horizon), (false, Some(at(5)), at(0)));
    assert_eq!(memory(3, 3).await.last_known, None);
    // Of a later number, whatever its date: published after the past was restored.
    let dated_back = CrlHead { this_update: at(6), ..crl(devices_ca(), 12, 0) };
    world.store.put_crl(dated_back, Some(9), None).await.unwrap();
    assert_eq!(memory(7, 7).await.last_known, Some(at(5)));
    // The first one's nextUpdate has passed.
    let passed = at(6 + 7 * DAY);
    put(13, Some(12), passed).await;
    assert!(!memory(5, 5).await.is_known && memory(9, 9).await.is_known);
    assert_eq!(memory(5, 5).await.horizon, passed);
}

pub(crate) async fn a_crl_that_is_taken_back_stands_for_those_before_it<P: Place>() {
    let world = World::<P>::new().await;
    let holder = world.enroll("pump-1", 1).await;
    world.store.put_crl(crl(devices_ca(), 5, 0), None, None).await.unwrap();
    let known = holder.lineage.head.unwrap();
    let unknown = world.certificate(3).serial;
    let entry = |serial, reason| (crate::pki::CrlEntry { serial, revoked_at: at(20), reason }, at(8 * DAY));
    let head = CrlHead { der: Some(vec![7; 100]), ..crl(devices_ca(), 30, 0) };
    let taken = TakenCrl {
        head: head.clone(),
        cutoffs: vec![cutoff("pump-1", Status::Revoked, RevocationReason::KeyCompromise, 20)],
        entries: vec![entry(known, RevocationReason::KeyCompromise), entry(unknown, RevocationReason::Unspecified)],
        audit: draft(40, "crl.taken_back"),
    };
    let done = world.store.record_taken_crl(taken.clone()).await.unwrap();
    assert_eq!(done, Taken { certificates: 2, orphans: 1 });
    assert_eq!(world.holder("pump-1").await.status, Status::Revoked);
    assert_eq!(world.store.orphan(unknown).await.unwrap().map(|it| it.reason), Some(RevocationReason::Unspecified));
    assert_eq!(world.store.orphan(known).await.unwrap(), None);
    assert_eq!(world.store.crl_head(devices_ca()).await.unwrap(), Some(head));
    let serials: Vec<_> = world.changes().await.iter().map(|change| change.serial).collect();
    assert_eq!(serials, [known, unknown]);
    for (number, behind) in [(29, true), (30, true), (31, false)] {
        let claimed = ClaimedCrl { issuer: devices_ca(), number, this_update: at(number), sha256: [1; 32] };
        assert_eq!(world.store.crl_memory(&claimed).await.unwrap().is_behind_taken, behind, "{number}");
    }
    // An older one adds what it has, and does not take the place of the newer one.
    let older = TakenCrl {
        head: CrlHead { der: Some(vec![8; 100]), ..crl(devices_ca(), 20, 0) },
        cutoffs: vec![],
        entries: vec![
            entry(unknown, RevocationReason::Unspecified),
            entry(world.certificate(4).serial, RevocationReason::Superseded),
        ],
        audit: draft(41, "crl.taken_back"),
    };
    assert_eq!(world.store.record_taken_crl(older).await.unwrap(), Taken { certificates: 1, orphans: 1 });
    assert_eq!(world.store.crl_head(devices_ca()).await.unwrap().unwrap().number, 30);
    // What follows it must be newer, and may hold any change.
    world.store.put_crl(crl(devices_ca(), 31, 3), Some(30), None).await.unwrap();
}

pub(crate) async fn a_certificate_whose_revocation_was_known_only_becomes_its_holders<P: Place>() {
    let world = World::<P>::new().await;
    world.enroll("pump-1", 1).await;
    let restoration = world.store.record_notice(notice(100, 50)).await.unwrap().key;
    resume(&world, 110).await.unwrap();
    let recognition = |secs, status, reason| {
        let cutoff = Cutoff { status_reason: "found".into(), ..cutoff("pump-1", status, reason, 120) };
        Recognition { restoration: Some(restoration), certificate: world.certificate(secs), cutoff }
    };
    let (mut held, stolen) = (
        recognition(60, Status::Held, RevocationReason::CertificateHold),
        recognition(61, Status::Revoked, RevocationReason::KeyCompromise),
    );
    // A key that stays, as in hardware: it descends from what its first certificate does.
    let enrolled = world.holder("pump-1").await;
    let first = world.store.certificate(enrolled.lineage.head.unwrap()).await.unwrap().unwrap().0;
    held.certificate.key = first.key;
    let unknown = world.store.record_recognition(held.clone()).await;
    assert!(matches!(unknown, Err(StoreError::Conflict)), "nobody has revoked it");
    let entries = [&held, &stolen].map(|one| {
        let (serial, reason) = (one.certificate.serial, one.cutoff.reason);
        (crate::pki::CrlEntry { serial, revoked_at: at(70), reason }, at(8 * DAY))
    });
    let head = CrlHead { der: Some(vec![7; 100]), ..crl(devices_ca(), 80, 0) };
    let crl = TakenCrl { head, cutoffs: vec![], entries: entries.to_vec(), audit: draft(115, "crl.taken_back") };
    world.store.record_taken_crl(crl).await.unwrap();
    for (one, status) in [(&held, Status::Held), (&stolen, Status::Revoked)] {
        let (serial, records) = (one.certificate.serial, world.audit().await.len());
        assert_eq!(world.store.record_recognition(one.clone()).await.unwrap().status, status);
        assert!(matches!(world.store.record_recognition(one.clone()).await, Err(StoreError::Conflict)), "once");
        let holder = world.holder("pump-1").await;
        assert_eq!((holder.status, holder.status_reason.as_str()), (status, "found"));
        let peer = world.store.peer(serial).await.unwrap().unwrap();
        assert_eq!(peer.certificate.revoked, Some(Revoked { at: at(70), reason: one.cutoff.reason }));
        let descends = (serial == held.certificate.serial).then_some(first.attested.clone()).flatten();
        assert_eq!(peer.certificate.attested, descends);
        assert_eq!((peer.holder.subject, world.store.orphan(serial).await.unwrap()), (device("pump-1"), None));
        assert_eq!(world.audit().await.len(), records + 1);
        assert!(world.store.adopted(restoration, &device("pump-1")).await.unwrap().is_some());
    }
    assert!(world.store.key_use(&stolen.certificate.key).await.unwrap().banned);
}

pub(crate) async fn a_certificate_of_a_lost_time_is_taken_in_once<P: Place>() {
    let world = World::<P>::new().await;
    let holder = world.enroll("pump-1", 1).await;
    let restoration = world.store.record_notice(notice(100, 50)).await.unwrap().key;
    resume(&world, 110).await.unwrap();
    let adoption = |holder: EnrollmentHolder, lineage: &Lineage, secs| {
        let certificate = world.certificate(secs);
        let audit: Draft = draft(120, "restore.adopted").serial(certificate.serial);
        let lineage = lineage.kept(certificate.serial);
        Adoption { restoration, holder, lineage, superseded: None, certificate, at: at(120), audit }
    };
    let first = adoption(EnrollmentHolder::Known(holder.version), &holder.lineage, 60);
    let serial = first.certificate.serial;
    world.store.record_adoption(first).await.unwrap();
    let now = world.holder("pump-1").await;
    assert_eq!((now.lineage.head, now.lineage.generation, now.status), (Some(serial), 2, Status::Active));
    assert_eq!(world.store.adopted(restoration, &device("pump-1")).await.unwrap(), Some(serial));
    let records = world.audit().await.len();
    for version in [holder.version, now.version] {
        let second = adoption(EnrollmentHolder::Known(version), &now.lineage, 61);
        assert!(matches!(world.store.record_adoption(second).await, Err(StoreError::Conflict)));
    }
    assert_eq!((world.audit().await.len(), world.holder("pump-1").await), (records, now));
    let new = adoption(EnrollmentHolder::New(world.new_holder("pump-2", 120)), &Lineage::default(), 62);
    world.store.record_adoption(new).await.unwrap();
    let created = world.holder("pump-2").await;
    assert_eq!((created.status, created.attested), (Status::Active, Some(Attested::restored())));
    world.cut_off("pump-2", Status::Revoked, RevocationReason::Unspecified, 130).await;
}

pub(crate) async fn the_last_word_of_a_gateway_counts<P: Place>() {
    let world = World::<P>::new().await;
    let gateway = |id: &str| Subject::new(Kind::Gateway, id.parse().unwrap());
    for id in ["eu-7", "eu-8", "eu-9"] {
        let mut enrollment = world.enrollment(id, 1);
        let new = NewHolder { subject: gateway(id), fleet: None, ..world.new_holder(id, 1) };
        enrollment.holder = EnrollmentHolder::New(new);
        world.store.record_enrollment(enrollment).await.unwrap();
    }
    let cutoff =
        Cutoff { subject: gateway("eu-9"), ..cutoff("eu-9", Status::Revoked, RevocationReason::Unspecified, 5) };
    world.store.record_cutoff(cutoff).await.unwrap();
    let said = |number, secs| Acknowledged { issuer: devices_ca(), number, at: at(secs) };
    for (number, secs) in [(7, 10), (5, 20)] {
        let loaded = ["nobody", "eu-7", "eu-9"].map(|id| (gateway(id), vec![said(number, secs)]));
        world.store.record_acknowledgements(loaded.to_vec()).await.unwrap();
    }
    let row =
        |id, loaded| GatewayRow { subject: gateway(id), created_at: at(1), expires_at: Some(at(1 + DAY)), loaded };
    assert_eq!(world.store.gateways().await.unwrap(), [row("eu-7", vec![said(5, 20)]), row("eu-8", Vec::new())]);
    // Who has lost what he had loaded has it no more.
    world.store.record_acknowledgements(vec![(gateway("eu-7"), Vec::new())]).await.unwrap();
    assert_eq!(world.store.gateways().await.unwrap(), [row("eu-7", Vec::new()), row("eu-8", Vec::new())]);
}

pub(crate) async fn nobody_is_let_in_until_somebody_has_decided<P: Place>() {
    let world = World::<P>::new().await;
    let known = world.enroll("pump-7", 1).await;
    let pending = world.enroll("pump-6", 1).await;
    world.store.record_renewal(world.renewal(&pending, 2)).await.unwrap();
    let pending = world.holder("pump-6").await;
    let again = || {
        let again = world.enrollment("pump-7", 101);
        let lineage = known.lineage.issued(false, again.certificate.serial);
        Enrollment { holder: EnrollmentHolder::Known(known.version), lineage, ..again }
    };
    world.store.record_notice(notice(100, 50)).await.unwrap();
    for late in [again(), world.enrollment("pump-8", 101)] {
        let refused = world.store.record_enrollment(late).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    }
    let renewed = world.store.record_renewal(world.renewal(&known, 101)).await;
    assert!(matches!(renewed, Err(StoreError::Conflict)), "{renewed:?}");
    let confirmed = world.store.record_confirmation(confirmation(&pending, 101)).await;
    assert!(matches!(confirmed, Err(StoreError::Conflict)), "{confirmed:?}");
    // But for who sits at the server: he is to decide.
    let local = Enrollment { local: true, ..world.enrollment("pump-9", 101) };
    world.store.record_enrollment(local).await.unwrap();
    resume(&world, 102).await.unwrap();
    world.store.record_confirmation(confirmation(&pending, 102)).await.unwrap();
    for late in [again(), world.enrollment("pump-8", 103)] {
        world.store.record_enrollment(late).await.unwrap();
    }
}
