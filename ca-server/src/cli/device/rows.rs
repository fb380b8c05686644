//! Files of many devices: CSV with a head (RFC 4180), or JSON lines.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use fleetca_proto::v1::{RegisterDeviceRequest, RegisteredKey};
use serde::Deserialize;

use super::register;
use crate::pki::{PublicKey, from_jwk};

/// What a column or field may be called.
const COLUMNS: [&str; 7] = ["id", "fleet", "ek_sha256", "idevid", "spki", "active_from", "retires_at"];

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub(super) struct RowError {
    line: u32,
    why: String,
}

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
pub(super) fn read(text: &str, fleet: &str) -> Result<Vec<RegisterDeviceRequest>, RowError> {
    let rows = if text.trim_start().starts_with('{') { json(text)? } else { csv(text)? };
    rows.into_iter().map(|(line, row)| row.request(line, fleet)).collect()
}

fn at(line: u32) -> impl Fn(&str) -> RowError {
    move |why| RowError { line, why: why.into() }
}

fn json(text: &str) -> Result<Vec<(u32, Row)>, RowError> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(line, text)| Ok((line, serde_json::from_str(text).map_err(|error| at(line)(&error.to_string()))?)))
        .collect()
}

fn csv(text: &str) -> Result<Vec<(u32, Row)>, RowError> {
    let mut records = records(text)?.into_iter();
    let (_, head) = records.next().ok_or_else(|| at(1)("the file is empty"))?;
    let mut columns = Vec::new();
    for name in &head {
        let column = COLUMNS.into_iter().find(|column| column == name);
        columns.push(column.ok_or_else(|| at(1)(&format!("columns are {}", COLUMNS.join(", "))))?);
    }
    if !columns.contains(&"id") {
        return Err(at(1)("there must be a column id"));
    }
    let row = |(line, fields): (u32, Vec<String>)| {
        if fields.len() != columns.len() {
            return Err(at(line)(&format!("has {} fields, and the head {}", fields.len(), columns.len())));
        }
        let mut fields: BTreeMap<&str, String> = columns.iter().copied().zip(fields).collect();
        let mut take = |column| fields.remove(column).unwrap_or_default();
        let row = Row {
            id: take("id"),
            fleet: take("fleet"),
            ek_sha256: take("ek_sha256"),
            idevid: take("idevid"),
            spki: take("spki"),
            active_from: take("active_from"),
            retires_at: take("retires_at"),
            jwk: None,
        };
        Ok((line, row))
    };
    records.map(row).collect()
}

/// The records of a CSV file, each with the line that it begins at; empty lines are none.
fn records(text: &str) -> Result<Vec<(u32, Vec<String>)>, RowError> {
    let mut records = Vec::new();
    let (mut line, mut begun) = (1, 1);
    let (mut fields, mut field) = (Vec::new(), String::new());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if field.is_empty() => loop {
                match characters.next() {
                    None => return Err(at(begun)("a quotation mark is never closed")),
                    Some('"') if characters.peek() == Some(&'"') => field.extend(characters.next()),
                    Some('"') => break,
                    Some(inside) => {
                        line += u32::from(inside == '\n');
                        field.push(inside);
                    }
                }
            },
            ',' => fields.push(std::mem::take(&mut field)),
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' => {
                if !fields.is_empty() || !field.is_empty() {
                    fields.push(std::mem::take(&mut field));
                    records.push((begun, std::mem::take(&mut fields)));
                }
                line += 1;
                begun = line;
            }
            other => field.push(other),
        }
    }
    if !fields.is_empty() || !field.is_empty() {
        fields.push(field);
        records.push((begun, fields));
    }
    Ok(records)
}

impl Row {
    fn request(self, line: u32, fleet: &str) -> Result<RegisterDeviceRequest, RowError> {
        let wrong = at(line);
        let mut keys = Vec::new();
        if !self.spki.is_empty() {
            let spki = BASE64_STANDARD.decode(&self.spki).map_err(|_| wrong("spki is no base64"))?;
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
            return Err(wrong("names no fleet; --fleet says which where a row does not"));
        }
        Ok(RegisterDeviceRequest { id: self.id, fleet, ek_sha256: self.ek_sha256, idevid: self.idevid, keys, line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWK: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    #[test]
    fn csv_and_json_lines_say_the_same() {
        let csv = "id,fleet,idevid\r\npump-1,,ab:1\r\n\r\n\"pump-2\",valves,\"ab:\"\"1,2\"\"\"\n";
        let json = "{\"id\":\"pump-1\",\"idevid\":\"ab:1\"}\n\n\n{\"id\":\"pump-2\",\"fleet\":\"valves\",\"idevid\":\"ab:\\\"1,2\\\"\"}";
        let (csv, json) = (read(csv, "pumps").unwrap(), read(json, "pumps").unwrap());
        assert_eq!(csv.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(csv.iter().map(|row| &row.idevid[..]).collect::<Vec<_>>(), ["ab:1", "ab:\"1,2\""]);
        assert_eq!(csv.iter().map(|row| &row.fleet[..]).collect::<Vec<_>>(), ["pumps", "valves"]);
        let (csv, json): (Vec<_>, Vec<_>) = (
            csv.into_iter().map(|row| (row.id, row.fleet, row.idevid)).collect(),
            json.into_iter().map(|row| (row.id, row.fleet, row.idevid)).collect(),
        );
        assert_eq!(csv, json);
    }

    #[test]
    fn keys_come_as_jwk_with_their_times() {
        let json = format!(r#"{{"id":"a","jwk":{JWK},"active_from":"2027-01-01T00:00:00Z"}}"#);
        let rows = read(&json, "pumps").unwrap();
        assert_eq!((rows[0].keys[0].spki.len(), rows[0].keys[0].active_from.is_some()), (44, true));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, error) in [
            ("", "line 1: the file is empty"),
            ("name\na", "line 1: columns are id, fleet, ek_sha256, idevid, spki, active_from, retires_at"),
            ("fleet\na", "line 1: there must be a column id"),
            ("id,fleet\na,b\n\nc", "line 4: has 1 fields, and the head 2"),
            ("id\na\n\"b\nc", "line 3: a quotation mark is never closed"),
            ("id,spki\na,!\n", "line 2: spki is no base64"),
            ("id,spki\na,AAAA\n", "line 2: spki: the public key is malformed"),
            ("id,active_from\na,soon\n", "line 2: active_from: an instant is written 2027-01-31T12:00:00Z"),
            ("{\"id\":\"a\"}\n{", "line 2: EOF while parsing an object at line 1 column 1"),
        ] {
            assert_eq!(read(text, "pumps").unwrap_err().to_string(), error, "{text}");
        }
        assert!(read("id\na\n", "").unwrap_err().to_string().starts_with("line 2: names no fleet"));
    }
}
