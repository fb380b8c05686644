//! A CA with one fleet in a store, and the shortest ways to change it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    audit::{Draft, Kept},
    identity::{
        CertificateHash, DeviceId, FleetName, IssuerId, KeyFingerprint, Kind, RevocationReason, SerialNumber, Subject,
        Timestamp, TokenId,
    },
    inventory::{device::Status, fleet::Policy, lineage::Lineage},
    pki::CaRole,
    store::*,
};

/// Where a store lives, and how it is opened.
pub(crate) trait Place: Send + Sync + Sized {
    type Store: Store + 'static;
    /// A place where no store was yet.
    fn new() -> Self;
    /// Opens the store.
    fn open(&self) -> Self::Store;
    /// What would be found here if the machine had stopped just now, while the store was open.
    fn after_crash(&self) -> Self;
}

/// Seconds after the beginning of every test.
pub(crate) fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000) + Duration::from_secs(secs)
}

pub(crate) const DAY: u64 = 24 * 3600;

pub(crate) fn fleet() -> FleetName {
    "sensors".parse().unwrap()
}

pub(crate) fn device(id: &str) -> Subject {
    Subject::new(Kind::Device, id.parse().unwrap())
}

pub(crate) fn issuer(name: &str) -> IssuerId {
    IssuerId::of(&KeyFingerprint::of(name.as_bytes()))
}

/// The issuer of devices' certificates.
pub(crate) fn devices_ca() -> IssuerId {
    issuer("device")
}

pub(crate) fn draft(secs: u64, action: &'static str) -> Draft {
    Draft::done(at(secs), "operator/ana", action, "device/any".into())
}

pub(crate) fn token_id(n: u64) -> TokenId {
    format!("{n:016x}").parse().unwrap()
}

pub(crate) struct World<P: Place> {
    pub place: P,
    pub store: Arc<P::Store>,
    next: AtomicU64,
}

impl<P: Place> World<P> {
    /// A new CA with the fleet `sensors`.
    pub async fn new() -> Self {
        let place = P::new();
        let store = Arc::new(place.open());
        let world = World { place, store, next: AtomicU64::new(1) };
        world.store.record_initialization(world.initialization()).await.unwrap();
        world.store.record_fleet(&fleet(), &Policy::default(), draft(0, "fleet.created")).await.unwrap();
        world
    }

    pub fn initialization(&self) -> Initialization {
        let row = |role: CaRole| IssuerRow::new(issuer(role.as_str()), role, role.as_str().into(), at(0));
        let mut server = self.enrollment("ca", 0);
        let subject = Subject::new(Kind::Server, "ca".parse().unwrap());
        let new = NewHolder { subject, fleet: None, role: None, handle: self.handle(), created_at: at(0) };
        server.holder = EnrollmentHolder::New(new);
        server.certificate.issuer = issuer("control");
        Initialization {
            domain: Domain { trust_domain: "fleet.example".parse().unwrap(), public_url: "http://ca:7080".into() },
            issuers: CaRole::ALL.map(row).to_vec(),
            trust_bundle: TrustBundleRow { sequence: 1, signed: vec![1] },
            crls: vec![crl(issuer("control-root"), 1, 0), crl(issuer("device-root"), 1, 0)],
            enrollments: vec![server],
            audit: draft(0, "ca.initialized"),
        }
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn handle(&self) -> String {
        format!("{:032x}", self.number())
    }

    /// A certificate of the devices' issuer, valid for a day from `secs` on.
    pub fn certificate(&self, secs: u64) -> NewCertificate {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.number().to_be_bytes());
        let serial = SerialNumber::new(at(secs), random);
        NewCertificate {
            serial,
            issuer: devices_ca(),
            key: KeyFingerprint::of(serial.as_bytes()),
            hash: CertificateHash::of(serial.as_bytes()),
            not_before: at(secs),
            not_after: at(secs + DAY),
            presented: None,
            token: None,
            der: serial.as_bytes().repeat(40),
        }
    }

    pub fn new_holder(&self, id: &str, secs: u64) -> NewHolder {
        let (handle, created_at) = (self.handle(), at(secs));
        NewHolder { subject: device(id), fleet: Some(fleet()), role: None, handle, created_at }
    }

    /// The enrollment of a new device.
    pub fn enrollment(&self, id: &str, secs: u64) -> Enrollment {
        let certificate = self.certificate(secs);
        Enrollment {
            holder: EnrollmentHolder::New(self.new_holder(id, secs)),
            lineage: Lineage::begun_by(certificate.serial),
            superseded: None,
            attested: Attested { method: "token".into(), tier: "token".into(), identity: "t".into() },
            hardware: None,
            approved: false,
            policy: None,
            local: false,
            token: None,
            assertion: None,
            came_by: None,
            audit: draft(secs, "certificate.issued").serial(certificate.serial),
            certificate,
            at: at(secs),
        }
    }

    /// Enrolls a new device.
    pub async fn enroll(&self, id: &str, secs: u64) -> Holder {
        self.store.record_enrollment(self.enrollment(id, secs)).await.unwrap();
        self.holder(id).await
    }

    pub async fn holder(&self, id: &str) -> Holder {
        self.store.holder(&device(id)).await.unwrap().unwrap()
    }

    /// The renewal of a holder as it was read: the head is presented, what is pending is superseded.
    pub fn renewal(&self, holder: &Holder, secs: u64) -> Renewal {
        let mut certificate = self.certificate(secs);
        certificate.presented = holder.lineage.head;
        Renewal {
            holder: holder.version,
            lineage: holder.lineage.issued(false, certificate.serial),
            superseded: holder.lineage.pending,
            audit: draft(secs, "certificate.issued").serial(certificate.serial),
            certificate,
            at: at(secs),
        }
    }

    /// Renews, and confirms.
    pub async fn renew(&self, id: &str, secs: u64) -> Holder {
        let renewal = self.renewal(&self.holder(id).await, secs);
        self.store.record_renewal(renewal).await.unwrap();
        let holder = self.holder(id).await;
        self.store.record_confirmation(confirmation(&holder, secs)).await.unwrap();
        self.holder(id).await
    }

    pub async fn cut_off(&self, id: &str, status: Status, reason: RevocationReason, secs: u64) -> CutoffReceipt {
        self.store.record_cutoff(cutoff(id, status, reason, secs)).await.unwrap()
    }

    /// A token for anybody of the fleet.
    pub async fn fleet_token(&self, n: u64, uses: u32) -> TokenRow {
        let row = token(n, None, uses);
        self.store.record_token(row.clone(), None, draft(0, "token.created")).await.unwrap();
        row
    }

    /// Every change of the devices' issuer.
    pub async fn changes(&self) -> Vec<Change> {
        self.store.changes(devices_ca(), 0, 10_000).await.unwrap()
    }

    /// Every audit record.
    pub async fn audit(&self) -> Vec<Kept> {
        self.store.audit_records(&AuditQuery { limit: 10_000, ..AuditQuery::default() }).await.unwrap()
    }

    pub async fn revoked(&self, serial: SerialNumber) -> Option<RevocationReason> {
        let (row, _) = self.store.certificate(serial).await.unwrap().unwrap();
        row.revoked.map(|revoked| revoked.reason)
    }
}

pub(crate) fn confirmation(holder: &Holder, secs: u64) -> Confirmation {
    let lineage = holder.lineage.promoted();
    Confirmation { holder: holder.version, lineage, at: at(secs), audit: draft(secs, "certificate.confirmed") }
}

pub(crate) fn cutoff(id: &str, status: Status, reason: RevocationReason, secs: u64) -> Cutoff {
    let (subject, status_reason) = (device(id), "lost".into());
    Cutoff { subject, status, reason, status_reason, at: at(secs), audit: draft(secs, "device.revoked") }
}

/// A token of the fleet; for one device where it is named.
pub(crate) fn token(n: u64, id: Option<&str>, uses: u32) -> TokenRow {
    TokenRow {
        id: token_id(n),
        public_key: [7; 32],
        kind: Kind::Device,
        fleet: Some(fleet()),
        role: None,
        subject_id: id.map(|id| id.parse::<DeviceId>().unwrap()),
        id_pattern: None,
        uses,
        uses_left: uses,
        reenroll: false,
        expires_at: at(DAY),
        state: TokenState::Live,
        created_at: at(0),
        created_by: "operator/ana".into(),
    }
}

pub(crate) fn crl(issuer: IssuerId, number: u64, watermark: u64) -> CrlHead {
    CrlHead {
        issuer,
        number,
        this_update: at(number),
        next_update: at(number + 7 * DAY),
        watermark,
        horizon: at(0),
        sha256: [number as u8; 32],
        signature: vec![1, 2, 3],
        der: None,
    }
}
