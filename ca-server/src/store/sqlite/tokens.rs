//! Join tokens.

use rusqlite::{Connection, params, params_from_iter, types::Value};

use super::{
    audit, fleets, holders,
    query::{Columns, all, change, change_one, column, first, the},
    quotas,
};
use crate::{
    audit::Draft,
    identity::{FleetName, Kind, Subject, Timestamp, TokenId},
    inventory::device::Status,
    store::{NewHolder, StoreError, TokenRow},
};

/// The columns that [`read`] takes, of `tokens` joined with `fleets`.
macro_rules! token_columns {
    () => {
        "tokens.id, tokens.public_key, tokens.kind, fleets.name, tokens.role, tokens.subject_id, tokens.id_pattern, \
         tokens.uses, tokens.uses_left, tokens.reenroll, tokens.expires_at, tokens.state, tokens.created_at, \
         tokens.created_by"
    };
}

fn read(row: &mut Columns) -> rusqlite::Result<TokenRow> {
    Ok(TokenRow {
        id: row.take()?,
        public_key: row.take()?,
        kind: row.take()?,
        fleet: row.take()?,
        role: row.take()?,
        subject_id: row.take()?,
        id_pattern: row.take()?,
        uses: row.take()?,
        uses_left: row.take()?,
        reenroll: row.take()?,
        expires_at: row.take()?,
        state: row.take()?,
        created_at: row.take()?,
        created_by: row.take()?,
    })
}

/// By ID.
pub(super) fn by_id(db: &Connection, id: &TokenId) -> Result<Option<TokenRow>, StoreError> {
    let sql = concat!(
        "-- token()\nSELECT ",
        token_columns!(),
        " FROM tokens LEFT JOIN fleets ON fleets.key = tokens.fleet WHERE tokens.id = ?1"
    );
    first(db, sql, params![id], read)
}

/// Newest first.
pub(super) fn list(
    db: &Connection,
    fleet: Option<&FleetName>,
    before: Option<&TokenId>,
    limit: u32,
) -> Result<Vec<TokenRow>, StoreError> {
    let before = match before {
        Some(id) => key(db, id)?.ok_or(StoreError::NotFound("page"))?,
        None => i64::MAX,
    };
    let mut params = vec![Value::from(before), Value::from(limit)];
    let mut filter = "";
    if let Some(name) = fleet {
        params.push(fleets::key(db, name)?.into());
        filter = " AND tokens.fleet = ?3";
    }
    let sql = format!(
        "-- tokens()\nSELECT {} FROM tokens LEFT JOIN fleets ON fleets.key = tokens.fleet \
         WHERE tokens.key < ?1{filter} ORDER BY tokens.key DESC LIMIT ?2",
        token_columns!()
    );
    all(db, &sql, params_from_iter(params), read)
}

fn key(db: &Connection, id: &TokenId) -> Result<Option<i64>, StoreError> {
    first(db, "-- token_key()\nSELECT key FROM tokens WHERE id = ?1", params![id], column)
}

/// The key of a token that a row refers to.
pub(super) fn reference(db: &Connection, id: Option<&TokenId>) -> Result<Option<i64>, StoreError> {
    let Some(id) = id else { return Ok(None) };
    key(db, id)?.ok_or(StoreError::NotFound("token")).map(Some)
}

/// A new token, and the holder that it is for.
pub(super) fn record(
    db: &Connection,
    token: &TokenRow,
    register: Option<&NewHolder>,
    draft: &Draft,
) -> Result<(), StoreError> {
    let mut draft = draft.clone();
    if let Some(holder) = register
        && !registered(db, &holder.subject)?
    {
        holders::insert(db, holder, Status::Registered)?;
        holder.fleet.as_ref().map_or(Ok(()), |fleet| quotas::check_devices(db, fleet))?;
        draft = draft.fact("registered", holder.subject.to_string());
    }
    let fleet = token.fleet.as_ref().map(|name| fleets::key(db, name)).transpose()?;
    let sql = "-- insert_token()\nINSERT INTO tokens (id, public_key, kind, fleet, role, subject_id, id_pattern, \
               uses, uses_left, reenroll, expires_at, state, created_at, created_by) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    let TokenRow { id, public_key, kind, role, subject_id, id_pattern, uses, uses_left, .. } = token;
    let TokenRow { reenroll, expires_at, state, created_at, created_by, .. } = token;
    let params = params![
        id, public_key, kind, fleet, role, subject_id, id_pattern, uses, uses_left, reenroll, expires_at, state,
        created_at, created_by
    ];
    change_one(db, sql, params).map_err(|error| match error {
        StoreError::Conflict => StoreError::Exists("token"),
        other => other,
    })?;
    audit::append(db, &draft)
}

/// Whether this very holder exists; a look-alike is refused.
fn registered(db: &Connection, subject: &Subject) -> Result<bool, StoreError> {
    match holders::standing(db, subject) {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound(_)) if !holders::exists(db, subject.kind, &subject.id)? => Ok(false),
        Err(StoreError::NotFound(_)) => Err(StoreError::Exists(subject.kind.as_str())),
        Err(error) => Err(error),
    }
}

/// Ends a live token.
pub(super) fn record_revocation(db: &Connection, id: &TokenId, draft: &Draft) -> Result<TokenRow, StoreError> {
    let sql = "-- revoke_token()\nUPDATE tokens SET state = 'revoked' WHERE id = ?1 AND state = 'live'";
    if change(db, sql, params![id])? > 0 {
        audit::append(db, draft)?;
    }
    by_id(db, id)?.ok_or(StoreError::NotFound("token"))
}

/// Takes one use of a token that is live, unexpired and has one left; its key. `Conflict` otherwise.
pub(super) fn spend(db: &Connection, id: &TokenId, at: Timestamp) -> Result<i64, StoreError> {
    let sql = "-- spend_token()\nUPDATE tokens SET uses_left = uses_left - 1 \
               WHERE id = ?1 AND state = 'live' AND expires_at >= ?2 AND uses_left > 0 RETURNING key";
    first(db, sql, params![id, at], column)?.ok_or(StoreError::Conflict)
}

/// Unspent tokens that end with a holder: those made for it, and the fleet token that it came by. Takes its key, ID and
/// kind, how it prints, and whether it makes tokens.
macro_rules! ends_with_holder {
    () => {
        "state = 'live' AND uses_left > 0 AND key IN (\
             SELECT key FROM tokens WHERE subject_id = ?2 AND kind = ?3 \
             UNION SELECT came_by FROM holders WHERE key = ?1 AND came_by IS NOT NULL \
             UNION SELECT key FROM tokens WHERE ?5 AND created_by = ?4)"
    };
}

/// Suspends the tokens that end with a holder; their IDs.
pub(super) fn suspend(db: &Connection, holder: i64, subject: &Subject) -> Result<Vec<TokenId>, StoreError> {
    let sql = concat!(
        "-- suspend_tokens()\nUPDATE tokens SET state = 'suspended' WHERE ",
        ends_with_holder!(),
        " RETURNING id"
    );
    // Subjects print as their makers are written down: an operator who is cut off leaves no token behind. Nobody else has
    // made any, and all tokens would be looked through.
    let makes = subject.kind == Kind::Operator;
    all(db, sql, params![holder, subject.id, subject.kind, subject.to_string(), makes], column)
}

/// Whether there is a token to [`suspend`].
pub(super) fn any_to_suspend(db: &Connection, holder: i64, subject: &Subject) -> Result<bool, StoreError> {
    let sql = concat!("-- any_to_suspend()\nSELECT EXISTS (SELECT 1 FROM tokens WHERE ", ends_with_holder!(), ")");
    let makes = subject.kind == Kind::Operator;
    the(db, sql, params![holder, subject.id, subject.kind, subject.to_string(), makes], column)
}
