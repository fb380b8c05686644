//! The list of devices: filtered, sorted, and cut into pages by the last row's own values, so that no page misses or
//! repeats a device because others came or went.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rusqlite::{Connection, params_from_iter, types::Value};

use super::{
    fleets,
    holders::{holder_columns, read},
    query::{all, int},
};
use crate::{
    identity::DeviceId,
    store::{DevicePage, DeviceQuery, DeviceSort, Holder, StoreError},
};

/// A page of devices.
pub(super) fn list(db: &Connection, query: &DeviceQuery) -> Result<DevicePage, StoreError> {
    let limit = query.limit.max(1) as usize;
    let (sql, params) = select(db, query, limit)?;
    let mut devices = all(db, &sql, params_from_iter(params), read)?;
    let more = devices.len() > limit;
    devices.truncate(limit);
    let next = devices.last().filter(|_| more).map(|last| Cursor::after(query, last).token());
    Ok(DevicePage { devices, next: next.unwrap_or_default() })
}

/// A query put together from fixed pieces; the values are parameters, in the order of the pieces.
#[derive(Default)]
struct Filter {
    conditions: String,
    params: Vec<Value>,
}

impl Filter {
    fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.conditions.push_str(" AND ");
        self.conditions.push_str(condition);
        self.params.extend(values);
    }
}

/// The query and its parameters: one row more than asked for, to know whether there is another page.
fn select(db: &Connection, query: &DeviceQuery, limit: usize) -> Result<(String, Vec<Value>), StoreError> {
    let mut filter = Filter::default();
    if let Some(fleet) = &query.fleet {
        filter.and("holders.fleet = ?", [fleets::key(db, fleet)?.into()]);
    }
    if let Some(status) = query.status {
        // With a fleet it is the fleet's index that is walked.
        let condition = if query.fleet.is_some() { "+holders.status = ?" } else { "holders.status = ?" };
        filter.and(condition, [status.as_str().to_owned().into()]);
    }
    if let Some(at) = query.lapsed_at {
        filter.and("holders.status = 'active' AND ifnull(holders.expires_at, -1) < ?", [at.millis().into()]);
    }
    if let Some((from, until)) = query.expiring {
        let expires = "ifnull(holders.expires_at, -1) >= ? AND ifnull(holders.expires_at, -1) < ?";
        filter.and(expires, [from.millis().into(), until.millis().into()]);
    }
    let (beyond, order) = if query.descending { ("<", "DESC") } else { (">", "ASC") };
    let column = column(query.sort);
    if !query.page_token.is_empty() {
        let Cursor { value, id, .. } = Cursor::parse(query)?;
        let id = Value::from(id.to_string());
        match column {
            None => filter.and(&format!("holders.id {beyond} ?"), [id]),
            // Said twice, so that the index is entered where the page begins.
            Some(column) => filter.and(
                &format!("{column} {beyond}= ? AND ({column} {beyond} ? OR holders.id {beyond} ?)"),
                [value.into(), value.into(), id],
            ),
        }
    }
    let first = column.map(|column| format!("{column} {order}, ")).unwrap_or_default();
    let sql = format!(
        "-- devices()\nSELECT {} FROM holders LEFT JOIN fleets ON fleets.key = holders.fleet \
         WHERE holders.kind = 'device'{} ORDER BY {first}holders.id {order} LIMIT ?",
        holder_columns!(),
        filter.conditions,
    );
    filter.params.push(int(limit as u64 + 1).into());
    Ok((sql, filter.params))
}

/// What is sorted by before the ID.
fn column(sort: DeviceSort) -> Option<&'static str> {
    match sort {
        DeviceSort::Id => None,
        // Those without come first.
        DeviceSort::ExpiresAt => Some("ifnull(holders.expires_at, -1)"),
        DeviceSort::CreatedAt => Some("holders.created_at"),
    }
}

/// Where a page ended: the last device's place in the order asked for.
struct Cursor {
    order: String,
    value: i64,
    id: DeviceId,
}

impl Cursor {
    fn after(query: &DeviceQuery, last: &Holder) -> Self {
        let value = match query.sort {
            DeviceSort::Id => 0,
            DeviceSort::ExpiresAt => last.expires_at.map_or(-1, |at| at.millis()),
            DeviceSort::CreatedAt => last.created_at.millis(),
        };
        Self { order: Self::order(query), value, id: last.subject.id.clone() }
    }

    /// Tells a token of this order from those of others.
    fn order(query: &DeviceQuery) -> String {
        format!("{:?}{}", query.sort, if query.descending { "-" } else { "+" })
    }

    fn token(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{} {} {}", self.order, self.value, self.id))
    }

    fn parse(query: &DeviceQuery) -> Result<Self, StoreError> {
        let parse = || {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(&query.page_token).ok()?).ok()?;
            let mut parts = text.splitn(3, ' ');
            let order = parts.next().filter(|order| *order == Self::order(query))?.to_owned();
            Some(Self { order, value: parts.next()?.parse().ok()?, id: parts.next()?.parse().ok()? })
        };
        parse().ok_or(StoreError::NotFound("page"))
    }
}
