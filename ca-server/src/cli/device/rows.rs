//! What a file of many devices says of each.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};
use fleetca_proto::v1::{ListedDevice, RegisterDeviceRequest, RegisteredKey};
use serde::Deserialize;

use super::register;
use crate::{
    cli::{
        CommandError,
        sheet::{self, RowError},
    },
    pki::{PublicKey, from_jwk},
};

/// What a column or field may be called.
const COLUMNS: [&str; 7] = ["id", "fleet", "ek_sha256", "idevid", "spki", "active_from", "retires_at"];

/// One device, whichever form it was written in.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Row {
    id: String,
    fleet: String,
    ek_sha256: String,
    idevid: String,
    /// SubjectPublicKeyInfo (DER) in base64: what stands between the lines of a PEM file.
    spki: String,
    active_from: String,
    retires_at: String,
    /// In JSON: a JWK or a JWK set.
    jwk: Option<serde_json::Value>,
}

/// Reads a file; `fleet` is that of rows that name none.
pub(super) fn read(file: &Path, fleet: &str) -> Result<Vec<RegisterDeviceRequest>, CommandError> {
    let rows: Vec<(u32, Row)> = sheet::read(file, &COLUMNS)?;
    let requests = rows.into_iter().map(|(line, row)| row.request(line, fleet)).collect::<Result<_, _>>();
    requests.map_err(RowError::of(file))
}

/// Reads a file that says which devices; `fleet` is the one that rows which name none must be of, or empty. The file that
/// they were registered with will do; so will one ID a line.
pub(super) fn ids(file: &Path, fleet: &str) -> Result<Vec<ListedDevice>, CommandError> {
    sheet::text(&sheet::octets(file)?).and_then(|text| listed(text, fleet)).map_err(RowError::of(file))
}

fn listed(text: &str, fleet: &str) -> Result<Vec<ListedDevice>, RowError> {
    let rows: Vec<(u32, Row)> = match sheet::one_a_line(text, "id") {
        Some(ids) => ids.into_iter().map(|(line, id)| (line, Row { id, ..Row::default() })).collect(),
        None => sheet::parse(text, &COLUMNS)?,
    };
    let listed = |(line, row): (u32, Row)| {
        let fleet = if row.fleet.is_empty() { fleet.to_owned() } else { row.fleet };
        ListedDevice { id: row.id, fleet, line }
    };
    Ok(rows.into_iter().map(listed).collect())
}

impl Row {
    fn request(self, line: u32, fleet: &str) -> Result<RegisterDeviceRequest, RowError> {
        let wrong = RowError::at(line);
        let mut keys = Vec::new();
        if !self.spki.is_empty() {
            let spki = BASE64_STANDARD.decode(&self.spki).map_err(|_| wrong("spki: is no base64"))?;
            PublicKey::from_spki_der(&spki).map_err(|error| wrong(&format!("spki: {error}")))?;
            keys.push(RegisteredKey { spki, ..Default::default() });
        }
        if let Some(jwk) = &self.jwk {
            let found = from_jwk(&jwk.to_string()).map_err(|error| wrong(&format!("jwk: {error}")))?;
            keys.extend(found.iter().map(register::wire));
        }
        let instant = |name: &str, text: &str| match text {
            "" => Ok(None),
            text => register::instant(text).map(Some).map_err(|error| wrong(&format!("{name}: {error}"))),
        };
        let (active_from, retires_at) =
            (instant("active_from", &self.active_from)?, instant("retires_at", &self.retires_at)?);
        for key in &mut keys {
            (key.active_from, key.retires_at) = (active_from, retires_at);
        }
        let fleet = if self.fleet.is_empty() { fleet.to_owned() } else { self.fleet };
        if fleet.is_empty() {
            return Err(wrong("fleet: names none; --fleet says which where a row does not"));
        }
        Ok(RegisterDeviceRequest { id: self.id, fleet, ek_sha256: self.ek_sha256, idevid: self.idevid, keys, line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWK: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn read(text: &str, fleet: &str) -> Result<Vec<RegisterDeviceRequest>, RowError> {
        let rows: Vec<(u32, Row)> = sheet::parse(text, &COLUMNS)?;
        rows.into_iter().map(|(line, row)| row.request(line, fleet)).collect()
    }

    #[test]
    fn csv_and_json_lines_say_the_same() {
        let csv = "id,fleet,idevid\r\npump-1,,ab:1\r\n\r\n\"pump-2\",valves,\"ab:\"\"1,2\"\"\"\n";
        let json = "{\"id\":\"pump-1\",\"idevid\":\"ab:1\"}\n\n\n{\"id\":\"pump-2\",\"fleet\":\"valves\",\"idevid\":\"ab:\\\"1,2\\\"\"}";
        let (csv, json) = (read(csv, "pumps").unwrap(), read(json, "pumps").unwrap());
        let said = |rows: Vec<RegisterDeviceRequest>| -> Vec<(String, String, String)> {
            rows.into_iter().map(|row| (row.id, row.fleet, row.idevid)).collect()
        };
        assert_eq!(said(csv), said(json));
    }

    #[test]
    fn keys_come_as_jwk_with_their_times() {
        let json = format!(r#"{{"id":"a","jwk":{JWK},"active_from":"2027-01-01T00:00:00Z"}}"#);
        let rows = read(&json, "pumps").unwrap();
        assert_eq!((rows[0].keys[0].spki.len(), rows[0].keys[0].active_from.is_some()), (44, true));
    }

    #[test]
    fn ids_come_one_a_line_or_in_the_file_that_they_were_registered_with() {
        let listed = |text: &str| -> Vec<(String, String, u32)> {
            listed(text, "pumps").unwrap().into_iter().map(|row| (row.id, row.fleet, row.line)).collect()
        };
        let expected = [("pump-1", "pumps", 2), ("pump-2", "valves", 4)];
        let expected = expected.map(|(id, fleet, line)| (id.to_owned(), fleet.to_owned(), line)).to_vec();
        assert_eq!(listed("id,fleet,ek_sha256\npump-1,,00\n\npump-2,valves,\n"), expected);
        assert_eq!(listed("\n{\"id\":\"pump-1\"}\n\n{\"id\":\"pump-2\",\"fleet\":\"valves\"}\n"), expected);
        let plain = [("pump-1", 2), ("pump 2", 4)].map(|(id, line)| (id.to_owned(), "pumps".to_owned(), line));
        assert_eq!(listed("\r\n pump-1\r\n\r\npump 2"), plain);
        assert_eq!(listed("ID\npump-1\n\npump 2"), plain, "a head");
        for (text, error) in [
            ("", "line 1: the file is empty"),
            ("pump-1,pumps\n", "line 1: no column is called \"pump-1\": columns are id, fleet,"),
            ("pump-1\npump-2;pumps\n", "line 1: no column is called \"pump-1\": columns are id, fleet,"),
            ("[\"pump-1\", \"pump-2\"]\n", "line 1: this is a JSON array: write one object a line"),
            ("[\n\"pump-1\"\n]\n", "line 1: this is a JSON array: write one object a line"),
            ("id,site\npump-1,7\n", "line 1: no column is called \"site\": columns are id, fleet,"),
        ] {
            let told = super::listed(text, "").unwrap_err().to_string();
            assert!(told.starts_with(error), "{text}: {told}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_device_is_named_with_its_line_and_column() {
        for (text, error) in [
            ("id,spki\na,!\n", "line 2: spki: is no base64"),
            ("id,spki\na,AAAA\n", "line 2: spki: the public key is malformed"),
            ("id,active_from\na,soon\n", "line 2: active_from: an instant is written 2027-01-31T12:00:00Z"),
        ] {
            assert_eq!(read(text, "pumps").unwrap_err().to_string(), error, "{text}");
        }
        assert!(read("id\na\n", "").unwrap_err().to_string().starts_with("line 2: fleet: names none"));
    }
}
