//! `WatchCrl`: what a caller lacks, now and whenever something is published.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use fleetca_proto::v1::{
    CurrentCrls, HeldCrl, PatchChunk, WatchCrlResponse, get_crl_request::Form, watch_crl_response::Part,
};
use futures::{Stream, StreamExt, stream};
use tokio::{sync::watch, time::Instant};
use tonic::Status;

use super::{CHUNK, MOST_HELD, Service, chunks};
use crate::{
    authority::{Published, Refusal, Refused, Watching},
    identity::{IssuerId, Kind},
    pki::PeerCertificate,
};

/// How long an answer goes on: less than a request may take. Whoever has been cut off meanwhile comes as a stranger then.
const WATCH: Duration = Duration::from_secs(240);

/// One caller's watch.
pub(super) struct Watch {
    service: Service,
    presented: Arc<PeerCertificate>,
    form: Form,
    /// What the caller holds, once all that was sent has arrived.
    held: HashMap<IssuerId, (u64, [u8; 32])>,
    publications: watch::Receiver<u64>,
    end: Instant,
    /// It was told what there is.
    told: bool,
    /// It counts as a gateway that watches.
    counted: Option<Watching>,
}

/// What is sent of one publication, made while it is sent.
type Parts = Box<dyn Iterator<Item = Result<WatchCrlResponse, Status>> + Send>;

impl Watch {
    /// For this caller, who says that it holds this.
    pub(super) fn new(
        service: Service,
        presented: Arc<PeerCertificate>,
        form: Form,
        held: Vec<HeldCrl>,
    ) -> Result<Self, Refusal> {
        if held.len() > MOST_HELD {
            return Err(Refusal::invalid("held", format!("must be at most {MOST_HELD}")));
        }
        let read = |crl: HeldCrl| {
            let issuer = crl.issuer.parse().map_err(Refusal::name("issuer"))?;
            let sha256 = crl.sha256.try_into().map_err(|_| Refusal::invalid("sha256", "must have 32 octets"))?;
            Ok((issuer, (crl.number, sha256)))
        };
        Ok(Self {
            publications: service.authority.publisher.watch(),
            held: held.into_iter().map(read).collect::<Result<_, Refusal>>()?,
            service,
            presented,
            form,
            end: Instant::now() + WATCH,
            told: false,
            counted: None,
        })
    }

    /// Everything that the caller is to hear.
    pub(super) fn stream(self) -> impl Stream<Item = Result<WatchCrlResponse, Status>> + Send {
        let turns = stream::unfold(Some(self), |watch| async {
            let mut watch = watch?;
            match watch.turn().await {
                Ok(Some(parts)) => Some((parts, Some(watch))),
                Ok(None) => None,
                Err(refused) => {
                    let parts: Parts = Box::new(std::iter::once(Err(watch.service.authority.status(refused))));
                    Some((parts, None))
                }
            }
        });
        turns.map(stream::iter).flatten()
    }

    /// Waits for something to say. `None`: the time is over.
    async fn turn(&mut self) -> Result<Option<Parts>, Refused> {
        loop {
            self.publications.borrow_and_update();
            // Judged anew at every publication: a gateway that was cut off hears nothing more.
            let peer = match self.service.authority.authenticate(&self.presented).await {
                // It has renewed its certificate: it comes again with the new one.
                Err(Refused { why: Refusal::CertificateSuperseded, .. }) if self.told => return Ok(None),
                peer => peer?,
            };
            if peer.holder.subject.kind == Kind::Device {
                let why = Refusal::KindRefused(Kind::Device.as_str());
                return Err(Refused::about(&peer.holder.subject)(why));
            }
            if self.counted.is_none() {
                self.counted = self.service.authority.watching(&peer.holder.subject);
            }
            let crls = self.service.crls(&peer.holder.subject, Some(self.form.clone())).await?;
            if let Some(parts) = self.news(crls, peer.holder.subject.kind == Kind::Gateway).await {
                return Ok(Some(parts));
            }
            match tokio::time::timeout_at(self.end, self.publications.changed()).await {
                Ok(Ok(())) => {}
                // The time is over, or the server ends.
                Ok(Err(_)) | Err(_) => return Ok(None),
            }
        }
    }

    /// What the caller lacks of these. `signed`: with the signatures over heads, which only gateways may show.
    async fn news(&mut self, crls: Vec<Arc<Published>>, signed: bool) -> Option<Parts> {
        let current: Vec<HeldCrl> = crls.iter().map(|crl| as_held(crl)).collect();
        let is_held = |crl: &Arc<Published>| self.held.get(&crl.issuer) == Some(&(crl.number, crl.sha256));
        let lacking: Vec<_> = crls.iter().filter(|crl| !is_held(crl)).cloned().collect();
        if lacking.is_empty() && self.told && self.held.len() == crls.len() {
            return None;
        }
        let publisher = &self.service.authority.publisher;
        let (mut patches, mut whole) = (Vec::new(), Vec::new());
        for crl in lacking {
            let patch = match self.held.get(&crl.issuer) {
                Some((number, sha256)) => publisher.patch(&crl, *number, Some(sha256)).await,
                None => None,
            };
            match patch {
                Some(patch) => patches.push((crl, patch)),
                None => whole.push(crl),
            }
        }
        self.held = crls.iter().map(|crl| (crl.issuer, (crl.number, crl.sha256))).collect();
        self.told = true;
        let total = u32::try_from(whole.len()).unwrap_or(u32::MAX);
        let patches = patches.into_iter().flat_map(move |(crl, patch)| patch_chunks(&crl, patch, signed));
        let whole = whole.into_iter().zip(0..).flat_map(move |(crl, index)| chunks(&crl, index, total, signed));
        let last = std::iter::once(Part::Current(CurrentCrls { crls: current }));
        let parts = patches.map(Part::Patch).chain(whole.map(Part::Crl)).chain(last);
        Some(Box::new(parts.map(|part| Ok(WatchCrlResponse { part: Some(part) }))))
    }
}

fn as_held(crl: &Published) -> HeldCrl {
    HeldCrl { issuer: crl.issuer.to_string(), number: crl.number, sha256: crl.sha256.to_vec() }
}

/// A patch's chunks.
fn patch_chunks(crl: &Published, patch: Bytes, signed: bool) -> impl Iterator<Item = PatchChunk> + use<> {
    let issuer = crl.issuer.to_string();
    let signature = if signed { crl.head_signature.clone() } else { Bytes::new() };
    (0..patch.len()).step_by(CHUNK).map(move |at| {
        let end = patch.len().min(at + CHUNK);
        let last = end == patch.len();
        PatchChunk {
            issuer: issuer.clone(),
            data: patch.slice(at..end).to_vec(),
            last,
            head_signature: if last { signature.to_vec() } else { Vec::new() },
        }
    })
}
