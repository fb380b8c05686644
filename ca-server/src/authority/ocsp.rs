//! OCSP: what is known of one certificate, signed for whoever asks.
//!
//! What is said follows from the CRL in force, and from the store where that says nothing: never does an answer let in
//! whom the CRL keeps out. Answers are kept, so that strangers who ask the same again cost no signature, and new ones
//! have budgets: of what only who holds a certificate can ask for, nobody else can use anything up.

mod budget;
mod delegate;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use self::{
    budget::Budget,
    delegate::{Delegate, Slot},
};
use super::{Issuers, OnlineIssuer, Publisher, publish::sha256};
use crate::{
    clock::Clock,
    identity::{IssuerId, SerialNumber, Timestamp},
    pki::{CertId, IssuerHashes, OcspAnswer, OcspFailure, OcspRequest, OcspStatus, OcspTemplate},
    signer::Signer,
    store::Store,
    telemetry::Telemetry,
};

/// How long an answer is good. Whoever keeps one longer than he is told to believes it no longer than this.
const LIFETIME: Duration = Duration::from_secs(600);
/// How many answers are kept.
const MOST_KEPT: usize = 10_000;
/// How many answers may be signed a second: for certificates that are good, for those that are revoked, and for what
/// anybody can think of: serials that nobody has, nonces, and several certificates at once.
const GOOD: u32 = 5_000;
const REVOKED: u32 = 1_000;
const OTHERS: u32 = 500;

/// Answers OCSP requests for every issuer that signs now.
pub struct OcspResponder {
    store: Arc<dyn Store>,
    publisher: Arc<Publisher>,
    issuers: Arc<Issuers>,
    telemetry: Arc<Telemetry>,
    clock: Arc<dyn Clock>,
    backdate: Duration,
    known: Mutex<HashMap<IssuerId, Arc<Known>>>,
    kept: Mutex<HashMap<Vec<u8>, Kept>>,
    good: Budget,
    revoked: Budget,
    others: Budget,
}

/// An issuer, as requests name it, and who answers for it.
struct Known {
    hashes: IssuerHashes,
    delegate: tokio::sync::Mutex<Slot>,
}

/// An answer that was signed, to a request that may come again.
#[derive(Clone)]
struct Kept {
    status: OcspStatus,
    reply: SignedReply,
}

/// What is sent back.
#[derive(Clone, Debug)]
pub enum OcspReply {
    /// That there is no answer.
    Failure(OcspFailure),
    /// For this request alone.
    Once(Bytes),
    /// For everybody who asks the same.
    Shared(SignedReply),
}

/// An answer that does not depend on who asks.
#[derive(Clone, Debug)]
pub struct SignedReply {
    /// An OCSPResponse (DER).
    pub der: Bytes,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
    /// Since when it is good.
    pub this_update: Timestamp,
    /// Until when.
    pub next_update: Timestamp,
}

impl OcspResponder {
    /// Answers for these issuers by what this publisher serves. Its certificates are dated back by so much.
    pub fn new(
        store: Arc<dyn Store>,
        publisher: Arc<Publisher>,
        issuers: Arc<Issuers>,
        telemetry: Arc<Telemetry>,
        clock: Arc<dyn Clock>,
        backdate: Duration,
    ) -> Arc<Self> {
        let (known, kept) = (Mutex::default(), Mutex::default());
        let (good, revoked, others) = (Budget::a_second(GOOD), Budget::a_second(REVOKED), Budget::a_second(OTHERS));
        Arc::new(Self { store, publisher, issuers, telemetry, clock, backdate, known, kept, good, revoked, others })
    }

    /// Answers an OCSPRequest (DER).
    pub async fn answer(self: &Arc<Self>, request: &[u8]) -> OcspReply {
        let answered = match OcspRequest::read(request) {
            Ok(request) => self.respond(&request).await,
            Err(_) => Err(OcspFailure::Malformed),
        };
        answered.unwrap_or_else(|failure| {
            self.telemetry.ocsp(word_for(failure), "none");
            OcspReply::Failure(failure)
        })
    }

    async fn respond(self: &Arc<Self>, request: &OcspRequest) -> Result<OcspReply, OcspFailure> {
        let online = self.issuer_of(request.ids()).ok_or(OcspFailure::Unauthorized)?;
        // Before anything is looked up: what is found is no older than the answer says.
        let now = self.publisher.now().floor_secs();
        let mut answers = Vec::with_capacity(request.ids().len());
        for id in request.ids() {
            answers.push(OcspAnswer { id, status: self.status(&online.issuer.id(), id.serial()).await? });
        }
        let alone = request.nonce().is_none() && answers.len() == 1;
        if !alone && self.others.take(self.clock.elapsed()) {
            let reply = self.sign(online, &answers, request.nonce(), now).await?;
            return Ok(OcspReply::Once(reply.der));
        }
        // A nonce need not be repeated (RFC 9654, section 2.1): better an answer without it than none.
        match answers.as_slice() {
            [answer] => Ok(OcspReply::Shared(self.shared(online, answer, now).await?)),
            _ => Err(OcspFailure::TryLater),
        }
    }

    /// The answer that everybody gets: the one that was signed of late, where it is true still.
    async fn shared(
        self: &Arc<Self>,
        online: &OnlineIssuer,
        answer: &OcspAnswer<'_>,
        now: Timestamp,
    ) -> Result<SignedReply, OcspFailure> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(answer.id.der()).cloned();
        if let Some(Kept { status, reply }) = kept
            && status == answer.status
            && now >= reply.this_update
            && now.since(reply.this_update) < LIFETIME / 2
        {
            self.telemetry.ocsp(word(status), "kept");
            return Ok(reply);
        }
        let budget = match answer.status {
            OcspStatus::Good => &self.good,
            OcspStatus::Revoked { .. } => &self.revoked,
            OcspStatus::Unknown => &self.others,
        };
        if !budget.take(self.clock.elapsed()) {
            return Err(OcspFailure::TryLater);
        }
        let reply = self.sign(online, std::slice::from_ref(answer), None, now).await?;
        // Of serials that nobody has there are too many.
        if answer.status != OcspStatus::Unknown {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= MOST_KEPT {
                kept.clear();
            }
            kept.insert(answer.id.der().to_vec(), Kept { status: answer.status, reply: reply.clone() });
        }
        Ok(reply)
    }

    /// Who is meant by all of these, if it is one issuer whose key is at hand.
    fn issuer_of(&self, ids: &[CertId]) -> Option<&OnlineIssuer> {
        self.issuers.online().find(|online| {
            let known = self.known(online);
            ids.iter().all(|id| known.hashes.are_named_by(id))
        })
    }

    fn known(&self, online: &OnlineIssuer) -> Arc<Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Known { hashes: IssuerHashes::of(online.issuer.certificate()), delegate: Default::default() };
        known.entry(online.issuer.id()).or_insert_with(|| Arc::new(new())).clone()
    }

    /// What the CRL in force says of a certificate, or, where that says nothing, the store.
    async fn status(&self, issuer: &IssuerId, serial: Option<SerialNumber>) -> Result<OcspStatus, OcspFailure> {
        // The store is asked first: what is recorded after that is on a CRL only later.
        let row = match &serial {
            Some(serial) => self.store.certificate(*serial).await,
            None => Ok(None),
        };
        // While nobody has decided about a restored past, there is none.
        let crl = self.publisher.current(issuer).ok_or(OcspFailure::TryLater)?;
        if let Some(entry) = serial.and_then(|serial| crl.listed.get(&serial)) {
            return Ok(OcspStatus::Revoked { at: entry.revoked_at, reason: entry.reason });
        }
        match row {
            Ok(Some((row, _))) if row.issuer == *issuer => Ok(match row.revoked {
                Some(revoked) => OcspStatus::Revoked { at: revoked.at.floor_secs(), reason: revoked.reason },
                None => OcspStatus::Good,
            }),
            Ok(_) => Ok(OcspStatus::Unknown),
            Err(error) => {
                tracing::warn!(%error, "a certificate's status can't be looked up");
                Err(OcspFailure::TryLater)
            }
        }
    }

    async fn sign(
        self: &Arc<Self>,
        online: &OnlineIssuer,
        answers: &[OcspAnswer<'_>],
        nonce: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<SignedReply, OcspFailure> {
        let Delegate { key, certificate, .. } = &*self.delegate(online, now).await?;
        let next_update = (now + LIFETIME).min(certificate.not_after);
        let template = OcspTemplate { key: key.public_key(), this_update: now, next_update, answers, nonce };
        let prepared = template.prepare();
        let signature = key.sign(prepared.tbs()).map_err(|_| OcspFailure::TryLater)?;
        let der = prepared.assemble(&signature, certificate);
        answers.iter().for_each(|answer| self.telemetry.ocsp(word(answer.status), "signed"));
        Ok(SignedReply { sha256: sha256(&der), der: der.into(), this_update: now, next_update })
    }
}

fn word(status: OcspStatus) -> &'static str {
    match status {
        OcspStatus::Good => "good",
        OcspStatus::Revoked { .. } => "revoked",
        OcspStatus::Unknown => "unknown",
    }
}

fn word_for(failure: OcspFailure) -> &'static str {
    match failure {
        OcspFailure::Malformed => "malformed",
        OcspFailure::TryLater => "try_later",
        OcspFailure::Unauthorized => "unauthorized",
    }
}
