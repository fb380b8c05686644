//! Asking: every query of the store goes through one of these, prepared once a connection and its rows counted.

use rusqlite::{Connection, Params, Row, types::FromSql};

use crate::store::StoreError;

/// A row's columns, taken one after the other in the order in which the query names them.
pub(super) struct Columns<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

impl Columns<'_, '_> {
    /// The next column.
    pub fn take<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        self.next += 1;
        self.row.get(self.next - 1)
    }

    /// The next column, which counts.
    pub fn count(&mut self) -> rusqlite::Result<u64> {
        self.take::<i64>().map(|count| count.max(0) as u64)
    }
}

/// Reads a row's only column.
pub(super) fn column<T: FromSql>(row: &mut Columns) -> rusqlite::Result<T> {
    row.take()
}

/// Reads a row's only column, which counts.
pub(super) fn count(row: &mut Columns) -> rusqlite::Result<u64> {
    row.count()
}

/// A count as the database takes it.
pub(super) fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The query's name: its first line.
fn name(sql: &str) -> &str {
    sql.trim_start().lines().next().unwrap_or_default().trim_start_matches("-- ")
}

/// The one row, if there is one. More than one is an error.
pub(super) fn first<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&mut Columns) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let value = read(&mut Columns { row, next: 0 })?;
    match rows.next()? {
        None => Ok(Some(value)),
        Some(_) => Err(StoreError::Database(format!("{}: more than one row", name(sql)))),
    }
}

/// The one row, which must be there.
pub(super) fn the<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&mut Columns) -> rusqlite::Result<T>,
) -> Result<T, StoreError> {
    first(db, sql, params, read)?.ok_or_else(|| StoreError::Database(format!("{}: no row", name(sql))))
}

/// Every row.
pub(super) fn all<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&mut Columns) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut values = Vec::new();
    while let Some(row) = rows.next()? {
        values.push(read(&mut Columns { row, next: 0 })?);
    }
    Ok(values)
}

/// Every row that can be read, and how many there are that can't. Where the database itself fails in the middle, what came
/// before that: the rest counts as one.
pub(super) fn readable<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&mut Columns) -> rusqlite::Result<T>,
) -> Result<(Vec<T>, u64), StoreError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let (mut values, mut unreadable) = (Vec::new(), 0);
    loop {
        match rows.next() {
            Ok(None) => return Ok((values, unreadable)),
            Ok(Some(row)) => match read(&mut Columns { row, next: 0 }) {
                Ok(value) => values.push(value),
                Err(_) => unreadable += 1,
            },
            Err(_) => return Ok((values, unreadable + 1)),
        }
    }
}

/// Changes any number of rows, and says how many.
pub(super) fn change(db: &Connection, sql: &str, params: impl Params) -> Result<usize, StoreError> {
    Ok(db.prepare_cached(sql)?.execute(params)?)
}

/// Changes exactly one row.
pub(super) fn change_one(db: &Connection, sql: &str, params: impl Params) -> Result<(), StoreError> {
    match change(db, sql, params)? {
        1 => Ok(()),
        rows => Err(StoreError::Database(format!("{}: {rows} rows changed instead of one", name(sql)))),
    }
}
