//! CRLs as they are served: DER as it was published, PEM and bundles written from it while they are sent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{Path, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use ring::digest::{Context, SHA256};
use tokio::sync::Semaphore;

use super::{
    Rooms,
    armor::Armor,
    conditions::Validators,
    representation::{Content, Gzipped, Media, Representation, empty, once, short},
};
use crate::{
    authority::{PublishError, Published},
    identity::{FleetName, IssuerId, KeyFingerprint, hex},
    store::StoreError,
};

/// Five seconds, so that what stands between us and a gateway does not keep a revocation from it.
const CACHE_CONTROL: &str = "max-age=5, must-revalidate";
const DER: Media = Media { content_type: "application/pkix-crl", cache_control: CACHE_CONTROL };
const PATCH: Media = Media { content_type: "application/protobuf", cache_control: CACHE_CONTROL };
const PEM: Media = Media { content_type: "application/x-pem-file", cache_control: CACHE_CONTROL };
/// How many strangers' questions for single devices' lists are worked on at the same time, and how long one waits.
const LIST_SHARE: usize = 4;
const LIST_PATIENCE: Duration = Duration::from_secs(2);

/// What a request is for, and in which encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    Full(IssuerId, Form),
    /// What has changed; DER only.
    Delta(IssuerId),
    Bundle,
    /// Of these issuing CAs: fleets that have the same share it.
    Fleet(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Der,
    Pem,
}

/// How many bundles of fleets are kept that differ in their issuing CAs.
const MOST_FLEETS: usize = 64;

/// The gzipped forms of the current publications: one a slot, the one before it is let go. What is served as it is in
/// memory, or is written while it is sent, is not kept here a second time.
pub(super) struct Shelf {
    slots: Mutex<HashMap<Slot, (String, Gzipped)>>,
    lists: Semaphore,
}

impl Default for Shelf {
    fn default() -> Self {
        Self { slots: Mutex::default(), lists: Semaphore::new(LIST_SHARE) }
    }
}

impl Shelf {
    /// What everybody shares of these CRLs in this slot.
    fn representation(&self, slot: Slot, crls: &[Arc<Published>]) -> Representation {
        let tag = tag(slot, crls);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fleet = |slot: &Slot| matches!(slot, Slot::Fleet(_));
        if is_fleet(&slot) && slots.keys().filter(|slot| is_fleet(slot)).count() >= MOST_FLEETS {
            slots.retain(|slot, _| !is_fleet(slot));
        }
        let (kept, gzipped) = slots.entry(slot).or_default();
        if *kept != tag {
            (*kept, *gzipped) = (tag.clone(), Gzipped::default());
        }
        represent(slot, tag, crls, gzipped.clone())
    }
}

/// Names what the bytes are made from: for the DER of one CRL that is their SHA-256.
fn tag(slot: Slot, crls: &[Arc<Published>]) -> String {
    match (slot, crls) {
        (Slot::Full(_, Form::Der) | Slot::Delta(_), [crl]) => KeyFingerprint::from_bytes(crl.sha256).to_string(),
        (Slot::Full(_, Form::Pem), [crl]) => format!("{}-pem", KeyFingerprint::from_bytes(crl.sha256)),
        _ => {
            let mut hash = Context::new(&SHA256);
            crls.iter().for_each(|crl| hash.update(&crl.sha256));
            hex(hash.finish().as_ref())
        }
    }
}

fn represent(slot: Slot, tag: String, crls: &[Arc<Published>], gzipped: Gzipped) -> Representation {
    // A bundle changes with each of its members, whatever their dates: its date tells nothing apart.
    let dated_apart = matches!(slot, Slot::Full(..) | Slot::Delta(_)) && crls.iter().all(|crl| crl.dated_apart);
    let last_modified = crls.iter().map(|crl| crl.this_update).max().unwrap_or_default();
    let validators = Validators { tag, last_modified, dated_apart };
    let (media, content) = match (slot, crls) {
        (Slot::Full(_, Form::Der) | Slot::Delta(_), [crl]) => (DER, Content::Bytes(crl.der.clone())),
        _ => (PEM, Content::Armor(Armor::new(crls.iter().map(|crl| crl.der.clone()).collect()))),
    };
    Representation::new(media, validators, content, gzipped)
}

/// `/crl/<issuer>/full.crl`, `.pem`; `delta.crl`.
pub(super) async fn full(
    State(rooms): State<Arc<Rooms>>,
    method: Method,
    Path((issuer, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let form = match file.as_str() {
        "full.crl" => Form::Der,
        "full.pem" => Form::Pem,
        "delta.crl" => return delta(&rooms, method, &issuer, &headers).await,
        _ => return not_found(),
    };
    let Some(issuer) = rooms.known_issuer(&issuer) else { return not_found() };
    let Some(crl) = rooms.publisher.current(&issuer) else { return not_published() };
    rooms.shelf.representation(Slot::Full(issuer, form), &[crl]).answer(&headers, method == Method::GET).await
}

/// `/crl/<issuer>/delta.crl`, where the settings have it. There is no PEM form: what a gateway loads is PEM, and no gateway
/// may ever load this.
async fn delta(rooms: &Rooms, method: Method, issuer: &str, headers: &HeaderMap) -> Response {
    let Some(issuer) = rooms.known_issuer(issuer) else { return not_found() };
    let Ok(Ok(_share)) = tokio::time::timeout(LIST_PATIENCE, rooms.shelf.lists.acquire()).await else {
        return short(StatusCode::SERVICE_UNAVAILABLE, "busy, try again");
    };
    let made = rooms.publisher.delta(&issuer).await;
    drop(_share);
    match made {
        Ok(Some(delta)) => {
            rooms.shelf.representation(Slot::Delta(issuer), &[delta]).answer(headers, method == Method::GET).await
        }
        Ok(None) | Err(PublishError::UnknownIssuer) => not_found(),
        Err(error) => {
            tracing::warn!(%issuer, %error, "no delta CRL");
            not_published()
        }
    }
}

/// `/crl/<issuer>/patch/<from>-<to>`: a serialized `fleetca.v1.CrlPatch`. `to` is the number of the CRL that is served, or
/// `current`. 404 where there is no short one: then the whole is to be fetched. 204: `from` is what is served.
pub(super) async fn patch(
    State(rooms): State<Arc<Rooms>>,
    method: Method,
    Path((issuer, numbers)): Path<(String, String)>,
) -> Response {
    let Some(issuer) = rooms.known_issuer(&issuer) else { return not_found() };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let Some((from, to)) = numbers.split_once('-') else { return not_found() };
    let Some(from) = number(from) else { return not_found() };
    let Some(crl) = rooms.publisher.current(&issuer) else { return not_published() };
    if to != "current" && number(to) != Some(crl.number) {
        return not_found();
    }
    if from == crl.number {
        return empty();
    }
    // A share of what strangers may have made for them.
    let Ok(Ok(_share)) = tokio::time::timeout(LIST_PATIENCE, rooms.shelf.lists.acquire()).await else {
        return short(StatusCode::SERVICE_UNAVAILABLE, "busy, try again");
    };
    match rooms.publisher.patch(&crl, from, None).await {
        Some(patch) => once(PATCH, if method == Method::GET { patch } else { Bytes::new() }),
        None => not_found(),
    }
}

/// `/crl/<issuer>/device/<handle>.crl`, `.pem`.
pub(super) async fn device(
    State(rooms): State<Arc<Rooms>>,
    method: Method,
    Path((issuer, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let Some(issuer) = rooms.known_issuer(&issuer) else { return not_found() };
    let (handle, form) = match file.rsplit_once('.') {
        Some((handle, "crl")) => (handle, Form::Der),
        Some((handle, "pem")) => (handle, Form::Pem),
        _ => return not_found(),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !(16..=64).contains(&handle.len()) || !handle.bytes().all(plain) {
        return not_found();
    }
    // Held until the list is made: a crowd of strangers keeps neither the store nor the signer busy.
    let Ok(Ok(_share)) = tokio::time::timeout(LIST_PATIENCE, rooms.shelf.lists.acquire()).await else {
        return short(StatusCode::SERVICE_UNAVAILABLE, "busy, try again");
    };
    let list = match rooms.device_list(&issuer, handle).await {
        Ok(Some(list)) => list,
        Ok(None) | Err(PublishError::UnknownIssuer) => return not_found(),
        Err(PublishError::Busy) => return short(StatusCode::SERVICE_UNAVAILABLE, "busy, try again"),
        Err(error) => {
            tracing::warn!(%issuer, %error, "no list for a device");
            return not_published();
        }
    };
    drop(_share);
    let slot = Slot::Full(issuer, form);
    let crls = [list];
    // Small, and one of very many: made for this request alone.
    represent(slot, tag(slot, &crls), &crls, Gzipped::default()).answer(&headers, method == Method::GET).await
}

/// `/crl/bundle.pem`.
pub(super) async fn bundle(State(rooms): State<Arc<Rooms>>, method: Method, headers: HeaderMap) -> Response {
    // A gateway with an incomplete set would let the revoked in, or refuse everybody.
    let Some(crls) = rooms.publisher.bundle() else { return not_published() };
    rooms.shelf.representation(Slot::Bundle, &crls).answer(&headers, method == Method::GET).await
}

/// `/crl/fleet/<fleet>/bundle.pem`.
pub(super) async fn fleet_bundle(
    State(rooms): State<Arc<Rooms>>,
    method: Method,
    Path(fleet): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Ok(name) = fleet.parse::<FleetName>() else { return not_found() };
    let found = async {
        let Some(policy) = rooms.store.policy(&name).await? else { return Ok(None) };
        rooms.publisher.fleet_bundle(&name, &policy).await.map(Some)
    };
    match found.await {
        Ok(Some(Some(crls))) => {
            let slot = slot_of(&crls, rooms.publisher.bundle().as_deref());
            rooms.shelf.representation(slot, &crls).answer(&headers, method == Method::GET).await
        }
        Ok(Some(None)) => not_published(),
        Ok(None) => not_found(),
        Err::<_, StoreError>(error) => {
            tracing::warn!(%error, "a fleet can't be looked up");
            short(StatusCode::SERVICE_UNAVAILABLE, "not available, try again")
        }
    }
}

/// Fleets that need the same share it, with the whole domain where that is all.
fn slot_of(crls: &[Arc<Published>], whole: Option<&[Arc<Published>]>) -> Slot {
    if whole.is_some_and(|whole| whole.len() == crls.len()) {
        return Slot::Bundle;
    }
    let ids: String = crls.iter().map(|crl| crl.issuer.to_string()).collect();
    let hash = KeyFingerprint::of(ids.as_bytes());
    Slot::Fleet(hash.as_bytes().iter().take(8).fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

/// The answer to whatever is not there, whyever.
pub(super) fn not_found() -> Response {
    short(StatusCode::NOT_FOUND, "not found")
}

fn not_published() -> Response {
    short(StatusCode::SERVICE_UNAVAILABLE, "not published yet, try again")
}
