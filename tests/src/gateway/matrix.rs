//! The matrix in `docs/gateways.md`: one row for each gateway, which its test compares with what it saw.
//!
//! `FLEETCA_RECORD_GATEWAYS=1 cargo test -p fleetca-tests --test gateways --test gateway_files` writes what was seen instead.

use std::{env, fs, sync::Mutex};

use crate::binaries;

const PAGE: &str = "docs/gateways.md";

/// Where rows begin and end.
#[derive(Clone, Copy, Debug)]
pub enum Table {
    /// What a new list does.
    NewLists,
    /// What a bad file does.
    BadFiles,
}

impl Table {
    fn marks(self) -> (&'static str, &'static str) {
        match self {
            Table::NewLists => ("<!-- the matrix", "<!-- end of the matrix -->\n"),
            Table::BadFiles => ("<!-- bad files", "<!-- end of bad files -->\n"),
        }
    }
}

/// Tests run side by side, and write into one page.
static RECORDING: Mutex<()> = Mutex::new(());

/// What the page says of a gateway; `None` where that is to be recorded.
pub fn said(table: Table, gateway: &str) -> Option<Vec<String>> {
    if is_recording() {
        return None;
    }
    let (begin, end) = table.marks();
    let page = fs::read_to_string(binaries::workspace().join(PAGE)).expect("there is a page");
    let (_, rows) = page.split_once(begin).expect("the page has a matrix");
    let (rows, _) = rows.split_once(end).expect("the matrix has an end");
    let start = format!("| {gateway} |");
    let row = rows.lines().find_map(|line| line.strip_prefix(&start));
    let row = row.unwrap_or_else(|| panic!("{PAGE} says nothing of {gateway}: record it (FLEETCA_RECORD_GATEWAYS=1)"));
    Some(row.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
}

fn is_recording() -> bool {
    env::var("FLEETCA_RECORD_GATEWAYS").as_deref() == Ok("1")
}

/// Panics unless the gateway's row is there and says this; or writes it.
pub fn hold(table: Table, gateway: &str, cells: &[String]) {
    let (begin, end) = table.marks();
    let _guard = RECORDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = binaries::workspace().join(PAGE);
    let page = fs::read_to_string(&path).expect("there is a page");
    let seen = format!("| {gateway} | {} |\n", cells.join(" | "));
    let (before, matrix) = page.split_once(begin).expect("the page has a matrix");
    let (matrix, after) = matrix.split_once(end).expect("the matrix has an end");
    let start = format!("| {gateway} |");
    let written = matrix.split_inclusive('\n').find(|line| line.starts_with(&start));
    if !is_recording() {
        assert_eq!(
            written,
            Some(&*seen),
            "{PAGE} says something else of {gateway}: record it (FLEETCA_RECORD_GATEWAYS=1)"
        );
        return;
    }
    let matrix = match written {
        Some(written) => matrix.replace(written, &seen),
        None => matrix.to_owned() + &seen,
    };
    // Other tests read their recipes in it meanwhile.
    let beside = path.with_extension("new");
    fs::write(&beside, format!("{before}{begin}{matrix}{end}{after}")).expect("the page is written");
    fs::rename(&beside, &path).expect("the page is put there");
}
