//! The server's own certificate: made like everybody's, recorded like everybody's, in force at once.

use std::time::Duration;

use ring::rand::SystemRandom;

use super::{Issuers, OPERATOR_VALIDITY, Refusal, new_handle, random};
use crate::{
    audit::Draft,
    identity::{DeviceId, HostName, Kind, SerialNumber, Subject, Timestamp},
    inventory::lineage::Lineage,
    pki::{self, LeafRequest, PublicKey},
    store::{Attested, Enrollment, EnrollmentHolder, Holder, NewHolder, Store},
};

/// Makes a certificate for the server's key and records it. Gives the leaf (DER).
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
    let record = server_enrollment(issuers, id, hosts, key, backdate, now, known)?;
    let der = record.certificate.der.clone();
    store.record_enrollment(record).await?;
    Ok(der)
}

/// The record of a server's certificate, signed.
pub(super) fn server_enrollment(
    issuers: &Issuers,
    id: &DeviceId,
    hosts: &[HostName],
    key: &PublicKey,
    backdate: Duration,
    now: Timestamp,
    known: Option<Holder>,
) -> Result<Enrollment, Refusal> {
    let source = SystemRandom::new();
    let subject = Subject::new(Kind::Server, id.clone());
    let request = LeafRequest {
        holder: pki::Holder::Server { id, hosts },
        key,
        serial: SerialNumber::new(now, random(&source)?),
        not_before: now - backdate,
        not_after: now + OPERATOR_VALIDITY,
        crl: pki::CrlScope::Full,
    };
    let certificate = issuers.control().sign_leaf(&request)?;
    local_enrollment(subject, None, known, certificate, "system", now, &source)
}

/// The record of a certificate that was made on the server's own folder, in force at once.
pub(super) fn local_enrollment(
    subject: Subject,
    role: Option<crate::store::Role>,
    known: Option<Holder>,
    certificate: crate::store::NewCertificate,
    actor: &str,
    now: Timestamp,
    source: &SystemRandom,
) -> Result<Enrollment, Refusal> {
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
            handle: new_handle(source)?,
            created_at: now,
        }),
    };
    Ok(Enrollment {
        holder,
        lineage: Lineage { generation: generation + 1, ..Lineage::begun_by(certificate.serial) },
        superseded,
        attested: Attested { method: "local".into(), tier: "local".into(), identity: String::new() },
        token: None,
        came_by: None,
        certificate,
        at: now,
        audit,
    })
}
