//! Notice: whether somebody holds a CRL that this CA has signed and forgotten. Then its past was restored, and it stands
//! still until an operator has decided.
//!
//! After a restoration our next numbers, which follow the clock, are higher than all that were lost. So it is not a
//! number that tells, but that one is missing: gateways show the heads that they were given, signed by the control CA.

use std::{sync::Arc, time::Duration};

use fleetca_proto::transcript;

use super::{
    Authority, OnlineIssuer, Published, RESTORED, ROOT_FORGOTTEN, Refusal, Refused,
    proof::{SaidCrl, Shown},
    publish::LIFETIME,
    refuse_cut_off, to_its_end,
};
use crate::{
    audit::Draft,
    identity::{FleetName, Kind, Timestamp},
    inventory::lineage::Request,
    pki::{CaRole, PeerCertificate},
    store::{Acknowledged, ClaimedCrl, CrlMemory, Notice, Peer, Restoration, StoreError},
};

/// Before the CRL that was forgotten there was another, at least so long ago.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// What was begun before a CRL may be committed after it.
const UNDER_WAY: Duration = Duration::from_secs(60);

/// A CRL that a caller says it holds, and the control CA's signature over its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldCrl {
    /// Which.
    pub claimed: ClaimedCrl,
    /// By the control CA, if it is ours.
    pub signature: Vec<u8>,
}

/// What a CRL that somebody holds tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing: we know it, or one that holds all that it held.
    Known,
    /// Nothing: it is so old that we would have forgotten it anyway.
    Old,
    /// It is of a lost time whose revocations were given up, and here they are.
    GivenUp,
    /// Our past was restored.
    Forgotten {
        /// The first instant that may be lost.
        lost_from: Timestamp,
    },
}

/// Judges a CRL whose head we have signed.
fn judge(claimed: &ClaimedCrl, memory: &CrlMemory, restorations: &[Restoration]) -> Verdict {
    let accepted = |restoration: &Restoration| {
        restoration.covers(claimed.this_update)
            && restoration.resumption.is_some_and(|resumption| resumption.loss_accepted)
    };
    if memory.is_known || memory.is_behind_taken {
        Verdict::Known
    } else if claimed.this_update + LIFETIME < memory.horizon {
        Verdict::Old
    } else if restorations.iter().any(accepted) {
        Verdict::GivenUp
    } else {
        let before = memory.last_known.unwrap_or(claimed.this_update - LONGEST_PAUSE);
        Verdict::Forgotten { lost_from: before - UNDER_WAY }
    }
}

/// What the control CA signs of a CRL that is given out.
pub(super) fn sign_head(control: &OnlineIssuer, crl: &ClaimedCrl) -> Result<Vec<u8>, Refusal> {
    Ok(control.signer.sign(&head(crl))?)
}

fn head(crl: &ClaimedCrl) -> Vec<u8> {
    transcript::crl_head(&crl.issuer.to_string(), crl.number, crl.this_update.secs(), &crl.sha256)
}

impl Authority {
    /// Takes in what a gateway holds. Refused where the CA stands still, and where what it holds was given up: then it
    /// is not to take a newer list, for its own may be the last one that has some revocations. A gateway that the CA has
    /// forgotten is taken in by this, where it may be. What its program has not taken in tells of a past only.
    pub async fn acknowledge(
        &self,
        presented: &PeerCertificate,
        held: &[HeldCrl],
        shown: Shown,
    ) -> Result<(), Refused> {
        let now = self.now();
        let about = Refused::about(&presented.subject);
        let known = self.who_may_tell(presented, now).await?;
        let (mut genuine, mut given_up) = (Vec::new(), false);
        for crl in held {
            let served = self.is_served(crl);
            if served.is_none() && !self.has_signed(crl) {
                // A lie, which must harm nobody but the liar: nothing more is heard of him.
                let detail = format!("issuer {} number {}", crl.claimed.issuer, crl.claimed.number);
                self.telemetry.event("crl.head_forged", &presented.subject.to_string(), &detail, now);
                break;
            }
            if served.is_none() {
                match self.is_of_root(crl) {
                    true => self.weigh_root(presented, &crl.claimed, now).await?,
                    false => {
                        given_up |= self.weigh(presented, &crl.claimed, now).await.map_err(&about)? == Verdict::GivenUp;
                    }
                }
            }
            if self.issuers.certificate(&crl.claimed.issuer).is_none() {
                // Made in a lost time: nothing that is said of it can be written down.
                continue;
            }
            let crl = Acknowledged { issuer: crl.claimed.issuer, number: crl.claimed.number, at: now };
            genuine.push(SaidCrl { crl, watermark: served.map(|crl| crl.watermark) });
        }
        self.refuse_restored().map_err(&about)?;
        if given_up {
            return Err(about(Refusal::GivenUp));
        }
        let peer = match known {
            Some(peer) => peer,
            None => {
                self.take_in_forgotten(presented, Request::Confirm).await?;
                self.authenticate(presented).await?
            }
        };
        for age in self.word.heard(&peer.holder.subject, now, shown, genuine) {
            self.telemetry.loaded_after(age);
        }
        Ok(())
    }

    /// Refuses to hear of a past from anybody but a gateway: one in force, or one that was renewed or enrolled in a lost
    /// time and is not cut off, but has a certificate of ours that has not expired and that no CRL taken back lists (`None`).
    async fn who_may_tell(&self, presented: &PeerCertificate, now: Timestamp) -> Result<Option<Peer>, Refused> {
        let about = Refused::about(&presented.subject);
        let kind = presented.subject.kind;
        if kind != Kind::Gateway {
            return Err(about(Refusal::KindRefused(kind.as_str())));
        }
        match self.authenticate(presented).await {
            Err(Refused { why: Refusal::CertificateUnknown, .. }) => {}
            known => return known.map(Some),
        }
        if !self.made(presented) {
            return Err(about(Refusal::CertificateUnknown));
        }
        if presented.not_after < now.floor_secs() {
            return Err(about(Refusal::CertificateExpired));
        }
        if self.store.orphan(presented.serial).await?.is_some() {
            return Err(about(Refusal::CertificateRevoked));
        }
        match self.store.holder(&presented.subject).await? {
            Some(holder) => refuse_cut_off(&holder).map_err(about).map(|()| None),
            None => Ok(None),
        }
    }

    /// Refuses everything that lets somebody in while nobody has decided upon a restored past.
    pub(super) fn refuse_restored(&self) -> Result<(), Refusal> {
        if self.publisher.is_halted() { Err(Refusal::Restored) } else { Ok(()) }
    }

    /// What all but a few hold needs no look into the store.
    fn is_served(&self, crl: &HeldCrl) -> Option<Arc<Published>> {
        let HeldCrl { claimed, signature } = crl;
        let served = self.publisher.current(&claimed.issuer)?;
        let is_it = (served.number, served.this_update, served.sha256)
            == (claimed.number, claimed.this_update, claimed.sha256)
            && !signature.is_empty()
            && served.head_signature == *signature;
        is_it.then_some(served)
    }

    fn is_of_root(&self, crl: &HeldCrl) -> bool {
        self.issuers.certificates().any(|(id, role, _)| *id == crl.claimed.issuer && role.is_root())
    }

    fn has_signed(&self, crl: &HeldCrl) -> bool {
        let controls = self.issuers.certificates().filter(|(_, role, _)| *role == CaRole::ControlCa);
        let bytes = head(&crl.claimed);
        controls.map(|(.., certificate)| certificate).any(|ca| ca.public_key().verify(&bytes, &crl.signature).is_ok())
    }

    /// A root's CRL is signed elsewhere, and what was given out of them is not written down: only that it is newer than the
    /// one served tells that it was forgotten here. It may have ended an issuing CA that goes on.
    async fn weigh_root(
        &self,
        presented: &PeerCertificate,
        claimed: &ClaimedCrl,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let ClaimedCrl { issuer, number, .. } = *claimed;
        if self.publisher.current(&issuer).is_some_and(|served| served.number >= number) {
            return Ok(());
        }
        let detail = format!("issuer {issuer} number {number}");
        tracing::error!(gateway = %presented.subject, %detail, "a root's CRL that was given out here and forgotten: take it in");
        self.telemetry.event(ROOT_FORGOTTEN, &presented.subject.to_string(), &detail, now);
        if self.publisher.is_root_known_to_be(&issuer, number) {
            return Ok(());
        }
        let audit = Draft::done(now, "system", ROOT_FORGOTTEN, format!("issuer/{issuer}"))
            .fact("shown_by", presented.subject.to_string())
            .fact("number", number);
        self.store.record_audit(audit).await?;
        self.publisher.root_is_known_to_be(issuer, number);
        Ok(())
    }

    async fn weigh(
        &self,
        presented: &PeerCertificate,
        claimed: &ClaimedCrl,
        now: Timestamp,
    ) -> Result<Verdict, Refusal> {
        let restorations = self.store.restorations().await?;
        let memory = match self.store.crl_memory(claimed).await {
            // An issuer that was made in a lost time: none of its CRLs can be taken back, once somebody has decided.
            Err(StoreError::NotFound(_)) if restorations.iter().any(|one| one.is_settled(claimed.this_update)) => {
                return Ok(Verdict::Known);
            }
            Err(StoreError::NotFound(_)) => CrlMemory::default(),
            memory => memory?,
        };
        let verdict = judge(claimed, &memory, &restorations);
        if verdict == Verdict::GivenUp {
            let detail = format!("issuer {} number {}", claimed.issuer, claimed.number);
            tracing::error!(gateway = %presented.subject, %detail, "a CRL that was given up for lost: `restore --crl` takes it");
            self.telemetry.event("crl.given_up", &presented.subject.to_string(), &detail, now);
        }
        let Verdict::Forgotten { lost_from } = verdict else { return Ok(verdict) };
        let evidence = format!(
            "{} holds CRL {} of issuer {}, signed here and forgotten",
            presented.subject, claimed.number, claimed.issuer
        );
        tracing::error!(%evidence, "RESTORED: the past of this CA was restored; it stands still until an operator decides");
        let audit = Draft::done(now, "system", RESTORED, format!("domain/{}", self.domain.trust_domain))
            .fact("shown_by", presented.subject.to_string())
            .fact("issuer", claimed.issuer.to_string())
            .fact("number", claimed.number);
        let about = presented.subject.to_string();
        let notice = Notice { at: now, lost_from, lost_until: claimed.this_update, evidence: evidence.clone(), audit };
        let (store, publisher, telemetry) = (self.store.clone(), self.publisher.clone(), self.telemetry.clone());
        // Once it is recorded, nothing may be issued or published.
        to_its_end(async move {
            let recorded = store.record_notice(notice).await;
            let closed = recorded.as_ref().map_or(&[][..], |restoration| &restoration.closed_fleets);
            let closed: Vec<_> = closed.iter().map(FleetName::as_str).collect();
            let detail = match closed.is_empty() {
                true => evidence,
                false => format!("{evidence}; refuse unknown devices now: {}", closed.join(", ")),
            };
            telemetry.event("ca.restored", &about, &detail, now);
            recorded?;
            publisher.halt().await;
            Ok(())
        })
        .await?;
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::IssuerId, store::Resumption};

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: u32) -> Timestamp {
        Timestamp::from_secs(1_800_000_000) + HOUR * hours
    }

    fn claimed(hours: u32) -> ClaimedCrl {
        let issuer: IssuerId = "0123456789abcdef".parse().unwrap();
        ClaimedCrl { issuer, number: 7, this_update: at(hours), sha256: [7; 32] }
    }

    fn restoration(resumption: Option<bool>) -> Restoration {
        let resumed = |loss_accepted| Resumption { at: at(30), window_until: at(90), loss_accepted };
        Restoration {
            key: 1,
            noticed_at: at(20),
            lost_from: at(5),
            lost_until: at(20),
            evidence: String::new(),
            closed_fleets: Vec::new(),
            resumption: resumption.map(resumed),
        }
    }

    #[test]
    fn a_crl_that_we_know_or_that_one_taken_back_follows_tells_nothing() {
        let known = CrlMemory { is_known: true, ..CrlMemory::default() };
        let behind = CrlMemory { is_behind_taken: true, ..CrlMemory::default() };
        for memory in [known, behind] {
            assert_eq!(judge(&claimed(10), &memory, &[]), Verdict::Known);
        }
    }

    #[test]
    fn a_crl_that_nobody_takes_any_more_tells_nothing() {
        let memory = CrlMemory { horizon: at(10) + LIFETIME + HOUR, ..CrlMemory::default() };
        assert_eq!(judge(&claimed(10), &memory, &[]), Verdict::Old);
        let memory = CrlMemory { horizon: at(10) + LIFETIME, ..CrlMemory::default() };
        assert!(matches!(judge(&claimed(10), &memory, &[]), Verdict::Forgotten { .. }));
    }

    #[test]
    fn a_forgotten_crl_tells_that_all_since_the_last_known_one_is_lost() {
        let memory = CrlMemory { last_known: Some(at(9)), ..CrlMemory::default() };
        assert_eq!(judge(&claimed(10), &memory, &[]), Verdict::Forgotten { lost_from: at(9) - UNDER_WAY });
        let first = Verdict::Forgotten { lost_from: at(9) - UNDER_WAY };
        assert_eq!(judge(&claimed(10), &CrlMemory::default(), &[]), first, "as if one was published an hour before");
    }

    #[test]
    fn what_was_given_up_for_lost_stops_nobody_else() {
        let memory = CrlMemory::default();
        assert_eq!(judge(&claimed(10), &memory, &[restoration(Some(true))]), Verdict::GivenUp);
        let forgotten = |hours, resumption| {
            matches!(judge(&claimed(hours), &memory, &[restoration(resumption)]), Verdict::Forgotten { .. })
        };
        assert!(!forgotten(10, Some(true)));
        assert!(forgotten(25, Some(true)), "of another lost time");
        assert!(forgotten(10, Some(false)), "somebody gave CRLs, but not this one or a later");
        assert!(forgotten(10, None));
    }
}
