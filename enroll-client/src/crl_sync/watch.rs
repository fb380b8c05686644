//! The watch: keeps the file up to date for as long as it runs. Whatever fails, the file stays as it is, and the next try
//! comes.

use std::{collections::BTreeMap, convert::Infallible, future::Future, path::Path, pin::Pin, time::Duration};

use fleetca_proto::{
    patch,
    v1::{
        CrlPatch, CurrentCrls, HeldCrl, PatchChunk, WatchCrlRequest, WatchCrlResponse, watch_crl_request,
        watch_crl_response::Part,
    },
};
use prost::Message;
use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status};

use super::{
    Alarm, CrlSync, Desk, Fetched, Form, IssuerId, LONGEST_FETCH, Source, SyncError, Synced,
    age::warn_of_age,
    crl::Crl,
    grpc::{bundle_of, meet},
    http::MOST_BYTES,
    state::State,
};
use crate::{
    adoption::random,
    certificate::sha256,
    connect::Connection,
    credential::{Credential, CredentialError},
    durable,
    identity::Kind,
    refusal::Refusal,
    renewal::{Action, Backoff},
    trust::TrustBundle,
    wall_time::WallTime,
};

/// How often a server is asked over plain HTTP: what lies between may keep an answer for as long.
const POLL: Duration = Duration::from_secs(5);
/// How long the server may say nothing: it ends each answer after less.
const SILENCE: Duration = Duration::from_secs(300);
/// How long the next part of what has begun may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the server takes of what is held.
const MOST_HELD: usize = 100;
/// How long a patch may be: the server sends the whole where it would be longer.
pub(super) const LONGEST_PATCH: usize = 4 << 20;
/// After a failure: soon, and not all gateways at once.
const AFTER_FAILURE: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// How often age is looked at and, while it lasts, told of.
const LOOK: Duration = Duration::from_secs(60);

impl CrlSync {
    /// Keeps the file up to date until `stop` is ready (`Ok`), or there is nothing more to be had: this gateway was cut
    /// off, its folder or the file cannot be used, or the CRLs are older than `max_age` (`Err`). `tell` hears of every
    /// try that brought something, and of every failure.
    pub async fn watch(
        &self,
        tell: impl FnMut(Result<&Synced, &Alarm<'_>>),
        stop: impl Future<Output = ()>,
    ) -> Result<(), SyncError> {
        tokio::select! {
            biased;
            () = stop => Ok(()),
            ended = self.keep_watching(tell) => ended.map(|never| match never {}),
        }
    }

    async fn keep_watching(&self, mut tell: impl FnMut(Result<&Synced, &Alarm<'_>>)) -> Result<Infallible, SyncError> {
        let mut desk = self.begin().await?;
        let (mut failures, mut warned) = (0, None);
        loop {
            let outcome = match &self.source {
                Source::Folder(dir) => self.watch_once(dir, &mut desk, &mut tell, &mut failures).await,
                Source::Http { .. } => self.poll(&mut desk, &mut tell).await,
            };
            if warned.is_none_or(|at: Instant| at.elapsed() >= LOOK) {
                warned = Some(Instant::now());
                warn_of_age(&desk.state);
            }
            match self.with_age(outcome, &mut desk).await {
                Ok(()) => failures = 0,
                Err(failure) => {
                    tell(Err(&Alarm::new(&failure, desk.shown())));
                    if ends(&failure) {
                        return Err(failure);
                    }
                    sleep(AFTER_FAILURE.delay(failures, random().unwrap_or(u64::MAX))).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// Asks once, and rests.
    async fn poll(&self, desk: &mut Desk, tell: &mut impl FnMut(Result<&Synced, &Alarm<'_>>)) -> Result<(), SyncError> {
        self.look_again(desk)?;
        let synced = self.turn(desk, LONGEST_FETCH).await?;
        if synced.changed {
            tell(Ok(&synced));
        }
        sleep(POLL).await;
        Ok(())
    }

    /// One answer of the server, to its end.
    async fn watch_once(
        &self,
        dir: &Path,
        desk: &mut Desk,
        tell: &mut impl FnMut(Result<&Synced, &Alarm<'_>>),
        failures: &mut u32,
    ) -> Result<(), SyncError> {
        self.look_again(desk)?;
        let credential = Credential::load(dir)?;
        match self.watch_with(&credential, desk, tell, failures).await {
            // The agent has renewed it meanwhile.
            Err(SyncError::Refused(_)) if Credential::load(dir)?.leaf().der() != credential.leaf().der() => Ok(()),
            // A server from before there was this call.
            Err(SyncError::Refused(refusal)) if refusal.code == Code::Unimplemented => self.poll(desk, tell).await,
            // Nothing comes, and something may wait to be done.
            Err(
                failure @ (SyncError::Connect(_) | SyncError::TimedOut | SyncError::Refused(_) | SyncError::Trust(_)),
            ) => match self.finish(desk).await {
                Err(failed) if !ends(&failure) => Err(failed),
                _ => Err(failure),
            },
            outcome => outcome,
        }
    }

    async fn watch_with(
        &self,
        credential: &Credential,
        desk: &mut Desk,
        tell: &mut impl FnMut(Result<&Synced, &Alarm<'_>>),
        failures: &mut u32,
    ) -> Result<(), SyncError> {
        let met = timeout(LONGEST_FETCH, meet(credential, &desk.shown())).await;
        let (connection, bundle) = met.map_err(late)??;
        let mut watched = Watched::begin(&connection, credential.state().kind, &self.form, bundle, desk).await?;
        while let Some(fetched) = watched.next(self.time_left(&desk.state)).await? {
            match self.take(desk, fetched, Some(&connection)).await {
                Ok(synced) => {
                    *failures = 0;
                    if synced.changed {
                        tell(Ok(&synced));
                    }
                }
                // The gateway lives with what it had, and what failed is not tried again: the next one comes here first.
                Err(failure @ (SyncError::Probe { restored: true, .. } | SyncError::KnownBad))
                    if self.kept_too_long(&desk.state).is_none() =>
                {
                    tell(Err(&Alarm::new(&failure, desk.shown())));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// How long the next set may take, whatever comes meanwhile: until what is held is too old, and some more, so that a
    /// server that has just been found may say what it has.
    fn time_left(&self, state: &State) -> Option<Duration> {
        let (max_age, now) = (self.max_age?, WallTime::now());
        let in_file = state.crls.values().filter(|crl| crl.in_file && !crl.is_root);
        let left = in_file.map(|crl| max_age.saturating_sub(crl.this_update.until(now)));
        match left.min() {
            Some(left) => Some(left + PATIENCE),
            // A root's CRL alone, since all that it stood for has ended, has no age that counts.
            None if state.crls.values().any(|crl| crl.in_file) => None,
            None => Some(PATIENCE),
        }
    }

    /// Somebody else may have touched the file.
    fn look_again(&self, desk: &mut Desk) -> Result<(), SyncError> {
        desk.file = durable::read_if_there(&self.out).map_err(self.io(&self.out))?;
        Ok(())
    }
}

/// Whether no further try can help.
fn ends(failure: &SyncError) -> bool {
    match failure {
        SyncError::Refused(refusal) => !matches!(refusal.action, Action::Retry { .. }),
        SyncError::FailedAndTooOld { .. } | SyncError::TooOld { .. } => true,
        SyncError::Credential(CredentialError::Absent(_)) | SyncError::State { .. } => true,
        _ => false,
    }
}

fn late<T>(_: T) -> SyncError {
    SyncError::TimedOut
}

/// What the server sends of a watch, put together.
struct Watched {
    answer: Pin<Box<dyn Stream<Item = Result<WatchCrlResponse, Status>> + Send>>,
    bundle: TrustBundle,
    /// What is held, with its head's signature: from now on by this answer.
    held: BTreeMap<IssuerId, Piece>,
}

/// A CRL, and the CA's signature over its head.
#[derive(Default)]
struct Piece {
    der: Vec<u8>,
    signature: Vec<u8>,
}

impl Watched {
    async fn begin(
        connection: &Connection,
        kind: Kind,
        form: &Form,
        bundle: TrustBundle,
        desk: &Desk,
    ) -> Result<Self, SyncError> {
        let mut held = held(desk);
        if kind == Kind::Gateway {
            // One that came without is fetched whole once: nothing can be acknowledged without.
            held.retain(|_, piece| !piece.signature.is_empty());
        }
        let named = held.iter().filter_map(|(issuer, piece)| {
            let number = u64::from_str_radix(&desk.state.crls.get(issuer)?.number, 16).ok()?;
            Some(HeldCrl { issuer: issuer.to_string(), number, sha256: sha256(&piece.der).to_vec() })
        });
        let request = WatchCrlRequest {
            held: named.take(MOST_HELD).collect(),
            form: Some(match form {
                Form::Full(issuer) => watch_crl_request::Form::Full(issuer.to_string()),
                form => watch_crl_request::Form::Bundle(bundle_of(form)),
            }),
        };
        let answer = connection.revocation().watch_crl(request).await.map_err(Refusal::from)?.into_inner();
        Ok(Self { answer: Box::pin(answer), bundle, held })
    }

    /// The next set, within this time. `None`: the answer has ended.
    async fn next(&mut self, within: Option<Duration>) -> Result<Option<Fetched>, SyncError> {
        match within {
            // Parts that never make a set keep nobody from looking at the age of what he has.
            Some(within) => timeout(within, self.next_set()).await.map_err(late)?,
            None => self.next_set().await,
        }
    }

    async fn next_set(&mut self) -> Result<Option<Fetched>, SyncError> {
        let silent = timeout(SILENCE, self.answer.try_next()).await;
        let Some(first) = silent.map_err(late)?.map_err(Refusal::from)? else { return Ok(None) };
        let set = timeout(LONGEST_FETCH, self.rest_of_set(first)).await;
        set.map_err(late)?.map(Some)
    }

    /// What has begun, to its end.
    async fn rest_of_set(&mut self, first: WatchCrlResponse) -> Result<Fetched, SyncError> {
        let (mut parts, mut response) = (Parts::default(), first);
        loop {
            match response.part {
                Some(Part::Crl(chunk)) => parts.add(chunk.issuer, chunk.data, chunk.head_signature)?,
                Some(Part::Patch(chunk)) => {
                    if let Some((issuer, piece)) = parts.add_patch(chunk, &self.held)? {
                        parts.whole.insert(issuer, piece);
                    }
                }
                Some(Part::Current(current)) => return self.put_together(parts, current),
                None => {}
            }
            let next = timeout(PATIENCE, self.answer.try_next()).await.map_err(late)?.map_err(Refusal::from)?;
            response = next.ok_or(SyncError::NotCrls("the answer was cut off"))?;
        }
    }

    fn put_together(&mut self, mut parts: Parts, current: CurrentCrls) -> Result<Fetched, SyncError> {
        let mut held = BTreeMap::new();
        let (mut crls, mut head_signatures) = (Vec::new(), Vec::new());
        for crl in current.crls {
            let issuer: IssuerId = crl.issuer.parse().map_err(|_| SyncError::NotCrls("no issuer"))?;
            let piece = parts.whole.remove(&issuer).or_else(|| self.held.remove(&issuer));
            let piece = piece.ok_or_else(|| SyncError::Missing(issuer.clone()))?;
            if sha256(&piece.der)[..] != crl.sha256[..] {
                return Err(SyncError::NotCrls("other bytes than announced"));
            }
            crls.push(piece.der.clone());
            head_signatures.push(piece.signature.clone());
            held.insert(issuer, piece);
        }
        self.held = held;
        Ok(Fetched {
            crls,
            head_signatures,
            roots: self.bundle.device_roots.clone(),
            issuers: self.bundle.device_issuers.clone(),
            is_closed: true,
            etag: None,
        })
    }
}

/// What has come of one publication.
#[derive(Default)]
struct Parts {
    whole: BTreeMap<IssuerId, Piece>,
    /// Whose CRL or patch is coming.
    coming: Option<IssuerId>,
    patch: Vec<u8>,
    octets: usize,
}

impl Parts {
    fn count(&mut self, octets: usize) -> Result<(), SyncError> {
        self.octets += octets;
        if self.octets > MOST_BYTES { Err(SyncError::NotCrls("more than fits")) } else { Ok(()) }
    }

    /// The first part of a CRL names its issuer, those that follow don't.
    fn add(&mut self, issuer: String, data: Vec<u8>, signature: Vec<u8>) -> Result<(), SyncError> {
        self.count(data.len())?;
        if !issuer.is_empty() {
            let issuer: IssuerId = issuer.parse().map_err(|_| SyncError::NotCrls("no issuer"))?;
            self.coming = Some(issuer.clone());
            self.whole.insert(issuer, Piece { der: data, signature });
            return Ok(());
        }
        let piece = self.coming.as_ref().and_then(|issuer| self.whole.get_mut(issuer));
        piece.ok_or(SyncError::NotCrls("chunks out of order"))?.der.extend_from_slice(&data);
        Ok(())
    }

    /// With the last part of a patch: what it makes of what is held.
    fn add_patch(
        &mut self,
        chunk: PatchChunk,
        held: &BTreeMap<IssuerId, Piece>,
    ) -> Result<Option<(IssuerId, Piece)>, SyncError> {
        self.count(chunk.data.len())?;
        let issuer: IssuerId = chunk.issuer.parse().map_err(|_| SyncError::NotCrls("no issuer"))?;
        if self.coming.replace(issuer.clone()).is_some_and(|coming| coming != issuer) {
            self.patch.clear();
        }
        self.patch.extend_from_slice(&chunk.data);
        if self.patch.len() > LONGEST_PATCH {
            return Err(SyncError::NotCrls("more than fits"));
        }
        if !chunk.last {
            return Ok(None);
        }
        let octets = std::mem::take(&mut self.patch);
        self.coming = None;
        let old = held.get(&issuer).ok_or(SyncError::NotCrls("a patch of what is not held"))?;
        let der = patched(&octets, &old.der)?;
        self.count(der.len())?;
        Ok(Some((issuer, Piece { der, signature: chunk.head_signature })))
    }
}

/// What a serialized patch makes of a CRL, which has the length and the SHA-256 that it announces.
pub(super) fn patched(patch: &[u8], old: &[u8]) -> Result<Vec<u8>, SyncError> {
    let patch = CrlPatch::decode(patch).map_err(|_| SyncError::NotCrls("no patch"))?;
    let length = usize::try_from(patch.length).ok().filter(|length| *length <= MOST_BYTES);
    let length = length.ok_or(SyncError::NotCrls("more than fits"))?;
    let new = patch::apply(&patch.steps, old, length).map_err(|_| SyncError::NotCrls("a patch that does not fit"))?;
    if sha256(&new)[..] == patch.sha256[..] { Ok(new) } else { Err(SyncError::NotCrls("other bytes than announced")) }
}

/// What the file holds, if it is as the state describes it.
fn held(desk: &Desk) -> BTreeMap<IssuerId, Piece> {
    let ders = desk.known().into_iter().flat_map(CertificateRevocationListDer::pem_slice_iter);
    let pieces = ders.filter_map(|der| {
        let der = der.ok()?.to_vec();
        let issuer = IssuerId::of_key_identifier(Crl::parse(&der).ok()?.authority_key)?;
        let signature = desk.state.crls.get(&issuer)?.head_signature_octets()?;
        Some((issuer, Piece { der, signature }))
    });
    pieces.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_pki::House;

    fn watched(answer: impl Stream<Item = WatchCrlResponse> + Send + 'static) -> Watched {
        let house = House::new();
        let bundle = TrustBundle {
            trust_domain: "fleet.example".parse().unwrap(),
            sequence: 1,
            control_roots: house.device_root.roots(),
            device_roots: house.device_root.roots(),
            device_issuers: Vec::new(),
        };
        Watched { answer: Box::pin(answer.map(Ok)), bundle, held: BTreeMap::new() }
    }

    #[test]
    fn a_roots_crl_alone_has_no_age_that_could_end_a_watch() {
        let sync = CrlSync {
            source: Source::Folder("gateway".into()),
            form: Form::Bundle,
            out: "crls.pem".into(),
            on_change: None,
            probe: None,
            max_age: Some(Duration::from_secs(60)),
            on_stale: None,
        };
        let state = |crls: &[bool]| {
            let kept = |(at, is_root): (usize, &bool)| {
                let (now, id) = (WallTime::now(), format!("{at:016x}"));
                let kept = json!({
                    "number": "1", "sha256": "", "this_update": now, "issuer_serial": "1", "issuer_not_after": now,
                    "in_file": true, "is_root": is_root,
                });
                (id, kept)
            };
            let crls: serde_json::Map<_, _> = crls.iter().enumerate().map(kept).collect();
            let state = json!({ "form": "bundle", "source": "grpc", "file_sha256": "", "etag": null, "hook_pending": false, "crls": crls });
            serde_json::from_value::<State>(state).unwrap()
        };
        assert_eq!(sync.time_left(&state(&[true])), None);
        assert_eq!(sync.time_left(&state(&[])), Some(PATIENCE));
        assert!(sync.time_left(&state(&[true, false])) > Some(PATIENCE));
    }

    #[tokio::test]
    async fn parts_without_end_keep_nobody_from_seeing_that_what_is_held_grows_old() {
        let nothing = PatchChunk { issuer: "0123456789abcdef".into(), ..PatchChunk::default() };
        let trickle = trickling(WatchCrlResponse { part: Some(Part::Patch(nothing)) });
        let outcome = watched(trickle).next(Some(Duration::from_millis(50))).await;
        assert!(matches!(outcome, Err(SyncError::TimedOut)), "{:?}", outcome.err());
    }

    /// The same again and again, with others' turns in between.
    fn trickling(part: WatchCrlResponse) -> impl Stream<Item = WatchCrlResponse> {
        tokio_stream::iter(std::iter::repeat(part)).then(|part| async {
            tokio::task::yield_now().await;
            part
        })
    }
}
