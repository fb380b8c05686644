//! What is made on the server's own folder, by whoever can write there: the server's certificate, and the way back in for
//! an admin. Made like everybody's, recorded like everybody's, in force at once.

use std::time::Duration;

use ring::rand::SystemRandom;

use super::{Issuers, OPERATOR_VALIDITY, Refusal, new_handle, random, refuse_cut_off};
use crate::{
    audit::Draft,
    identity::{DeviceId, HostName, Kind, SerialNumber, Subject, Timestamp},
    inventory::{device::Status, lineage::Lineage},
    pki::{self, LeafRequest, PublicKey},
    store::{Attested, Enrollment, EnrollmentHolder, Holder, NewHolder, Role, Store},
};

/// Makes a certificate for the server's key and records it, actor `system`. Gives the leaf (DER).
pub async fn issue_server_certificate(
    store: &dyn Store,
    issuers: &Issuers,
    id: &DeviceId,
    hosts: &[HostName],
    key: &PublicKey,
    backdate: Duration,
    now: Timestamp,
) -> Result<Vec<u8>, Refusal> {
    let known = store.holder(&Subject::new(Kind::Server, id.clone())).await?;
    record(store, local_enrollment(issuers, pki::Holder::Server { id, hosts }, key, known, backdate, now)?).await
}

/// Makes a certificate for an admin's key and records it, actor `local`. Gives the leaf (DER). An operator that was
/// revoked stays revoked: recover under another name.
pub async fn recover_operator(
    store: &dyn Store,
    issuers: &Issuers,
    id: &DeviceId,
    key: &PublicKey,
    backdate: Duration,
    now: Timestamp,
) -> Result<Vec<u8>, Refusal> {
    let known = store.holder(&Subject::new(Kind::Operator, id.clone())).await?;
    if let Some(holder) = &known {
        refuse_cut_off(holder)?;
        if holder.role != Some(Role::Admin) {
            return Err(Refusal::State("this operator is no admin; recover under another name".into()));
        }
        if !matches!(holder.status, Status::Active | Status::Registered) {
            return Err(Refusal::NotEnrolled);
        }
    } else if store.holder_folded(Kind::Operator, &id.folded()).await?.is_some() {
        return Err(Refusal::IdTaken);
    }
    record(store, local_enrollment(issuers, pki::Holder::Operator(id), key, known, backdate, now)?).await
}

async fn record(store: &dyn Store, enrollment: Enrollment) -> Result<Vec<u8>, Refusal> {
    let der = enrollment.certificate.der.clone();
    store.record_enrollment(enrollment).await?;
    Ok(der)
}

/// The record of a certificate for the server or for an admin, signed.
pub(super) fn local_enrollment(
    issuers: &Issuers,
    holder: pki::Holder<'_>,
    key: &PublicKey,
    known: Option<Holder>,
    backdate: Duration,
    now: Timestamp,
) -> Result<Enrollment, Refusal> {
    let (subject, role, actor) = match &holder {
        pki::Holder::Server { id, .. } => (Subject::new(Kind::Server, (*id).clone()), None, "system"),
        pki::Holder::Operator(id) => (Subject::new(Kind::Operator, (*id).clone()), Some(Role::Admin), "local"),
        _ => return Err(Refusal::Internal("devices and gateways enroll by evidence")),
    };
    let source = SystemRandom::new();
    let certificate = issuers.control().sign_leaf(&LeafRequest {
        holder,
        key,
        serial: SerialNumber::new(now, random(&source)?),
        not_before: now - backdate,
        not_after: now + OPERATOR_VALIDITY,
        crl: pki::CrlScope::Full,
        policy: None,
        ocsp: false,
    })?;
    let mut audit = Draft::done(now, actor, "certificate.issued", subject.to_string())
        .serial(certificate.serial)
        .fact("by", "local")
        .fact("key", certificate.key.to_string());
    let generation = known.as_ref().map_or(0, |holder| holder.lineage.generation);
    let superseded = known.as_ref().and_then(|holder| holder.lineage.pending);
    if let Some(serial) = superseded {
        audit = audit.fact("superseded", serial.to_string());
    }
    let holder = match known {
        Some(holder) => EnrollmentHolder::Known(holder.version),
        None => EnrollmentHolder::New(NewHolder {
            subject,
            fleet: None,
            role,
            handle: new_handle(&source)?,
            created_at: now,
        }),
    };
    Ok(Enrollment {
        holder,
        lineage: Lineage { generation: generation + 1, ..Lineage::begun_by(certificate.serial) },
        superseded,
        attested: Attested { method: "local".into(), tier: "local".into(), identity: String::new() },
        hardware: None,
        approved: false,
        policy: None,
        local: true,
        token: None,
        assertion: None,
        came_by: None,
        certificate,
        at: now,
        audit,
    })
}
