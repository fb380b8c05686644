//! A CA that has lost a time: what it takes in out of it, and what it does not.

use super::*;
use crate::{
    audit::Draft,
    pki::{CrlEntry, CrlTemplate},
    store::{Notice, Resumption},
};

pub(super) const WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);

impl World {
    /// A certificate that the CA made at this time after the start, and has forgotten.
    async fn forgotten(&self, id: &str, after: Duration) -> Device {
        self.forgotten_of(&subject(id), after).await
    }

    pub(super) async fn forgotten_of(&self, subject: &Subject, after: Duration) -> Device {
        let authority = &self.authority;
        let fleet = (subject.kind == Kind::Device).then(|| "pumps".parse().unwrap());
        let terms = authority.terms(subject.kind, fleet.as_ref()).await.unwrap();
        let (key, _) = request();
        let key = PublicKey::from_spki_der(&key.subject_public_key_info()).unwrap();
        let handle = "0123456789abcdef0123456789abcdef";
        let leaf = authority.sign_leaf(subject, handle, &terms, &key, None, START + after).unwrap();
        Device(PeerCertificate::parse(&leaf.der, &authority.domain().trust_domain).unwrap())
    }

    /// The time between these two is lost; it is noticed at the second.
    pub(super) async fn loses(self, from: Duration, until: Duration) -> Self {
        self.at(until);
        let audit = Draft::done(START + until, "local", "ca.restored", "ca".into());
        let notice = Notice {
            at: START + until,
            lost_from: START + from,
            lost_until: START + until,
            evidence: "a test".into(),
            audit,
        };
        self.authority.store.record_notice(notice).await.unwrap();
        self.restarted().await
    }

    /// An operator decides, now.
    pub(super) async fn resumes(self, loss_accepted: bool) -> Self {
        let now = self.authority.now();
        let audit = Draft::done(now, "local", "ca.resumed", "ca".into());
        let resumption = Resumption { at: now, window_until: now + WINDOW, loss_accepted };
        self.authority.store.record_resumption(resumption, audit).await.unwrap();
        self.restarted().await
    }

    /// A CRL of the devices' CA that this store never saw.
    pub(super) fn lost_crl(&self, after: Duration, entries: &[(SerialNumber, RevocationReason)]) -> Vec<u8> {
        let at = (START + after).floor_secs();
        let template = CrlTemplate {
            issuer: self.authority.issuers().certificate(&self.issuer()).unwrap(),
            number: (START + after).millis() as u64,
            this_update: at,
            next_update: at + WINDOW,
            distribution_point: None,
        };
        let mut entries: Vec<_> =
            entries.iter().map(|&(serial, reason)| CrlEntry { serial, revoked_at: at, reason }).collect();
        entries.sort_by_key(|entry| entry.serial);
        let prepared = template.prepare(None, entries.into_iter().map(|entry| (entry.serial, Some(entry))));
        let signature = self.signers[&CaRole::DeviceIssuing].sign(prepared.tbs()).unwrap();
        prepared.assemble(&signature).to_vec()
    }

    async fn status(&self, id: &str) -> Status {
        self.authority.store.holder(&subject(id)).await.unwrap().unwrap().status
    }

    fn lists(&self, device: &Device) -> bool {
        self.crl().entries().iter().any(|entry| entry.serial == device.0.serial)
    }
}

#[tokio::test]
async fn a_forgotten_certificate_waits_until_somebody_has_decided() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    let (lost, other) = (world.forgotten("pump-1", HOUR * 2).await, world.forgotten("pump-2", HOUR * 2).await);
    world.at(HOUR * 3);
    assert!(matches!(world.renew(&lost).await, Err(Refusal::CertificateForgotten)));
    let world = world.loses(HOUR, HOUR * 3).await;
    for device in [&lost, &other] {
        assert!(matches!(world.renew(device).await, Err(Refusal::Restored)));
        let confirmed = world.authority.confirm(&device.0).await.map_err(|refused| refused.why);
        assert!(matches!(confirmed, Err(Refusal::Restored)));
    }
    assert!(world.authority.publisher.all().iter().all(|crl| crl.role.is_root()), "no list is given out");
    let world = world.resumes(true).await;
    // A poll tells the agent that it is time; the renewal takes it in.
    world.authority.may_be_taken_in(&lost.0).await.unwrap();
    let next = world.renew(&lost).await.unwrap();
    world.authority.confirm(&next.0).await.unwrap();
    assert!(world.authority.authenticate(&next.0).await.is_ok());
    // One that was first enrolled in the lost time keeps its fleet, and its list where its certificate says that it is.
    world.authority.confirm(&other.0).await.unwrap();
    let holder = world.authority.store.holder(&subject("pump-2")).await.unwrap().unwrap();
    assert_eq!((holder.fleet, holder.lineage.head), (Some("pumps".parse().unwrap()), Some(other.0.serial)));
}

#[tokio::test]
async fn what_was_not_made_in_the_lost_time_is_not_taken_in() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    let (before, after) = (world.forgotten("pump-1", HOUR).await, world.forgotten("pump-1", HOUR * 9).await);
    let (lost, later) = (world.forgotten("pump-1", HOUR * 3).await, world.forgotten("pump-2", HOUR * 3).await);
    let world = world.loses(HOUR * 2, HOUR * 4).await.resumes(true).await;
    world.at(HOUR * 10);
    for device in [&before, &after] {
        assert!(matches!(world.renew(device).await, Err(Refusal::CertificateForgotten)));
    }
    // Its dates are not those of its making.
    let backdated = PeerCertificate { not_before: START, ..lost.0.clone() };
    assert!(matches!(world.renew(&Device(backdated)).await, Err(Refusal::CertificateUnknown)));
    // Not ours, whatever it says.
    let stranger = World::new().await.forgotten("pump-1", HOUR * 3).await;
    assert!(matches!(world.renew(&stranger).await, Err(Refusal::CertificateUnknown)));
    world.renew(&lost).await.unwrap();
    world.at(HOUR * 4 + WINDOW + HOUR);
    let expires_late = PeerCertificate { not_after: START + HOUR * 3 + WINDOW + HOUR * 3, ..later.0.clone() };
    assert!(matches!(world.renew(&Device(expires_late)).await, Err(Refusal::CertificateUnknown)));
    assert!(matches!(world.renew(&later).await, Err(Refusal::CertificateExpired)));
}

#[tokio::test]
async fn an_operators_certificate_is_never_taken_in() {
    let world = World::new().await;
    let ana = Subject::new(Kind::Operator, "ana".parse().unwrap());
    let (lost, gateway) = (
        world.forgotten_of(&ana, HOUR * 2).await,
        world.forgotten_of(&Subject::new(Kind::Gateway, "eu-7".parse().unwrap()), HOUR * 2).await,
    );
    let world = world.loses(HOUR, HOUR * 3).await.resumes(true).await;
    assert!(matches!(world.renew(&lost).await, Err(Refusal::CertificateUnknown)));
    world.renew(&gateway).await.unwrap();
    // Those that the store knows are withdrawn.
    let live = world.authority.store.live_certificates(&ana, world.authority.now()).await.unwrap();
    assert!(!live.is_empty() && live.iter().all(|row| row.revoked.is_some()));
    let holder = world.authority.store.holder(&ana).await.unwrap().unwrap();
    assert_eq!(holder.status, Status::Registered, "whoever lists operators sees that he has nothing");
}

#[tokio::test]
async fn out_of_a_lost_time_a_device_has_one_certificate_and_a_second_one_is_a_fork() {
    let world = World::new().await;
    let known = world.enroll("pump-1").await;
    world.enroll("pump-2").await;
    let [first, second] = [HOUR * 2, HOUR * 3].map(|after| (after, "pump-1"));
    let (first, second) = (world.forgotten(first.1, first.0).await, world.forgotten(second.1, second.0).await);
    let lost = world.forgotten("pump-2", HOUR * 2).await;
    let renewed_since = world.enroll("pump-3").await;
    let third = world.forgotten("pump-3", HOUR * 2).await;
    let world = world.loses(HOUR, HOUR * 4).await.resumes(true).await;
    world.at(HOUR * 5);
    world.authority.confirm(&second.0).await.unwrap();
    assert!(matches!(world.renew(&first).await, Err(Refusal::Fork { .. })));
    assert_eq!(world.status("pump-1").await, Status::Held);
    assert!(matches!(world.renew(&known).await, Err(Refusal::Held)));
    world.renew(&renewed_since).await.unwrap();
    assert!(matches!(world.renew(&third).await, Err(Refusal::Fork { .. })));
    assert_eq!(world.status("pump-3").await, Status::Held);
    world.renew(&lost).await.unwrap();
}

#[tokio::test]
async fn what_is_made_after_the_decision_by_a_clock_that_is_behind_is_not_of_the_lost_time() {
    let world = World::new().await;
    let known = world.enroll("pump-1").await;
    let lost = world.forgotten("pump-1", HOUR * 2).await;
    world.at(HOUR * 3);
    let audit = Draft::done(START + HOUR * 3, "local", "ca.restored", "ca".into());
    // Somebody has shown a list that was made while the clock was right.
    let (lost_from, lost_until) = (START + HOUR, START + HOUR * 9);
    let notice = Notice { at: START + HOUR * 3, lost_from, lost_until, evidence: "a test".into(), audit };
    world.authority.store.record_notice(notice).await.unwrap();
    let world = world.restarted().await.resumes(true).await;
    world.at(HOUR * 4);
    world.renew(&known).await.unwrap();
    assert!(matches!(world.renew(&lost).await, Err(Refusal::Fork { .. })), "it has renewed since");
}

#[tokio::test]
async fn a_forgotten_certificate_that_was_revoked_cuts_its_device_off() {
    use RevocationReason::{CertificateHold, KeyCompromise, Superseded};
    let world = World::new().await;
    for id in ["revoked", "held", "lineage"] {
        world.enroll(id).await;
    }
    let (revoked, held, lineage) = (
        world.forgotten("revoked", HOUR * 2).await,
        world.forgotten("held", HOUR * 2).await,
        world.forgotten("lineage", HOUR * 2).await,
    );
    let entries = [(&revoked, KeyCompromise), (&held, CertificateHold), (&lineage, Superseded)];
    let crl = world.lost_crl(HOUR * 3, &entries.map(|(device, reason)| (device.0.serial, reason)));
    let world = world.loses(HOUR, HOUR * 4).await;
    let store = world.authority.store.clone();
    let back = take_back(store.as_ref(), std::slice::from_ref(&crl), world.authority.now()).await.unwrap();
    assert_eq!(back[0].taken.map(|taken| (taken.certificates, taken.orphans)), Some((3, 3)));
    let again = take_back(store.as_ref(), std::slice::from_ref(&crl), world.authority.now()).await.unwrap();
    assert_eq!(again[0].taken, None, "once");
    let world = world.resumes(false).await;
    assert!(entries.iter().all(|(device, _)| world.lists(device)));
    assert!(matches!(world.renew(&revoked).await, Err(Refusal::Revoked)));
    assert!(matches!(world.renew(&held).await, Err(Refusal::Held)));
    assert!(matches!(world.renew(&lineage).await, Err(Refusal::CertificateRevoked)));
    for (id, status) in [("revoked", Status::Revoked), ("held", Status::Held), ("lineage", Status::Active)] {
        assert_eq!(world.status(id).await, status, "{id}");
    }
    // They stay on the list until the longest-lived certificate made then must have expired.
    for hours in (6..24 * 8).step_by(12) {
        world.at(HOUR * hours);
        world.publish(false).await;
    }
    assert!(entries.iter().all(|(device, _)| world.lists(device)));
    for hours in (24 * 8..24 * 9 + 2).step_by(12) {
        world.at(HOUR * hours);
        world.publish(false).await;
    }
    assert!(!entries.iter().any(|(device, _)| world.lists(device)));
}

#[tokio::test]
async fn a_forgotten_certificate_that_was_revoked_cuts_its_device_off_though_it_has_expired() {
    let world = World::new().await;
    world.enroll("revoked").await;
    let revoked = world.forgotten("revoked", HOUR * 2).await;
    let crl = world.lost_crl(HOUR * 3, &[(revoked.0.serial, RevocationReason::KeyCompromise)]);
    let world = world.loses(HOUR, HOUR * 4).await;
    let store = world.authority.store.clone();
    take_back(store.as_ref(), std::slice::from_ref(&crl), world.authority.now()).await.unwrap();
    let world = world.resumes(false).await;
    world.at(HOUR * 48);
    assert!(matches!(world.renew(&revoked).await, Err(Refusal::Revoked)));
    assert_eq!(world.status("revoked").await, Status::Revoked);
}

#[tokio::test]
async fn a_decision_taken_by_a_clock_that_was_ahead_strands_nobody() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    let lost = world.forgotten("pump-1", HOUR * 2).await;
    let world = world.loses(HOUR, HOUR * 4).await.resumes(true).await;
    world.at(HOUR * 4 - Duration::from_secs(300));
    world.renew(&lost).await.unwrap();
}

#[tokio::test]
async fn a_hold_of_the_lost_time_ends_when_somebody_says_which_certificate_is_genuine() {
    use RevocationReason::CertificateHold;
    let world = World::new().await;
    let known = world.enroll("pump-1").await;
    let (genuine, copied) = (world.forgotten("pump-1", HOUR * 2).await, world.forgotten("pump-1", HOUR * 3).await);
    let all = [&known, &genuine, &copied];
    let crl = world.lost_crl(HOUR * 3, &all.map(|device| (device.0.serial, CertificateHold)));
    let world = world.loses(HOUR, HOUR * 4).await;
    take_back(world.authority.store.as_ref(), &[crl], world.authority.now()).await.unwrap();
    let world = world.resumes(false).await;
    world.at(HOUR * 5);
    let release = async |keep| world.authority.release(&subject("pump-1"), keep, "operator/ana").await;
    // It may have been a fork's: somebody has to choose, even where one certificate is known only.
    assert!(matches!(release(None).await, Err(Refusal::State(_))));
    // Too early: the genuine one is not among them yet.
    release(Some(known.0.serial)).await.unwrap();
    for device in [&copied, &genuine] {
        assert!(matches!(world.renew(device).await, Err(Refusal::Held)));
        assert_eq!(world.status("pump-1").await, Status::Held);
    }
    assert!(matches!(release(None).await, Err(Refusal::State(_))));
    release(Some(genuine.0.serial)).await.unwrap();
    for device in [&copied, &known] {
        assert!(matches!(world.renew(device).await, Err(Refusal::CertificateRevoked)));
        assert!(world.lists(device));
    }
    assert!(!world.lists(&genuine));
    let next = world.renew(&genuine).await.unwrap();
    world.authority.confirm(&next.0).await.unwrap();
    // The device has had its certificate out of the lost time.
    let third = world.forgotten("pump-1", HOUR * 2).await;
    assert!(matches!(world.renew(&third).await, Err(Refusal::Fork { .. })));
}

#[tokio::test]
async fn who_shows_a_certificate_of_an_earlier_life_of_his_id_touches_nobody() {
    use RevocationReason::{CertificateHold, KeyCompromise};
    let world = World::new().await;
    let revoked = world.forgotten("pump-1", HOUR * 2).await;
    let held = world.forgotten("pump-2", HOUR * 2).await;
    let crl = world.lost_crl(HOUR * 3, &[(revoked.0.serial, KeyCompromise), (held.0.serial, CertificateHold)]);
    let world = world.loses(HOUR, HOUR * 4).await;
    take_back(world.authority.store.as_ref(), &[crl], world.authority.now()).await.unwrap();
    let world = world.resumes(false).await;
    world.at(HOUR * 5);
    for (id, old) in [("pump-1", &revoked), ("pump-2", &held)] {
        assert!(matches!(world.renew(old).await, Err(Refusal::CertificateRevoked)), "nobody has this ID");
        let new = world.enroll(id).await;
        assert!(matches!(world.renew(old).await, Err(Refusal::CertificateRevoked)));
        assert_eq!(world.status(id).await, Status::Active);
        world.renew(&new).await.unwrap();
    }
}

#[tokio::test]
async fn a_device_that_came_back_out_of_the_lost_time_is_no_new_holder_of_its_id() {
    let world = World::new().await;
    let (first, second) = (world.forgotten("pump-1", HOUR * 2).await, world.forgotten("pump-1", HOUR * 3).await);
    let world = world.loses(HOUR, HOUR * 4).await.resumes(true).await;
    world.at(HOUR * 5);
    world.authority.confirm(&first.0).await.unwrap();
    let crl = world.lost_crl(HOUR * 4, &[(second.0.serial, RevocationReason::KeyCompromise)]);
    take_back(world.authority.store.as_ref(), &[crl], world.authority.now()).await.unwrap();
    assert!(matches!(world.renew(&second).await, Err(Refusal::Revoked)));
    assert_eq!(world.status("pump-1").await, Status::Revoked);
    let key = world.authority.store.key_use(&second.0.key_fingerprint()).await.unwrap();
    assert!(key.banned, "its key was stolen, whenever it became known");
}

#[tokio::test]
async fn an_entry_that_lineage_wrote_cuts_no_device_off() {
    use RevocationReason::{CessationOfOperation, PrivilegeWithdrawn, Superseded};
    let world = World::new().await;
    let [by_itself, waiting, withdrawn, ended] =
        [("by-itself", 0), ("waiting", 1), ("withdrawn", 2), ("ended", 3)].map(|(id, _)| id);
    let mut entries = Vec::new();
    for (id, reason) in
        [(by_itself, Superseded), (waiting, Superseded), (withdrawn, PrivilegeWithdrawn), (ended, CessationOfOperation)]
    {
        let head = world.enroll(id).await;
        // Of one of them the entry is about a certificate that waits.
        let listed = if id == waiting { world.renew(&head).await.unwrap() } else { head };
        entries.push((listed.0.serial, reason));
    }
    let crl = world.lost_crl(HOUR * 2, &entries);
    let world = world.loses(HOUR, HOUR * 3).await;
    let back = take_back(world.authority.store.as_ref(), &[crl], world.authority.now()).await.unwrap();
    assert_eq!(back[0].cut_off, [subject(by_itself), subject(ended)]);
    for (id, status) in
        [(by_itself, Status::Revoked), (waiting, Status::Active), (withdrawn, Status::Active), (ended, Status::Revoked)]
    {
        assert_eq!(world.status(id).await, status, "{id}");
    }
    let world = world.resumes(false).await;
    assert!(entries.iter().all(|(serial, _)| world.crl().entries().iter().any(|entry| entry.serial == *serial)));
}

#[tokio::test]
async fn what_is_on_hold_here_and_not_on_the_newer_list_is_named_and_stays_on_hold() {
    let world = World::new().await;
    let device = world.enroll("pump-1").await;
    world.authority.hold(&subject("pump-1"), "operator/ana").await.unwrap();
    let crl = world.lost_crl(HOUR * 2, &[]);
    let world = world.loses(HOUR, HOUR * 3).await;
    let back = take_back(world.authority.store.as_ref(), &[crl], world.authority.now()).await.unwrap();
    assert_eq!(back[0].released, [subject("pump-1")]);
    let world = world.resumes(false).await;
    assert_eq!(world.status("pump-1").await, Status::Held);
    assert!(world.lists(&device));
}

#[tokio::test]
async fn a_list_from_before_the_lost_time_is_none_of_it() {
    let world = World::new().await;
    let held = |world: &World| world.authority.publisher.current(&world.issuer()).unwrap().der.to_vec();
    let stale = held(&world);
    world.at(HOUR * 3);
    world.publish(false).await;
    let last = held(&world);
    let world = world.loses(HOUR * 2, HOUR * 3 + HOUR / 4).await;
    let (store, now) = (world.authority.store.as_ref(), world.authority.now());
    let given = take_back(store, &[stale], now).await.unwrap();
    assert_eq!(given[0].taken, None);
    assert!(matches!(resume(store, &given, &[], WINDOW, now).await, Err(RestoreError::CrlMissing(_))));
    // Nothing can have followed the last one.
    let given = take_back(store, std::slice::from_ref(&last), now).await.unwrap();
    resume(store, &given, &[], WINDOW, now).await.unwrap();
    // It can, later on.
    let world = world.loses(HOUR * 2, HOUR * 5).await;
    let (store, now) = (world.authority.store.as_ref(), world.authority.now());
    let given = take_back(store, &[last], now).await.unwrap();
    assert!(matches!(resume(store, &given, &[], WINDOW, now).await, Err(RestoreError::CrlMissing(_))));
}

#[tokio::test]
async fn a_list_shown_by_a_clock_that_is_behind_says_how_long_the_lost_time_was() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    let lost = world.forgotten("pump-1", HOUR * 4).await;
    let crl = world.lost_crl(HOUR * 5, &[]);
    let world = world.loses(HOUR, HOUR * 2).await;
    take_back(world.authority.store.as_ref(), &[crl], world.authority.now()).await.unwrap();
    let world = world.resumes(false).await;
    world.at(HOUR * 5);
    world.renew(&lost).await.unwrap();
}

#[tokio::test]
async fn an_entry_of_a_list_that_is_dated_days_ahead_is_on_the_next_one_while_its_certificate_lives() {
    let world = World::new().await;
    let device = world.enroll("pump-1").await;
    let crl = world.lost_crl(DAY * 4, &[(device.0.serial, RevocationReason::KeyCompromise)]);
    let world = world.loses(HOUR, HOUR * 2).await;
    take_back(world.authority.store.as_ref(), &[crl], world.authority.now()).await.unwrap();
    let world = world.resumes(false).await;
    world.publish(false).await;
    assert!(world.lists(&device));
}

#[tokio::test]
async fn a_backup_made_by_a_clock_that_was_ahead_loses_no_time() {
    let world = World::new().await;
    world.publish(false).await;
    let store = world.authority.store.clone();
    let lost = notice_restored(store.as_ref(), START + DAY, START + HOUR).await.unwrap();
    assert!(lost.lost_from < START && lost.lost_until == START + HOUR, "{lost:?}");
}

#[tokio::test]
async fn a_list_that_is_too_old_to_be_remembered_is_none_of_the_lost_time() {
    let world = World::new().await;
    let device = world.enroll("pump-1").await;
    world.authority.hold(&subject("pump-1"), "operator/ana").await.unwrap();
    world.publish(false).await;
    let old = world.crl().der().to_vec();
    world.authority.release(&subject("pump-1"), None, "operator/ana").await.unwrap();
    for half_days in 1..24 {
        world.at(HOUR * 12 * half_days);
        world.publish(false).await;
    }
    let world = world.loses(DAY * 11, DAY * 12).await;
    let store = world.authority.store.clone();
    let given = take_back(store.as_ref(), &[old], world.authority.now()).await.unwrap();
    assert_eq!(given[0].taken, None);
    let decision = resume(store.as_ref(), &given, &[], WINDOW, world.authority.now()).await;
    assert!(matches!(decision, Err(RestoreError::CrlMissing(_))), "{decision:?}");
    assert_eq!(world.status("pump-1").await, Status::Active);
    drop(device);
}

#[tokio::test]
async fn who_was_released_and_held_again_in_the_lost_time_is_held_for_what_is_not_known() {
    let world = World::new().await;
    let device = world.enroll("pump-1").await;
    world.authority.hold(&subject("pump-1"), "operator/ana").await.unwrap();
    let held_at = world.authority.now();
    let hold = [(device.0.serial, RevocationReason::CertificateHold)];
    let again = world.lost_crl(HOUR * 3, &hold);
    let world = world.loses(HOUR, HOUR * 4).await;
    let store = world.authority.store.clone();
    let back = take_back(store.as_ref(), &[again], world.authority.now()).await.unwrap();
    assert_eq!(back[0].cut_off, [subject("pump-1")], "held at {held_at}, and at another time");
    let world = world.resumes(false).await;
    assert!(matches!(world.authority.release(&subject("pump-1"), None, "operator/ana").await, Err(Refusal::State(_))));
    world.authority.release(&subject("pump-1"), Some(device.0.serial), "operator/ana").await.unwrap();
}

#[tokio::test]
async fn a_hold_that_is_the_same_on_the_list_is_no_change() {
    let world = World::new().await;
    let device = world.enroll("pump-1").await;
    world.at(HOUR * 3);
    world.authority.hold(&subject("pump-1"), "operator/ana").await.unwrap();
    let same = world.lost_crl(HOUR * 3, &[(device.0.serial, RevocationReason::CertificateHold)]);
    let world = world.loses(HOUR, HOUR * 4).await;
    let back = take_back(world.authority.store.as_ref(), &[same], world.authority.now()).await.unwrap();
    assert_eq!(back[0].taken.map(|taken| taken.certificates), Some(0));
    assert!(back[0].cut_off.is_empty());
}
