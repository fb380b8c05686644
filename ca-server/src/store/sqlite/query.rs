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

/// Every row that can be read, and how many there are that can't. Where the database turns out to be damaged in the middle,
/// what came before that: the rest counts as one. Whatever else fails may pass, and is no damage: the call fails with it, and
/// who asks again may read them all.
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
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok((values, unreadable)),
            Err(error) => return damage(error).map(|()| (values, unreadable + 1)),
        };
        match read(&mut Columns { row, next: 0 }) {
            Ok(value) => values.push(value),
            Err(error) => {
                damage(error)?;
                unreadable += 1;
            }
        }
    }
}

/// Fails with what is no damage.
fn damage(error: rusqlite::Error) -> Result<(), StoreError> {
    match StoreError::from(error) {
        StoreError::Damaged(_) => Ok(()),
        fault => Err(fault),
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt};

    use super::*;

    /// A fault of `abs`, in the row whose number is this one.
    const FAULT: &str = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5) \
                         SELECT iif(n = ?1, abs(-9223372036854775807 - (n > 0)), n) FROM n";

    #[test]
    fn a_fault_that_may_pass_is_taken_for_no_damage() {
        let db = Connection::open_in_memory().unwrap();
        let read = |at: u32| readable(&db, FAULT, [at], column::<i64>);
        assert_eq!(read(0).unwrap(), (vec![1, 2, 3, 4, 5], 0));
        // Nothing that came before it is given: who takes that for all there is would leave the rest in force.
        assert!(matches!(read(3), Err(StoreError::Database(why)) if why.contains("overflow")));
        // So it is with whoever is interrupted, and may ask again.
        let interrupt = db.get_interrupt_handle();
        let read = readable(&db, FAULT, [0], |row| {
            interrupt.interrupt();
            column::<i64>(row)
        });
        assert!(matches!(read, Err(StoreError::Database(_))), "{read:?}");
    }

    #[test]
    fn a_row_that_cannot_be_read_is_counted_and_keeps_no_other_from_being_read() {
        let db = Connection::open_in_memory().unwrap();
        let sql = "SELECT 1 UNION ALL SELECT 'one' UNION ALL SELECT 2";
        assert_eq!(readable(&db, sql, [], column::<i64>).unwrap(), (vec![1, 2], 1));
    }

    #[test]
    fn where_the_file_is_damaged_what_came_before_is_read_and_the_rest_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "PRAGMA page_size = 4096; CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB); \
             WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 200) \
             INSERT INTO t SELECT n, zeroblob(1000) FROM n",
        )
        .unwrap();
        drop(db);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0x5a; 4096], 20 * 4096).unwrap();
        let db = Connection::open(&path).unwrap();
        let (read, unreadable) = readable(&db, "SELECT n, length(x) FROM t ORDER BY n", [], column::<i64>).unwrap();
        assert!((1..200).contains(&read.len()) && unreadable == 1, "{} and {unreadable}", read.len());
        assert_eq!(read, (1..=read.len() as i64).collect::<Vec<_>>());
    }
}
