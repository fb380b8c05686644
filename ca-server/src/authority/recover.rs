//! The way back in: an operator's certificate made on the server's own folder, by whoever can write there.

use std::time::Duration;

use ring::rand::SystemRandom;

use super::{Issuers, OPERATOR_VALIDITY, Refusal, random, refuse_cut_off, server_certificate::local_enrollment};
use crate::{
    identity::{DeviceId, Kind, SerialNumber, Subject, Timestamp},
    inventory::device::Status,
    pki::{self, LeafRequest, PublicKey},
    store::{Enrollment, Holder, Role, Store},
};

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
    let record = operator_enrollment(issuers, id, key, backdate, now, known)?;
    let der = record.certificate.der.clone();
    store.record_enrollment(record).await?;
    Ok(der)
}

/// The record of an admin's certificate made here, signed.
pub(super) fn operator_enrollment(
    issuers: &Issuers,
    id: &DeviceId,
    key: &PublicKey,
    backdate: Duration,
    now: Timestamp,
    known: Option<Holder>,
) -> Result<Enrollment, Refusal> {
    let source = SystemRandom::new();
    let request = LeafRequest {
        holder: pki::Holder::Operator(id),
        key,
        serial: SerialNumber::new(now, random(&source)?),
        not_before: now - backdate,
        not_after: now + OPERATOR_VALIDITY,
        crl: pki::CrlScope::Full,
    };
    let certificate = issuers.control().sign_leaf(&request)?;
    let subject = Subject::new(Kind::Operator, id.clone());
    local_enrollment(subject, Some(Role::Admin), known, certificate, "local", now, &source)
}
