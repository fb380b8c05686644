//! New certificates: the CA's first ones, enrollments, renewals, and what is confirmed.

use rusqlite::Connection;

use super::{audit, certificates, fleets, holders, issuers, newcomers, past, quotas, registrations, tokens};
use crate::{
    inventory::device::Status,
    store::{Confirmation, Enrollment, EnrollmentHolder, Initialization, NewHolder, Renewal, StoreError},
};

/// A new CA.
pub(super) fn record_initialization(db: &Connection, record: &Initialization) -> Result<(), StoreError> {
    issuers::insert_domain(db, &record.domain)?;
    record.issuers.iter().try_for_each(|issuer| issuers::insert(db, issuer))?;
    issuers::insert_trust_bundle(db, &record.trust_bundle)?;
    record.crls.iter().try_for_each(|head| issuers::put_crl(db, head, None, None))?;
    audit::append(db, &record.audit)?;
    record.enrollments.iter().try_for_each(|enrollment| record_enrollment(db, enrollment))
}

/// A certificate made from an attestation.
pub(super) fn record_enrollment(db: &Connection, record: &Enrollment) -> Result<(), StoreError> {
    if !record.local {
        refuse_undecided(db)?;
    }
    if let Some((fleet, policy)) = &record.policy {
        let other = matches!(&record.holder, EnrollmentHolder::New(new) if new.fleet.as_ref() != Some(fleet));
        if other || fleets::policy(db, fleet)?.as_ref() != Some(policy) {
            return Err(StoreError::Conflict);
        }
    }
    let holders::Admitted { key: holder, was_revoked } = holders::admit(db, &record.holder, record.at)?;
    if was_revoked {
        certificates::withdraw_all(db, holder, record.at)?;
    }
    if let Some(hardware) = &record.hardware {
        newcomers::refuse_rejected(db, hardware, record.at)?;
        if record.approved {
            let EnrollmentHolder::New(new) = &record.holder else { return Err(StoreError::Conflict) };
            newcomers::use_approval(db, hardware, new, &record.certificate.key, record.at)?;
        }
        registrations::claim_hardware(db, holder, hardware)?;
    }
    if let EnrollmentHolder::New(NewHolder { fleet: Some(fleet), .. }) = &record.holder {
        quotas::check_devices(db, fleet)?;
    }
    // What comes back by a certificate is there already, and goes on like what renews.
    if record.certificate.presented.is_none() {
        quotas::take_enrollment(db, holder, record.at)?;
    }
    let token = record.token.as_ref().map(|id| tokens::spend(db, id, record.at)).transpose()?;
    let token = match token {
        None => tokens::reference(db, record.certificate.token.as_ref())?,
        spent => spent,
    };
    if let Some((hash, expires_at)) = &record.assertion {
        registrations::use_assertion(db, hash, *expires_at, record.at)?;
    }
    let attestation = match record.certificate.presented {
        None => Some(certificates::insert_attestation(db, &record.attested)?),
        Some(_) => None,
    };
    certificates::insert(db, holder, &record.certificate, token, attestation)?;
    if let Some(serial) = record.superseded {
        certificates::supersede(db, holder, serial, record.at)?;
    }
    certificates::set_lineage(db, holder, &record.lineage, Some(record.at))?;
    holders::activate(db, holder, &record.attested, tokens::reference(db, record.came_by.as_ref())?)?;
    audit::append(db, &record.audit)
}

/// A certificate made from another.
pub(super) fn record_renewal(db: &Connection, record: &Renewal) -> Result<(), StoreError> {
    refuse_undecided(db)?;
    let holder = holders::unchanged(db, record.holder, &[Status::Active])?;
    let token = tokens::reference(db, record.certificate.token.as_ref())?;
    certificates::insert(db, holder, &record.certificate, token, None)?;
    if let Some(serial) = record.superseded {
        certificates::supersede(db, holder, serial, record.at)?;
    }
    certificates::set_lineage(db, holder, &record.lineage, Some(record.at))?;
    audit::append(db, &record.audit)
}

/// A pending certificate in force.
pub(super) fn record_confirmation(db: &Connection, record: &Confirmation) -> Result<(), StoreError> {
    refuse_undecided(db)?;
    let holder = holders::unchanged(db, record.holder, &[Status::Active])?;
    certificates::set_lineage(db, holder, &record.lineage, Some(record.at))?;
    audit::append(db, &record.audit)
}

/// Nothing is made while a past that was restored is not decided upon.
fn refuse_undecided(db: &Connection) -> Result<(), StoreError> {
    if past::is_undecided(db)? { Err(StoreError::Conflict) } else { Ok(()) }
}
