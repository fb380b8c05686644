//! The issuers: whose certificates the CA knows, whose keys it has at hand, and which of them signs for a device.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use super::Refusal;
use crate::{
    identity::{AuthoritySerial, IssuerId, Kind, Subject, Timestamp, TrustDomain},
    inventory::partition::{Choice, Partition, Spread, Standing},
    pki::{CaRole, Issuer, IssuerCertificate, LeafRequest, Locations, Profile, is_named},
    signer::Signer,
    store::{Domain, IssuerRow, NewCertificate},
};

/// An issuer that signs now: not a root.
pub struct OnlineIssuer {
    /// Its certificate, and what all that it signs share.
    pub issuer: Issuer,
    /// Its key.
    pub signer: Arc<dyn Signer>,
}

impl OnlineIssuer {
    /// Builds, lints and signs a leaf.
    pub fn sign_leaf(&self, request: &LeafRequest<'_>) -> Result<NewCertificate, Refusal> {
        let prepared = self.issuer.prepare_leaf(request)?;
        let signature = self.signer.sign(prepared.tbs())?;
        let certificate = prepared.assemble(&signature);
        Ok(NewCertificate {
            serial: certificate.serial,
            issuer: self.issuer.id(),
            key: certificate.key,
            hash: certificate.hash,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            presented: None,
            token: None,
            der: certificate.der,
        })
    }
}

/// Where signers come from, by issuer: `None` where the key is not at hand.
pub type IssuerKeys = HashMap<IssuerId, Arc<dyn Signer>>;

/// All issuers.
pub struct Issuers {
    control: OnlineIssuer,
    /// Those that publish, in the order of the store, oldest first.
    device: Vec<OnlineIssuer>,
    certificates: HashMap<IssuerId, (CaRole, IssuerCertificate)>,
    trust_domain: TrustDomain,
    /// Where the issuing CAs of devices stand, oldest first, as it was read last.
    places: ArcSwap<Vec<Place>>,
    /// How long the CRL of a new issuing CA has to be out before it signs for devices.
    wait: Duration,
}

/// Where an issuing CA of devices stands, and what gateways say of its CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which.
    pub id: IssuerId,
    /// Whether it signs.
    pub standing: Standing,
    /// The one that it takes over from.
    pub replaces: Option<IssuerId>,
    /// Since when it is known.
    pub created_at: Timestamp,
    /// Since when its CRL is out.
    pub published_at: Option<Timestamp>,
    /// Every gateway has loaded it, by its word; and there are some.
    pub loaded: bool,
    /// There was no gateway before it that would not know it.
    pub is_first: bool,
    /// It has signed before: it does not begin to wait again.
    pub has_signed: bool,
}

impl Place {
    /// When gateways have had time to take its CRL, if it is out.
    pub fn ready_at(&self, wait: Duration) -> Option<Timestamp> {
        if self.is_first { Some(self.created_at) } else { Some(self.published_at? + wait) }
    }

    /// Whether gateways have had time to take its CRL, or have all said that they have it.
    pub fn is_ready(&self, wait: Duration, now: Timestamp) -> bool {
        self.has_signed || self.loaded || self.ready_at(wait).is_some_and(|at| at <= now)
    }
}

/// Why the issuers can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuersError {
    /// A certificate in the store that can't be read, or can't be what the store says.
    #[error("issuer {id}: {why}")]
    Certificate {
        /// Which.
        id: IssuerId,
        /// What is wrong.
        why: String,
    },
    /// No key for an issuer that has to sign.
    #[error("the key of issuer {0} is missing: put keys/{0}.pem back from a backup")]
    Key(IssuerId),
    /// A hierarchy without an issuer.
    #[error("there is no {0} CA in the store: run `ca-server init`")]
    Missing(&'static str),
}

impl Issuers {
    /// Takes the issuers of the store and the keys that are at hand.
    pub fn new(domain: &Domain, rows: &[IssuerRow], mut keys: IssuerKeys) -> Result<Self, IssuersError> {
        let mut certificates = HashMap::new();
        for row in rows {
            let broken = |why: String| IssuersError::Certificate { id: row.id, why };
            let certificate = IssuerCertificate::parse(&row.certificate).map_err(|error| broken(error.to_string()))?;
            if certificate.id() != row.id {
                return Err(broken("its certificate is another CA's".into()));
            }
            certificates.insert(row.id, (row.role, certificate));
        }
        let (mut control, mut device) = (None, Vec::new());
        for row in rows.iter().filter(|row| row.is_online()) {
            let (broken, role) = (|why: String| IssuersError::Certificate { id: row.id, why }, row.role);
            let locations = Locations::new(&domain.public_url).map_err(|error| broken(error.to_string()))?;
            let (certificate, trust_domain) = (certificates[&row.id].1.clone(), domain.trust_domain.clone());
            let roots = certificates.values().filter(|(role, _)| *role == CaRole::DeviceRoot);
            let root = roots.map(|(_, root)| root).find(|root| root.subject_der() == certificate.issuer_der());
            let issuer = match root.filter(|_| role == CaRole::DeviceIssuing) {
                Some(root) => Issuer::of_devices(root, certificate, trust_domain, locations),
                None => Issuer::new(role, certificate, trust_domain, locations),
            };
            let issuer = issuer.map_err(|error| broken(error.to_string()))?;
            let signer = keys.remove(&row.id).ok_or(IssuersError::Key(row.id))?;
            if signer.public_key().fingerprint() != issuer.certificate().public_key().fingerprint() {
                return Err(broken("its key file holds another key".into()));
            }
            let online = OnlineIssuer { issuer, signer };
            match role {
                CaRole::ControlCa => control = Some(online),
                _ => device.push(online),
            }
        }
        let control = control.ok_or(IssuersError::Missing("control"))?;
        let (places, wait) = (ArcSwap::from_pointee(places(rows, &[])), Duration::ZERO);
        Ok(Self { control, device, certificates, trust_domain: domain.trust_domain.clone(), places, wait })
    }

    /// The same, where new issuing CAs wait for so long before they sign for devices.
    pub fn with_wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Takes in where the issuing CAs of devices stand now, and of which of them every gateway says that it is loaded.
    pub fn settle(&self, rows: &[IssuerRow], loaded: &[IssuerId]) {
        self.places.store(Arc::new(places(rows, loaded)));
    }

    /// Nobody counts as having said which CRLs are loaded, until it is looked at anew.
    pub fn forget_loaded(&self) {
        let forgotten = |place: &Place| Place { loaded: false, ..place.clone() };
        self.places.store(Arc::new(self.places().iter().map(forgotten).collect()));
    }

    /// Where the issuing CAs of devices stand, oldest first.
    pub fn places(&self) -> Arc<Vec<Place>> {
        self.places.load_full()
    }

    /// How long a new issuing CA waits.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// The CA of the server, the operators and the gateways.
    pub fn control(&self) -> &OnlineIssuer {
        &self.control
    }

    /// Those that sign now: each of them has a CRL of its own.
    pub fn online(&self) -> impl Iterator<Item = &OnlineIssuer> {
        std::iter::once(&self.control).chain(&self.device)
    }

    /// Every issuer's place and certificate.
    pub fn certificates(&self) -> impl Iterator<Item = (&IssuerId, CaRole, &IssuerCertificate)> {
        self.certificates.iter().map(|(id, (role, certificate))| (id, *role, certificate))
    }

    /// One issuer's certificate.
    pub fn certificate(&self, id: &IssuerId) -> Option<&IssuerCertificate> {
        self.certificates.get(id).map(|(_, certificate)| certificate)
    }

    /// The root of devices.
    pub fn device_root(&self) -> Option<&IssuerCertificate> {
        self.certificates.values().find(|(role, _)| *role == CaRole::DeviceRoot).map(|(_, root)| root)
    }

    /// Whether the root of devices is somebody else's: its key was never here.
    pub fn has_foreign_root(&self) -> bool {
        self.device_root().is_some_and(|root| !is_named(root, CaRole::DeviceRoot, &self.trust_domain))
    }

    /// Whether an entry of a root's CRL must never be lost. Somebody else's root has CAs that are none of ours, whose entries
    /// go when they have expired.
    pub fn keeps_entry(&self, root: &IssuerCertificate, serial: &AuthoritySerial) -> bool {
        let is_ours =
            [CaRole::ControlRoot, CaRole::DeviceRoot].iter().any(|role| is_named(root, *role, &self.trust_domain));
        let below =
            |issuer: &IssuerCertificate| issuer.issuer_der() == root.subject_der() && issuer.serial() == *serial;
        is_ours || self.certificates.values().any(|(_, issuer)| below(issuer))
    }

    /// The issuing CAs of devices whose CRLs belong into bundles, in the order of their IDs. One that has expired needs none.
    pub fn publishing(&self, now: Timestamp) -> Vec<IssuerId> {
        let lasting = self.device.iter().filter(|online| online.issuer.certificate().not_after() >= now);
        let mut ids: Vec<_> = lasting.map(|online| online.issuer.id()).collect();
        ids.sort();
        ids
    }

    /// Whether it publishes a CRL: a root does, and whoever has not come to its end.
    pub fn publishes(&self, id: &IssuerId) -> bool {
        self.certificates.get(id).is_some_and(|(role, _)| role.is_root())
            || self.online().any(|online| online.issuer.id() == *id)
    }

    /// Whether its root has revoked it: what it signed is worth nothing, whoever made it.
    pub fn is_revoked(&self, id: &IssuerId) -> bool {
        self.places().iter().any(|place| place.id == *id && place.standing == Standing::Revoked)
    }

    /// Whether it is to sign certificates or, as a root, their CAs'.
    pub fn signs(&self, id: &IssuerId) -> bool {
        self.places().iter().find(|place| place.id == *id).is_none_or(|place| place.standing == Standing::Active)
    }

    /// Who signs for this subject now what lasts until then. A fleet's devices are spread over its issuing CAs.
    pub fn for_subject(
        &self,
        subject: &Subject,
        spread: &Spread,
        not_after: Timestamp,
        now: Timestamp,
    ) -> Result<&OnlineIssuer, Refusal> {
        if subject.kind != Kind::Device {
            return Ok(&self.control);
        }
        let signers = self.chosen(spread, now, |choice| choice.signers(&subject.id));
        let online = |id: &IssuerId| self.device.iter().find(|online| online.issuer.id() == *id);
        let signers: Vec<_> = signers.iter().filter_map(online).collect();
        let lasts = |one: &&&OnlineIssuer| one.issuer.certificate().not_after() >= not_after.floor_secs();
        match signers.iter().find(lasts).or(signers.first()) {
            Some(signer) => Ok(signer),
            None => Err(Refusal::NoIssuer { again_at: self.again_at(spread, now) }),
        }
    }

    /// The issuing CAs whose CRLs a fleet's gateways need for who may sign or is about to, whoever has certificates already.
    pub fn members(&self, spread: &Spread, now: Timestamp) -> Vec<IssuerId> {
        self.chosen(spread, now, |choice| choice.members())
    }

    /// Those that signed for the fleet before, and go once gateways have had time to take those that it names now.
    pub fn leaving(&self, spread: &Spread, now: Timestamp) -> Vec<IssuerId> {
        self.chosen(spread, now, |choice| choice.leaving())
    }

    /// Those that may sign for some device of the fleet now.
    pub fn signing(&self, spread: &Spread, now: Timestamp) -> Vec<IssuerId> {
        self.chosen(spread, now, |choice| choice.all_signers())
    }

    /// Whether somebody signs for the fleet now, were this one retired: somebody who does not end before what it would sign.
    pub fn can_do_without(&self, spread: &Spread, retired: IssuerId, now: Timestamp) -> bool {
        let places = self.places();
        let goes = |id: IssuerId| {
            id == retired || self.certificate(&id).is_none_or(|certificate| ends_too_soon(certificate, now))
        };
        let all: Vec<_> = places
            .iter()
            .map(|place| Partition {
                standing: if goes(place.id) { place.standing.without_signing() } else { place.standing },
                ..self.partition(place, now)
            })
            .collect();
        // Those that only stand in for it go with it.
        !Choice { all: &all, spread, settled: true }.all_signers().is_empty()
    }

    fn chosen<T>(&self, spread: &Spread, now: Timestamp, choose: impl FnOnce(Choice<'_>) -> T) -> T {
        let places = self.places();
        let all: Vec<_> = places.iter().map(|place| self.partition(place, now)).collect();
        choose(Choice { all: &all, spread, settled: now >= Timestamp::from_millis(spread.since_millis) + self.wait })
    }

    fn partition(&self, place: &Place, now: Timestamp) -> Partition {
        let ready = place.is_ready(self.wait, now);
        let Place { id, standing, replaces, loaded, .. } = *place;
        Partition { id, standing, replaces, ready, loaded }
    }

    /// When somebody will sign for the fleet, if nothing else happens: what is out has had its time, what was named too.
    fn again_at(&self, spread: &Spread, now: Timestamp) -> Option<Timestamp> {
        let members = self.members(spread, now);
        let places = self.places();
        let soonest = places.iter().filter(|place| members.contains(&place.id));
        let ready = soonest.filter_map(|place| place.ready_at(self.wait)).min()?;
        Some(ready.max(Timestamp::from_millis(spread.since_millis) + self.wait))
    }
}

/// Whether certificates of devices that are signed now may outlive their CA.
pub fn ends_too_soon(certificate: &IssuerCertificate, now: Timestamp) -> bool {
    certificate.not_after() < now + Profile::Leaf(Kind::Device).longest_validity()
}

fn places(rows: &[IssuerRow], loaded: &[IssuerId]) -> Vec<Place> {
    let device = rows.iter().filter(|row| row.role == CaRole::DeviceIssuing);
    let place = |(at, row): (usize, &IssuerRow)| Place {
        id: row.id,
        standing: row.standing,
        replaces: row.replaces,
        created_at: row.created_at,
        published_at: row.published_at,
        has_signed: row.has_signed,
        loaded: loaded.contains(&row.id),
        is_first: at == 0,
    };
    device.enumerate().map(place).collect()
}
