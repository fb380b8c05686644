//! Between the wire's messages and the rooms' types.

use std::time::Duration;

use fleetca_proto::v1;

use crate::{
    attestation::tpm::EndorsementKind,
    authority::{Grant, Place, Published, Receipt, Refusal},
    identity::{IssuerId, KeyFingerprint, Kind, RevocationReason, Timestamp},
    inventory::{
        device::Status,
        fleet::{CrlScope, FactoryValidity, Method, OnFork, Policy, Tier},
        partition::Standing,
        unknown::{UnknownDevices, UnknownError},
    },
    pki::{IssuerCertificate, KeyKind, Locations},
    store::{Asking, CertificateRow, FleetRow, Holder, NewcomerRow, Role, SecurityEventRow, TokenRow, TokenState},
};

pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.millis().rem_euclid(1000)).unwrap_or(0) * 1_000_000;
    prost_types::Timestamp { seconds: at.secs(), nanos }
}

pub fn window((not_before, not_after): (Timestamp, Timestamp)) -> v1::RenewalWindow {
    v1::RenewalWindow { not_before: Some(timestamp(not_before)), not_after: Some(timestamp(not_after)) }
}

/// An instant from the wire.
pub fn instant(field: &'static str, at: &prost_types::Timestamp) -> Result<Timestamp, Refusal> {
    let millis = at.seconds.checked_mul(1000).and_then(|millis| millis.checked_add(i64::from(at.nanos / 1_000_000)));
    // From 1970 to 9999, what RFC 3339 can say.
    let millis = millis.filter(|millis| (0..253_402_300_800_000).contains(millis));
    millis.map(Timestamp::from_millis).ok_or_else(|| Refusal::invalid(field, "must be an instant from 1970 to 9999"))
}

/// A duration from the wire: unset is zero.
pub fn duration(field: &'static str, value: Option<prost_types::Duration>) -> Result<Duration, Refusal> {
    let Some(value) = value else { return Ok(Duration::ZERO) };
    value.try_into().map_err(|_| Refusal::invalid(field, "must not be negative"))
}

/// A span of time, in whole seconds.
pub fn span(time: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}

/// The answer to a caller who holds the trust bundle of this sequence; 0: none.
pub fn issued(grant: Grant, held: u64) -> v1::Issued {
    let bundle = grant.trust_bundle;
    v1::Issued {
        chain: grant.chain,
        trust_bundle: (bundle.sequence != held).then(|| bundle.signed.clone()),
        renewal_window: Some(window(grant.window)),
        server_time: Some(timestamp(grant.now)),
        confirm_required: grant.confirm_required,
    }
}

pub fn kind(kind: Kind) -> v1::Kind {
    match kind {
        Kind::Device => v1::Kind::Device,
        Kind::Gateway => v1::Kind::Gateway,
        Kind::Operator => v1::Kind::Operator,
        Kind::Server => v1::Kind::Unspecified,
    }
}

pub fn role_to_wire(role: Role) -> v1::Role {
    match role {
        Role::Viewer => v1::Role::Viewer,
        Role::Revoker => v1::Role::Revoker,
        Role::Admin => v1::Role::Admin,
    }
}

pub fn role_from_wire(role: i32) -> Result<Role, Refusal> {
    match v1::Role::try_from(role) {
        Ok(v1::Role::Viewer) => Ok(Role::Viewer),
        Ok(v1::Role::Revoker) => Ok(Role::Revoker),
        Ok(v1::Role::Admin) => Ok(Role::Admin),
        _ => Err(Refusal::invalid("role", "must be viewer, revoker or admin")),
    }
}

pub fn status_to_wire(status: Status) -> v1::DeviceStatus {
    match status {
        Status::Registered => v1::DeviceStatus::Registered,
        Status::Pending => v1::DeviceStatus::Pending,
        Status::Active => v1::DeviceStatus::Active,
        Status::Held => v1::DeviceStatus::Held,
        Status::Revoked => v1::DeviceStatus::Revoked,
        Status::Decommissioned => v1::DeviceStatus::Decommissioned,
    }
}

/// A status from the wire: unspecified is none.
pub fn status_from_wire(status: i32) -> Result<Option<Status>, Refusal> {
    let status =
        v1::DeviceStatus::try_from(status).map_err(|_| Refusal::invalid("status", "is none that this server knows"))?;
    Ok(Status::ALL.into_iter().find(|known| status_to_wire(*known) == status))
}

pub fn reason(number: i32) -> Result<RevocationReason, Refusal> {
    RevocationReason::from_number(number.into()).map_err(|error| Refusal::invalid("reason", error.to_string()))
}

/// The word for all issuing CAs that are active.
const ALL_ISSUERS: &str = "all";

/// Carries what a request sets over to a policy; what it leaves out stays.
pub fn change_policy(wire: &v1::FleetPolicy) -> Result<impl Fn(&mut Policy) + use<>, Refusal> {
    let attest = wire.attest.iter().map(|method| method.parse()).collect::<Result<Vec<Method>, _>>()?;
    let key_types = wire
        .key_types
        .iter()
        .map(|key| match v1::KeyType::try_from(*key) {
            Ok(v1::KeyType::P256) => Ok(KeyKind::P256),
            Ok(v1::KeyType::P384) => Ok(KeyKind::P384),
            Ok(v1::KeyType::Ed25519) => Ok(KeyKind::Ed25519),
            Ok(v1::KeyType::Rsa) => Ok(KeyKind::Rsa),
            _ => Err(Refusal::invalid("key_types", "must be p256, p384, ed25519 or rsa")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let validity = wire.validity.map(|validity| duration("validity", Some(validity))).transpose()?;
    let tier = |field, word: &str| {
        let found = Tier::ALL.into_iter().find(|tier| tier.as_str() == word);
        found.ok_or_else(|| Refusal::invalid(field, "must be token, registered, factory or hardware"))
    };
    let (factory_roots, tpm_roots) = (wire.factory_roots.clone(), wire.tpm_roots.clone());
    for (field, emptied, given) in [
        ("factory_roots", wire.no_factory_roots, !factory_roots.is_empty()),
        ("tpm_roots", wire.no_tpm_roots, !tpm_roots.is_empty()),
        ("banned_keys", wire.no_banned_keys, !wire.banned_keys.is_empty()),
    ] {
        if emptied && given {
            return Err(Refusal::invalid(field, "is either given or emptied"));
        }
    }
    let (no_factory_roots, no_tpm_roots, no_banned_keys) =
        (wire.no_factory_roots, wire.no_tpm_roots, wire.no_banned_keys);
    let factory_validity = match wire.factory_validity.as_str() {
        "" => None,
        word => {
            let found = FactoryValidity::ALL.into_iter().find(|validity| validity.as_str() == word);
            Some(found.ok_or_else(|| Refusal::invalid("factory_validity", "must be birth or now"))?)
        }
    };
    let banned = wire.banned_keys.iter().map(|key| key.parse().map_err(Refusal::name("banned_keys")));
    let banned: Vec<KeyFingerprint> = banned.collect::<Result<_, _>>()?;
    let least_tier = match wire.least_tier.as_str() {
        "" => None,
        word => Some(tier("least_tier", word)?),
    };
    let reenroll = match wire.reenroll.as_str() {
        "" => None,
        "never" => Some(None),
        word => Some(Some(tier("reenroll", word)?)),
    };
    let unknown = match wire.unknown_devices.as_str() {
        "" => None,
        word => {
            let found = UnknownDevices::ALL.into_iter().find(|devices| devices.as_str() == word);
            Some(found.ok_or_else(|| Refusal::invalid("unknown_devices", "must be refuse, pending or register"))?)
        }
    };
    let id_template = match wire.id_template.as_str() {
        "" => None,
        "none" => Some(None),
        text => {
            let template =
                text.parse().map_err(|error: UnknownError| Refusal::invalid("id_template", error.to_string()));
            Some(Some(template?))
        }
    };
    let ek_kind = match wire.ek_kind.as_str() {
        "" => None,
        word => {
            let found = EndorsementKind::ALL.into_iter().find(|kind| kind.as_str() == word);
            Some(found.ok_or_else(|| Refusal::invalid("ek_kind", "must be rsa-2048, p-256 or p-384"))?)
        }
    };
    // Said of methods, roots and keys as they are: who changes them says it again.
    let (accept_any_holder, most_pending) = (wire.accept_any_holder, wire.most_pending);
    let same_roots = factory_roots.is_empty() && tpm_roots.is_empty() && !no_factory_roots && !no_tpm_roots;
    let was_accepted = unknown.is_none() && attest.is_empty() && same_roots && ek_kind.is_none();
    let grace = wire.grace.map(|grace| duration("grace", Some(grace))).transpose()?;
    let on_fork = match v1::OnFork::try_from(wire.on_fork) {
        Ok(v1::OnFork::Hold) => Some(OnFork::Hold),
        Ok(v1::OnFork::Alert) => Some(OnFork::Alert),
        Ok(v1::OnFork::Unspecified) => None,
        Err(_) => return Err(Refusal::invalid("on_fork", "must be hold or alert")),
    };
    let crl_scope = match v1::CrlScope::try_from(wire.crl_scope) {
        Ok(v1::CrlScope::Full) => Some(CrlScope::Full),
        Ok(v1::CrlScope::Device) => Some(CrlScope::Device),
        Ok(v1::CrlScope::Unspecified) => None,
        Err(_) => return Err(Refusal::invalid("crl_scope", "must be full or device")),
    };
    let (max_devices, max_enrollments) = (wire.max_devices, wire.max_enrollments_per_hour);
    let issuers = match wire.issuers.as_slice() {
        [] => None,
        [all] if all == ALL_ISSUERS => Some(Vec::new()),
        named => {
            let ids = named.iter().map(|id| id.parse().map_err(Refusal::name("issuers")));
            Some(ids.collect::<Result<Vec<_>, _>>()?)
        }
    };
    Ok(move |policy: &mut Policy| {
        if let Some(most) = max_devices {
            policy.quotas.max_devices = (most > 0).then_some(most);
        }
        if let Some(most) = max_enrollments {
            policy.quotas.max_enrollments_per_hour = (most > 0).then_some(most);
        }
        if !attest.is_empty() {
            policy.attest.clone_from(&attest);
        }
        if !key_types.is_empty() {
            policy.key_types.clone_from(&key_types);
        }
        policy.validity_secs = validity.map_or(policy.validity_secs, |validity| validity.as_secs());
        if !factory_roots.is_empty() || no_factory_roots {
            policy.factory_roots.0.clone_from(&factory_roots);
        }
        if !tpm_roots.is_empty() || no_tpm_roots {
            policy.tpm_roots.0.clone_from(&tpm_roots);
        }
        if !banned.is_empty() || no_banned_keys {
            policy.banned_keys.clone_from(&banned);
        }
        policy.factory_validity = factory_validity.unwrap_or(policy.factory_validity);
        policy.least_tier = least_tier.unwrap_or(policy.least_tier);
        policy.reenroll = reenroll.unwrap_or(policy.reenroll);
        policy.grace_secs = grace.map_or(policy.grace_secs, |grace| grace.as_secs());
        policy.unknown.devices = unknown.unwrap_or(policy.unknown.devices);
        policy.unknown.accept_any_holder = accept_any_holder || (was_accepted && policy.unknown.accept_any_holder);
        if most_pending > 0 {
            policy.unknown.most_pending = most_pending;
        }
        policy.unknown.ek_kind = ek_kind.or(policy.unknown.ek_kind);
        if let Some(template) = &id_template {
            policy.unknown.id_template.clone_from(template);
        }
        policy.on_fork = on_fork.unwrap_or(policy.on_fork);
        policy.crl_scope = crl_scope.unwrap_or(policy.crl_scope);
        if let Some(issuers) = &issuers {
            policy.spread.named.clone_from(issuers);
        }
    })
}

pub fn fleet(row: FleetRow, [issuers, signing_issuers, leaving_issuers]: [Vec<String>; 3]) -> v1::Fleet {
    let policy = row.policy;
    let key_types = policy.key_types.iter().map(|key| match key {
        KeyKind::P256 => v1::KeyType::P256.into(),
        KeyKind::P384 => v1::KeyType::P384.into(),
        KeyKind::Ed25519 => v1::KeyType::Ed25519.into(),
        KeyKind::Rsa => v1::KeyType::Rsa.into(),
    });
    let wire = v1::FleetPolicy {
        attest: policy.attest.iter().map(|method| method.as_str().to_owned()).collect(),
        validity: policy.validity().try_into().ok(),
        key_types: key_types.collect(),
        on_fork: match policy.on_fork {
            OnFork::Hold => v1::OnFork::Hold.into(),
            OnFork::Alert => v1::OnFork::Alert.into(),
        },
        crl_scope: match policy.crl_scope {
            CrlScope::Full => v1::CrlScope::Full.into(),
            CrlScope::Device => v1::CrlScope::Device.into(),
        },
        grace: policy.grace().try_into().ok(),
        least_tier: policy.least_tier.as_str().into(),
        factory_roots: policy.factory_roots.0.clone(),
        tpm_roots: policy.tpm_roots.0.clone(),
        factory_validity: policy.factory_validity.as_str().into(),
        banned_keys: policy.banned_keys.iter().map(ToString::to_string).collect(),
        reenroll: policy.reenroll.map_or("never", Tier::as_str).into(),
        unknown_devices: policy.unknown.devices.as_str().into(),
        accept_any_holder: policy.unknown.accept_any_holder,
        most_pending: policy.unknown.most_pending,
        max_devices: Some(policy.quotas.max_devices.unwrap_or(0)),
        max_enrollments_per_hour: Some(policy.quotas.max_enrollments_per_hour.unwrap_or(0)),
        id_template: policy.unknown.id_template.map_or_else(|| "none".into(), |template| template.to_string()),
        ek_kind: policy.unknown.ek_kind.map_or("", EndorsementKind::as_str).into(),
        issuers: match policy.spread.named.as_slice() {
            [] => vec![ALL_ISSUERS.into()],
            named => named.iter().map(ToString::to_string).collect(),
        },
        no_factory_roots: false,
        no_tpm_roots: false,
        no_banned_keys: false,
    };
    v1::Fleet {
        name: row.name.to_string(),
        policy: Some(wire),
        created_at: Some(timestamp(row.created_at)),
        device_count: row.device_count,
        devices_in_use: row.devices_in_use,
        issuers,
        signing_issuers,
        leaving_issuers,
    }
}

pub fn device(holder: Holder, now: Timestamp) -> v1::Device {
    let reenroll_until = holder.reenroll_until.filter(|_| holder.may_reenroll(now));
    let lapsed = holder.status == Status::Active && holder.expires_at.is_none_or(|at| at < now);
    let (method, tier) = holder.attested.map(|attested| (attested.method, attested.tier)).unwrap_or_default();
    let serial = |serial: Option<_>| serial.map(|serial: crate::identity::SerialNumber| serial.to_string());
    v1::Device {
        id: holder.subject.id.to_string(),
        fleet: holder.fleet.map(|fleet| fleet.to_string()).unwrap_or_default(),
        status: status_to_wire(holder.status).into(),
        status_reason: holder.status_reason,
        lapsed,
        method,
        tier,
        created_at: Some(timestamp(holder.created_at)),
        generation: holder.lineage.generation,
        head_serial: serial(holder.lineage.head).unwrap_or_default(),
        pending_serial: serial(holder.lineage.pending).unwrap_or_default(),
        expires_at: holder.expires_at.map(timestamp),
        last_seen_at: holder.last_seen_at.map(timestamp),
        certificates: Vec::new(),
        crls: Vec::new(),
        hardware: Vec::new(),
        retired_hardware: Vec::new(),
        keys: Vec::new(),
        reenroll_allowed: reenroll_until.is_some(),
        reenroll_until: reenroll_until.map(timestamp),
        must_reattest: false,
    }
}

/// A gateway or an operator.
pub fn peer(holder: Holder) -> v1::Peer {
    v1::Peer {
        id: holder.subject.id.to_string(),
        kind: kind(holder.subject.kind).into(),
        role: holder.role.map_or(v1::Role::Unspecified, role_to_wire).into(),
        status: status_to_wire(holder.status).into(),
        created_at: Some(timestamp(holder.created_at)),
        expires_at: holder.expires_at.map(timestamp),
        last_seen_at: holder.last_seen_at.map(timestamp),
        head_serial: holder.lineage.head.map(|serial| serial.to_string()).unwrap_or_default(),
        loaded: Vec::new(),
        watches: false,
        heard_at: None,
    }
}

pub fn certificate(row: CertificateRow, der: Vec<u8>) -> v1::Certificate {
    let (method, tier) = row.attested.map(|attested| (attested.method, attested.tier)).unwrap_or_default();
    v1::Certificate {
        method,
        tier,
        serial: row.serial.to_string(),
        subject: row.holder.to_string(),
        issuer: row.issuer.to_string(),
        not_before: Some(timestamp(row.not_before)),
        not_after: Some(timestamp(row.not_after)),
        position: row.position.as_str().into(),
        revoked_at: row.revoked.map(|revoked| timestamp(revoked.at)),
        revocation_reason: row.revoked.map_or(0, |revoked| revoked.reason.number().into()),
        spki_sha256: row.key.as_bytes().to_vec(),
        sha256: row.hash.as_bytes().to_vec(),
        der,
        revoked: row.revoked.is_some(),
    }
}

pub fn token(row: TokenRow, now: Timestamp) -> v1::Token {
    let state = match row.state {
        TokenState::Live if row.uses_left == 0 => "spent",
        TokenState::Live if row.expires_at < now => "expired",
        state => state.as_str(),
    };
    v1::Token {
        id: row.id.to_string(),
        kind: kind(row.kind).into(),
        fleet: row.fleet.map(|fleet| fleet.to_string()).unwrap_or_default(),
        subject_id: row.subject_id.map(|id| id.to_string()).unwrap_or_default(),
        id_pattern: row.id_pattern.unwrap_or_default(),
        role: row.role.map_or(v1::Role::Unspecified, role_to_wire).into(),
        uses: row.uses,
        uses_left: row.uses_left,
        expires_at: Some(timestamp(row.expires_at)),
        state: state.into(),
        created_at: Some(timestamp(row.created_at)),
        created_by: row.created_by,
        reenroll: row.reenroll,
    }
}

pub fn newcomer(row: NewcomerRow) -> v1::Newcomer {
    let Asking { hardware, fleet, id, method, tier, key } = row.asking;
    v1::Newcomer {
        id: id.to_string(),
        fleet: fleet.to_string(),
        method,
        tier,
        identity: format!("{}:{hardware}", hardware.kind()),
        key_sha256: key.to_string(),
        state: row.state.as_str().into(),
        asked_at: Some(timestamp(row.asked_at)),
        expires_at: Some(timestamp(row.expires_at)),
    }
}

pub fn receipts(crls: Vec<(IssuerId, u64)>) -> Vec<v1::CrlReceipt> {
    crls.into_iter()
        .map(|(issuer, number)| v1::CrlReceipt { issuer: issuer.to_string(), number, loaded: None })
        .collect()
}

pub fn receipt(receipt: Receipt) -> v1::RevocationReceipt {
    v1::RevocationReceipt {
        subject: receipt.subject.to_string(),
        status: status_to_wire(receipt.status).into(),
        certificates: receipt.certificates,
        tokens: receipt.tokens,
        crls: receipts(receipt.crls),
        unreadable: receipt.unreadable,
    }
}

pub fn crl(published: &Published, name: String, hierarchy: &str, locations: &Locations) -> v1::CrlStatus {
    v1::CrlStatus {
        issuer: published.issuer.to_string(),
        issuer_name: name,
        number: published.number,
        this_update: Some(timestamp(published.this_update)),
        next_update: Some(timestamp(published.next_update)),
        entries: published.entries,
        size: published.der.len() as u64,
        sha256: published.sha256.to_vec(),
        hierarchy: hierarchy.into(),
        url: locations.full_crl(&published.issuer),
        loaded: None,
    }
}

pub fn issuer(id: IssuerId, hierarchy: &str, certificate: &IssuerCertificate) -> v1::Issuer {
    v1::Issuer {
        id: id.to_string(),
        name: certificate.subject_text().into(),
        hierarchy: hierarchy.into(),
        not_before: Some(timestamp(certificate.not_before())),
        not_after: Some(timestamp(certificate.not_after())),
        certificate: certificate.der().to_vec(),
        ..Default::default()
    }
}

/// Where an issuing CA of devices stands.
pub fn place(issuer: &mut v1::Issuer, place: &Place, wait: std::time::Duration, now: Timestamp) {
    let ready_at = place.ready_at(wait);
    let waits = place.standing == Standing::Active && !place.is_ready(wait, now);
    issuer.standing = if waits { "waiting" } else { place.standing.as_str() }.into();
    issuer.replaces = place.replaces.map(|id| id.to_string()).unwrap_or_default();
    issuer.published_at = place.published_at.map(timestamp);
    issuer.ready_at = ready_at.filter(|_| waits).map(timestamp);
}

pub fn security_event(row: SecurityEventRow) -> v1::SecurityEvent {
    v1::SecurityEvent {
        kind: row.kind,
        subject: row.subject,
        first_at: Some(timestamp(row.first_at)),
        last_at: Some(timestamp(row.last_at)),
        count: row.count,
        detail: row.detail,
    }
}
