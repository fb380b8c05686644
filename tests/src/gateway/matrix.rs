//! The matrix in `docs/gateways.md`: one row for each gateway, which its test compares with what it saw.
//!
//! `FLEETCA_RECORD_GATEWAYS=1 cargo test --test gateways` writes what was seen instead.

use std::{env, fs, sync::Mutex};

use crate::binaries;

const PAGE: &str = "docs/gateways.md";

/// Rows end here.
const END: &str = "<!-- end of the matrix -->\n";

/// Tests run side by side, and write into one page.
static RECORDING: Mutex<()> = Mutex::new(());

/// Panics unless the gateway's row is there and says this; or writes it.
pub fn hold(gateway: &str, cells: &[String]) {
    let _guard = RECORDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = binaries::workspace().join(PAGE);
    let page = fs::read_to_string(&path).expect("there is a page");
    let seen = format!("| {gateway} | {} |\n", cells.join(" | "));
    let (before, matrix) = page.split_once("<!-- the matrix").expect("the page has a matrix");
    let (matrix, after) = matrix.split_once(END).expect("the matrix has an end");
    let start = format!("| {gateway} |");
    let written = matrix.split_inclusive('\n').find(|line| line.starts_with(&start));
    if env::var("FLEETCA_RECORD_GATEWAYS").as_deref() != Ok("1") {
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
    fs::write(&beside, format!("{before}<!-- the matrix{matrix}{END}{after}")).expect("the page is written");
    fs::rename(&beside, &path).expect("the page is put there");
}
