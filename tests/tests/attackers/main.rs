//! Attempts to break in, one file an attacker of `docs/threat-model.md`: what each of them has, and what it is worth.
//! What a single flow holds is tested with that flow; here is what an attacker would try across them.

mod database_reader;
mod device_key;
mod flood;
mod gateway_key;
mod network_path;
mod no_key;
mod stolen_token;
mod viewer_key;

use fleetca_tests::{server::Server, wait::SOON};

/// A server with a fleet.
fn server() -> Server {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    server
}

/// What every refusal may change: their counts. The seals follow by themselves.
const ASIDE: &str = "'security_events', 'sqlite_sequence', 'audit_seals'";

/// Everything in the store that an attacker could have changed, as text.
fn contents(server: &Server) -> Vec<String> {
    let database = rusqlite::Connection::open(server.dir().join("ca.db")).expect("the test may read it");
    database.busy_timeout(SOON).expect("a timeout can be set");
    let sql = format!("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ({ASIDE})");
    let mut tables = database.prepare(&sql).expect("SQL");
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).expect("tables").map(Result::unwrap).collect();
    assert!(tables.len() > 10, "{tables:?}");
    let mut contents = Vec::new();
    for table in tables {
        let mut rows = database.prepare(&format!("SELECT * FROM \"{table}\"")).expect("SQL");
        let columns = rows.column_count();
        let mut rows = rows.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            let values = (0..columns).map(|column| format!("{:?}", row.get_ref(column).expect("a value")));
            contents.push(format!("{table}: {}", values.collect::<Vec<_>>().join(" ")));
        }
    }
    contents
}
