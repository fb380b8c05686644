//! The CA's types as the database keeps them, and the database's errors as the CA knows them.

use std::{cell::RefCell, collections::VecDeque};

use rusqlite::{
    ErrorCode, ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use crate::{
    identity::{
        CertificateHash, DeviceId, FleetName, IssuerId, KeyFingerprint, Kind, RevocationReason, SerialNumber,
        Timestamp, TokenId, TrustDomain,
    },
    inventory::{device::Status, fleet::Policy, partition::Standing},
    pki::CaRole,
    store::{NewcomerState, Role, StoreError, TokenState},
};

/// Kept as text, and read back by parsing it.
macro_rules! text {
    ($($type:ty),*) => {$(
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.to_string().into())
            }
        }
        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                value.as_str()?.parse().map_err(FromSqlError::other)
            }
        }
    )*};
}

text!(DeviceId, FleetName, TokenId, TrustDomain, IssuerId);

/// Kept as one of a few words.
macro_rules! word {
    ($($type:ty: $all:expr;)*) => {$(
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }
        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let text = value.as_str()?;
                $all.into_iter().find(|word| word.as_str() == text).ok_or(FromSqlError::InvalidType)
            }
        }
    )*};
}

word! {
    Kind: [Kind::Device, Kind::Gateway, Kind::Operator, Kind::Server];
    Status: Status::ALL;
    Standing: Standing::ALL;
    Role: Role::ALL;
    CaRole: CaRole::ALL;
    NewcomerState: NewcomerState::ALL;
    TokenState: [TokenState::Live, TokenState::Revoked, TokenState::Suspended];
}

/// Kept as its octets.
macro_rules! octets {
    ($($type:ty),*) => {$(
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.as_bytes().as_slice().into())
            }
        }
        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                FromSql::column_result(value).map(Self::from_bytes)
            }
        }
    )*};
}

octets!(SerialNumber, KeyFingerprint, CertificateHash);

impl ToSql for Timestamp {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.millis().into())
    }
}

impl FromSql for Timestamp {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self::from_millis)
    }
}

impl ToSql for RevocationReason {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.number().into())
    }
}

impl FromSql for RevocationReason {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::from_number(value.as_i64()?).map_err(FromSqlError::other)
    }
}

impl ToSql for Policy {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(self).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
        Ok(text.into())
    }
}

thread_local! {
    /// Policies as they were read last: each renewal reads one, and one may hold roots.
    static READ: RefCell<VecDeque<(String, Policy)>> = const { RefCell::new(VecDeque::new()) };
}

/// How many policies a thread remembers: a device that nobody registered has those of all open fleets read.
const REMEMBERED: usize = 64;

impl FromSql for Policy {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        READ.with_borrow_mut(|read| {
            if let Some((_, policy)) = read.iter().find(|(known, _)| known == text) {
                return Ok(policy.clone());
            }
            let policy: Policy = serde_json::from_str(text).map_err(FromSqlError::other)?;
            read.truncate(REMEMBERED - 1);
            read.push_front((text.to_owned(), policy.clone()));
            Ok(policy)
        })
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let Some(code) = error.sqlite_error() else {
            return StoreError::Damaged(format!("a row of the database can't be read: {error}"));
        };
        match (code.code, code.extended_code) {
            // A quota that is used up and a limit on a file's size come as failed writes.
            (ErrorCode::DiskFull, _) | (_, rusqlite::ffi::SQLITE_IOERR_SHMSIZE | rusqlite::ffi::SQLITE_IOERR_WRITE) => {
                StoreError::Full
            }
            // Serials, handles and keys are random: who decides again takes others.
            (_, rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => {
                StoreError::Conflict
            }
            (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => StoreError::Damaged(
                "the database is damaged: stop the server, keep a copy of its folder, and restore the last backup"
                    .into(),
            ),
            (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => StoreError::Unusable(
                "another process holds the database: wait for it to finish, or stop it, and try again".into(),
            ),
            (ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen, _) => StoreError::Unusable(
                format!("the database can't be written: check the owner and mode of its folder and files ({error})"),
            ),
            _ => StoreError::Database(error.to_string()),
        }
    }
}
