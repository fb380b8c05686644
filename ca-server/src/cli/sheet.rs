//! Files of many rows: CSV with a head (RFC 4180, also with `;` or tabs between fields), or JSON lines. Each row comes with
//! its line; what is wrong is told with file, line and column.

use std::{
    io::{self, Read},
    path::Path,
};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::CommandError;

/// What may stand between the fields of a CSV file.
const SEPARATORS: [char; 3] = [',', ';', '\t'];

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub(super) struct RowError {
    line: u32,
    why: String,
}

impl RowError {
    /// An error of the row at this line.
    pub(super) fn at(line: u32) -> impl Fn(&str) -> RowError {
        move |why| RowError { line, why: why.into() }
    }

    /// The same, of this file.
    pub(super) fn of(file: &Path) -> impl Fn(RowError) -> CommandError {
        move |error| CommandError::Content { path: file.into(), reason: error.to_string() }
    }
}

/// Reads a file whose CSV head names some of these columns. A `T` is read from the fields by their names: a field that is
/// empty, or of a column that is not there, is left out.
pub(super) fn read<T: DeserializeOwned>(file: &Path, columns: &[&str]) -> Result<Vec<(u32, T)>, CommandError> {
    text(&octets(file)?).and_then(|text| parse(text, columns)).map_err(RowError::of(file))
}

/// The longest file that is read, in octets: some hundred times what all rows of one call need.
const LONGEST: u64 = 1 << 30;

/// What is in a file; `-` is the standard input.
pub(super) fn octets(file: &Path) -> Result<Vec<u8>, CommandError> {
    let read = match file.as_os_str() == "-" {
        true => at_most(LONGEST, std::io::stdin().lock()),
        false => std::fs::File::open(file).and_then(|file| at_most(LONGEST, file)),
    };
    read.map_err(CommandError::file(file))
}

fn at_most(longest: u64, from: impl Read) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    match from.take(longest + 1).read_to_end(&mut octets)? as u64 > longest {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {longest} octets"))),
        false => Ok(octets),
    }
}

/// Tells of a refusal of one of a file's rows which file it is.
pub(super) fn name_file(file: &Path) -> impl Fn(tonic::Status) -> CommandError {
    move |status| match CommandError::from(status) {
        CommandError::Refused(mut refusal) if refusal.message.starts_with("line ") => {
            refusal.message = format!("{}: {}", file.display(), refusal.message);
            CommandError::Refused(refusal)
        }
        other => other,
    }
}

/// The text of a file, without the mark that some programs put before it.
pub(super) fn text(bytes: &[u8]) -> Result<&str, RowError> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(RowError::at(1)("this is UTF-16: save the file as UTF-8"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (good, rest) = bytes.split_at(error.valid_up_to());
        let line = good.iter().filter(|octet| **octet == b'\n').count() + 1;
        let octet = rest.first().copied().unwrap_or_default();
        let why = format!("has the octet 0x{octet:02X}, which is no UTF-8: save the file as UTF-8");
        RowError::at(u32::try_from(line).unwrap_or(u32::MAX))(&why)
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// What stands on each line where there is one thing a line, with its line, and no head of this name before it; otherwise
/// `None`. Spaces around it are none of it.
pub(super) fn one_a_line(text: &str, head: &str) -> Option<Vec<(u32, String)>> {
    let lines: Vec<(u32, &str)> = (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty()).collect();
    let (_, first) = lines.first()?;
    let is_sheet = |line: &str| line.starts_with(['{', '[', '"']) || line.contains(SEPARATORS);
    if first.eq_ignore_ascii_case(head) || lines.iter().any(|(_, line)| is_sheet(line)) {
        return None;
    }
    Some(lines.into_iter().map(|(line, text)| (line, text.to_owned())).collect())
}

/// The rows of a text.
pub(super) fn parse<T: DeserializeOwned>(text: &str, columns: &[&str]) -> Result<Vec<(u32, T)>, RowError> {
    match text.trim_start().chars().next() {
        Some('{') => json(text),
        Some('[') => {
            Err(RowError::at(1)("this is a JSON array: write one object a line, without brackets around them"))
        }
        _ => csv(text, columns),
    }
}

fn json<T: DeserializeOwned>(text: &str) -> Result<Vec<(u32, T)>, RowError> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let row = |(line, text): (u32, &str)| {
        let wrong = |error: serde_json::Error| {
            // It counts lines, too: each row is the first.
            let (why, column) = (error.to_string(), error.column());
            let why = why.split(" at line 1 column ").next().unwrap_or_default();
            RowError::at(line)(&format!("character {column}: {why}"))
        };
        Ok((line, serde_json::from_str(text).map_err(wrong)?))
    };
    lines.map(row).collect()
}

fn csv<T: DeserializeOwned>(text: &str, columns: &[&str]) -> Result<Vec<(u32, T)>, RowError> {
    let head = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let separator = head.chars().find(|character| SEPARATORS.contains(character)).unwrap_or(',');
    let mut records = records(text, separator)?.into_iter();
    let (first, head) = records.next().ok_or_else(|| RowError::at(1)("the file is empty"))?;
    let head = names(first, &head, columns)?;
    let row = |(line, fields): (u32, Vec<String>)| {
        if fields.len() != head.len() {
            return Err(RowError::at(line)(&format!("has {} fields, and the head {}", fields.len(), head.len())));
        }
        let fields = head.iter().zip(fields).filter(|(_, field)| !field.is_empty());
        let fields: Map<String, Value> = fields.map(|(name, field)| ((*name).to_owned(), field.into())).collect();
        let row = serde_json::from_value(fields.into()).map_err(|error| RowError::at(line)(&error.to_string()))?;
        Ok((line, row))
    };
    if records.len() == 0 {
        return Err(RowError::at(first)("there is nothing below the head"));
    }
    records.map(row).collect()
}

/// The columns that a head names, in whatever case.
fn names<'a>(line: u32, head: &[String], columns: &[&'a str]) -> Result<Vec<&'a str>, RowError> {
    let wrong = RowError::at(line);
    let mut names = Vec::new();
    for name in head {
        let column = columns.iter().find(|column| column.eq_ignore_ascii_case(name)).copied();
        let column = column
            .ok_or_else(|| wrong(&format!("no column is called {name:?}: columns are {}", columns.join(", "))))?;
        if names.contains(&column) {
            return Err(wrong(&format!("two columns are called {column}")));
        }
        names.push(column);
    }
    if !names.contains(&"id") {
        return Err(wrong("there must be a column id"));
    }
    Ok(names)
}

/// The records of a CSV file, each with the line that it begins at; those without any content are none. Spaces around a
/// field are none of it; between quotation marks they are.
fn records(text: &str, separator: char) -> Result<Vec<(u32, Vec<String>)>, RowError> {
    let mut records = Vec::new();
    let (mut line, mut begun) = (1, 1);
    let mut record = Record::default();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if record.field.trim().is_empty() && !record.quoted => {
                (record.quoted, record.field) = (true, String::new());
                loop {
                    match characters.next() {
                        None => return Err(RowError::at(begun)("a quotation mark is never closed")),
                        Some('"') if characters.peek() == Some(&'"') => record.field.extend(characters.next()),
                        Some('"') => break,
                        Some(inside) => {
                            line += u32::from(inside == '\n');
                            record.field.push(inside);
                        }
                    }
                }
            }
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' => {
                records.extend(record.end().map(|fields| (begun, fields)));
                line += 1;
                begun = line;
            }
            other if other == separator => record.end_field(),
            space if record.quoted && space.is_whitespace() => {}
            _ if record.quoted => return Err(RowError::at(line)("there is text after a closing quotation mark")),
            other => record.field.push(other),
        }
    }
    records.extend(record.end().map(|fields| (begun, fields)));
    Ok(records)
}

/// A record that is being read.
#[derive(Default)]
struct Record {
    fields: Vec<String>,
    field: String,
    quoted: bool,
}

impl Record {
    fn end_field(&mut self) {
        let field = std::mem::take(&mut self.field);
        self.fields.push(if std::mem::take(&mut self.quoted) { field } else { field.trim().to_owned() });
    }

    /// What has been read, and on to the next; nothing of a line without content.
    fn end(&mut self) -> Option<Vec<String>> {
        self.end_field();
        let fields = std::mem::take(&mut self.fields);
        fields.iter().any(|field| !field.is_empty()).then_some(fields)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Eq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Pump {
        id: String,
        idevid: String,
    }

    const COLUMNS: [&str; 2] = ["id", "idevid"];

    fn read(bytes: &[u8]) -> Result<Vec<(u32, Pump)>, RowError> {
        parse(text(bytes)?, &COLUMNS)
    }

    #[test]
    fn a_file_without_end_is_not_read_to_its_end() {
        assert_eq!(at_most(3, &b"abc"[..]).unwrap(), b"abc");
        let error = at_most(3, io::repeat(0)).unwrap_err();
        assert_eq!(error.to_string(), "more than 3 octets");
    }

    #[test]
    fn what_spreadsheets_make_is_read() {
        let expected = |rows: &[(u32, &str, &str)]| {
            let pump = |&(line, id, idevid): &(u32, &str, &str)| (line, Pump { id: id.into(), idevid: idevid.into() });
            Ok(rows.iter().map(pump).collect::<Vec<_>>())
        };
        let two = expected(&[(2, "pump-1", "ab:1"), (4, "pump-2", "ab: 2 ")]);
        for text in [
            "id,idevid\npump-1,ab:1\n\npump-2,\"ab: 2 \"\n",
            "\u{feff}ID;IdevID\r\npump-1;ab:1\r\n;\r\npump-2;\"ab: 2 \"",
            "id\tidevid\npump-1\tab:1\n\npump-2\t\"ab: 2 \"\n",
            " id , idevid \n pump-1 , ab:1 \n  \n pump-2 , \"ab: 2 \" \n",
        ] {
            assert_eq!(read(text.as_bytes()), two, "{text}");
        }
        let json = "\u{feff}{\"id\":\"pump-1\"}\n\n{\"id\":\"pump-2\",\"idevid\":\"ab:\\\"1,2\\\"\"}";
        assert_eq!(read(json.as_bytes()), expected(&[(1, "pump-1", ""), (3, "pump-2", "ab:\"1,2\"")]));
        assert_eq!(read(b"id;idevid\na;\"ab:\"\"1;2\"\"\"\n"), expected(&[(2, "a", "ab:\"1;2\"")]));
        assert_eq!(read(b"id,idevid\na,\"1\n2\"\nb,\n"), expected(&[(2, "a", "1\n2"), (4, "b", "")]));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_column() {
        for (bytes, error) in [
            (&b""[..], "line 1: the file is empty"),
            (b"\nid,name\na", "line 2: no column is called \"name\": columns are id, idevid"),
            (b"\nid,idevid\n\n", "line 2: there is nothing below the head"),
            (b"idevid\na", "line 1: there must be a column id"),
            (b"id,ID\na", "line 1: two columns are called id"),
            (b"id,idevid\na,b\n\nc", "line 4: has 1 fields, and the head 2"),
            (b"id\na\n\"b\nc", "line 3: a quotation mark is never closed"),
            (b"id\na\n\"b\" c\n", "line 3: there is text after a closing quotation mark"),
            (b"id\na\nb\xe4\n", "line 3: has the octet 0xE4, which is no UTF-8: save the file as UTF-8"),
            (b"\xff\xfei\0d\0", "line 1: this is UTF-16: save the file as UTF-8"),
            (b"{\"id\":\"a\"}\n{", "line 2: character 1: EOF while parsing an object"),
            (b"{\"id\":7}", "line 1: character 7: invalid type: integer `7`, expected a string"),
            (
                b"[\n{\"id\":\"a\"}\n]",
                "line 1: this is a JSON array: write one object a line, without brackets around them",
            ),
            (b"{\"cn\":7}", "line 1: character 5: unknown field `cn`, expected `id` or `idevid`"),
        ] {
            assert_eq!(read(bytes).unwrap_err().to_string(), error, "{bytes:?}");
        }
    }
}
