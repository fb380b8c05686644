//! Adopt: a certificate that the CA made in a lost time and has forgotten becomes its holder's head, once, for as long as
//! the window is open that an operator has declared. For renewal only: nothing else is ever granted to it.

use super::{Authority, MAX_ATTEMPTS, Refusal, Refused, recognize::as_shown};
use crate::{
    audit::Draft,
    identity::{FleetName, Kind, Subject, Timestamp},
    inventory::{
        device::Status,
        lineage::{Decision, Facts, Lineage, Lost, Request, decide},
    },
    pki::{CaRole, PeerCertificate, Profile},
    store::{Adoption, EnrollmentHolder, Holder, NewHolder, Restoration},
};

/// How far before its making the notBefore of a certificate may lie.
const LONGEST_BACKDATE: std::time::Duration = std::time::Duration::from_secs(3600 + 1);

/// A forgotten certificate, and what is known of its holder.
struct Forgotten {
    restoration: Restoration,
    holder: Option<Holder>,
    fleet: Option<FleetName>,
    decision: Decision,
}

impl Authority {
    /// Sees to it that the store knows the certificate presented, if it may.
    pub(super) async fn take_in_forgotten(&self, presented: &PeerCertificate, request: Request) -> Result<(), Refused> {
        let about = Refused::about(&presented.subject);
        for _ in 0..MAX_ATTEMPTS {
            // Somebody else may have taken it in meanwhile.
            let known = self.store.peer(presented.serial).await.map_err(Refusal::from)?;
            if let Some(peer) = known {
                let same = peer.certificate.hash == presented.hash;
                return if same { Ok(()) } else { Err(Refusal::CertificateUnknown.into()) };
            }
            match self.take_in_once(presented, request).await {
                Err(Refusal::Contended) => continue,
                // Nobody in particular: it is none of ours.
                Err(Refusal::CertificateUnknown) => return Err(Refusal::CertificateUnknown.into()),
                outcome => return outcome.map_err(&about),
            }
        }
        Err(about(Refusal::Contended))
    }

    async fn take_in_once(&self, presented: &PeerCertificate, request: Request) -> Result<(), Refusal> {
        let now = self.now();
        let found = self.look_back(presented, request, now).await?;
        match found.decision {
            Decision::Adopt => self.take_in(presented, found, now).await,
            Decision::Fork { hold } => {
                let lineage = found.holder.as_ref().map(|holder| holder.lineage.clone()).unwrap_or_default();
                Err(self.fork(&presented.subject, presented.serial, &lineage, hold, now).await?)
            }
            other => Err(super::renew::plain_refusal(other)?),
        }
    }

    /// Whether this certificate, which the store does not know, may renew now: then the holder is to do so at once.
    pub async fn may_be_taken_in(&self, presented: &PeerCertificate) -> Result<(), Refused> {
        let about = Refused::about(&presented.subject);
        self.refuse_restored().map_err(&about)?;
        let found = self.look_back(presented, Request::Confirm, self.now()).await.map_err(&about)?;
        if found.decision == Decision::Adopt { Ok(()) } else { Err(about(Refusal::CertificateForgotten)) }
    }

    /// Finds the lost time that a certificate comes from, and asks the table.
    async fn look_back(
        &self,
        presented: &PeerCertificate,
        request: Request,
        now: Timestamp,
    ) -> Result<Forgotten, Refusal> {
        if !self.made(presented) {
            return Err(Refusal::CertificateUnknown);
        }
        let holder = self.store.holder(&presented.subject).await?;
        if let Some(revoked) = self.store.orphan(presented.serial).await? {
            return Err(self.refuse_orphan(presented, holder.as_ref(), revoked, now).await?);
        }
        let expired = presented.not_after < now.floor_secs();
        if expired {
            return Err(Refusal::CertificateExpired);
        }
        let restoration = self.lost_time(presented, now).await?;
        let fleet = self.fleet_of(presented, holder.as_ref()).await?;
        let policy = self.terms(presented.subject.kind, fleet.as_ref()).await?.policy;
        let lineage = holder.as_ref().map(|holder| holder.lineage.clone()).unwrap_or_default();
        // By a clock that is behind, what is made after the decision seems to be made in the lost time.
        let ended = restoration.resumption.map_or(restoration.lost_until, |one| one.at.min(restoration.lost_until));
        let since = |serial: &crate::identity::SerialNumber| serial.made_at() > ended;
        let decision = decide(Facts {
            status: holder.as_ref().map_or(Status::Registered, |holder| holder.status),
            on_fork: policy.on_fork,
            presented: None,
            lost: Some(Lost {
                adopted: self.store.adopted(restoration.key, &presented.subject).await?.is_some(),
                renewed_since: [lineage.head, lineage.pending].iter().flatten().any(since),
            }),
            revoked: false,
            expired,
            request,
            has_pending: lineage.pending.is_some(),
            replacements: lineage.replacements,
        });
        Ok(Forgotten { restoration, holder, fleet, decision })
    }

    /// Whether one of our CAs made it, as it makes certificates for such a holder. Operators' are never taken in.
    pub(super) fn made(&self, presented: &PeerCertificate) -> bool {
        let kind = presented.subject.kind;
        let role = match kind {
            Kind::Device => CaRole::DeviceIssuing,
            Kind::Gateway => CaRole::ControlCa,
            Kind::Operator | Kind::Server => return false,
        };
        let issuers = self.issuers.certificates();
        let signed = issuers
            .filter(|(id, of, _)| *of == role && self.issuers.publishes(id))
            .any(|(.., issuer)| presented.is_signed_by(issuer));
        let made_at = presented.serial.made_at();
        signed
            && presented.not_before <= made_at
            && made_at.since(presented.not_before) <= LONGEST_BACKDATE
            && presented.not_after <= made_at + Profile::Leaf(kind).longest_validity()
    }

    /// The lost time that it was made in, if certificates of it are taken in now.
    async fn lost_time(&self, presented: &PeerCertificate, now: Timestamp) -> Result<Restoration, Refusal> {
        let restorations = self.store.restorations().await?;
        let made_at = presented.serial.made_at();
        // The oldest one, so that a holder has one chance however often somebody notices.
        match restorations.into_iter().find(|restoration| restoration.covers(made_at)) {
            Some(restoration) if restoration.is_open(now) => Ok(restoration),
            Some(_) => Err(Refusal::CertificateUnknown),
            None => Err(Refusal::CertificateForgotten),
        }
    }

    /// The fleet of a device: the one that it is known in, which its certificate must name, or one that exists.
    async fn fleet_of(
        &self,
        presented: &PeerCertificate,
        holder: Option<&Holder>,
    ) -> Result<Option<FleetName>, Refusal> {
        if presented.subject.kind != Kind::Device {
            return Ok(None);
        }
        let fleet = presented.fleet().ok_or(Refusal::CertificateUnknown)?;
        match holder {
            Some(holder) if holder.fleet.as_ref() != Some(&fleet) => Err(Refusal::CertificateUnknown),
            Some(_) => Ok(Some(fleet)),
            // Made in the lost time: an operator has to make it again.
            None if self.store.policy(&fleet).await?.is_none() => Err(Refusal::CertificateForgotten),
            None => Ok(Some(fleet)),
        }
    }

    async fn take_in(&self, presented: &PeerCertificate, found: Forgotten, now: Timestamp) -> Result<(), Refusal> {
        let Forgotten { restoration, holder, fleet, .. } = found;
        let subject = &presented.subject;
        self.refuse_key(presented).await?;
        let lineage = holder.as_ref().map_or_else(Lineage::default, |holder| holder.lineage.clone());
        let mut audit = Draft::done(now, &subject.to_string(), "restore.adopted", subject.to_string())
            .serial(presented.serial)
            .fact("key", presented.key_fingerprint().to_string());
        for (name, serial) in [("head", lineage.head), ("superseded", lineage.pending)] {
            if let Some(serial) = serial {
                audit = audit.fact(name, serial.to_string());
            }
        }
        let superseded = lineage.pending;
        let holder = match holder {
            Some(holder) => EnrollmentHolder::Known(holder.version),
            None => EnrollmentHolder::New(self.forgotten_holder(presented, fleet).await?),
        };
        let record = Adoption {
            restoration: restoration.key,
            holder,
            lineage: lineage.kept(presented.serial),
            superseded,
            certificate: as_shown(presented),
            at: now,
            audit,
        };
        self.store.record_adoption(record).await?;
        tracing::info!(%subject, serial = %presented.serial, "took in a certificate of the lost time");
        self.publisher.wake_if(superseded.is_some());
        Ok(())
    }

    /// A holder that was first enrolled in the lost time.
    async fn forgotten_holder(
        &self,
        presented: &PeerCertificate,
        fleet: Option<FleetName>,
    ) -> Result<NewHolder, Refusal> {
        let Subject { kind, id } = &presented.subject;
        if self.store.holder_folded(*kind, &id.folded()).await?.is_some() {
            return Err(Refusal::CertificateUnknown);
        }
        // Its certificate may lead to a list of its own, which stays where it was.
        let prefix = format!("{}/crl/{}/device/", self.domain.public_url, presented.issuer);
        let named =
            presented.crl_url().and_then(|url| Some(url.strip_prefix(&prefix)?.strip_suffix(".crl")?.to_owned()));
        let handle = match named {
            Some(handle) => handle,
            None => self.new_handle()?,
        };
        // It is as old as its certificate at least, and no new holder of its ID.
        let created_at = presented.serial.made_at();
        Ok(NewHolder { subject: presented.subject.clone(), fleet, role: None, handle, created_at })
    }
}
