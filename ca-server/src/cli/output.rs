//! What commands print: aligned tables for people, JSON with stable field names for programs.
//!
//! Whatever is shown implements [`Serialize`], and [`Row`] to stand in a list or [`Details`] to stand alone. Nothing of
//! what a server sends reaches a terminal with control characters in it.

use std::{
    ffi::OsString,
    io::{self, Write},
};

use serde::{Serialize, Serializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{CommandError, duration};
use crate::identity::Timestamp;

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

impl Format {
    /// What a command line asks for that can't be understood as a whole.
    pub fn asked_for(line: impl Iterator<Item = OsString>) -> Self {
        let words: Vec<OsString> = line.collect();
        let is_json =
            |words: &[OsString]| words[0] == "--output" && words.get(1).is_some_and(|format| format == "json");
        match (0..words.len()).any(|at| is_json(&words[at..]) || words[at] == "--output=json") {
            true => Format::Json,
            false => Format::Table,
        }
    }
}

/// Something that can stand in a list.
pub trait Row: Serialize {
    /// The columns' names.
    const COLUMNS: &'static [&'static str];

    /// One cell a column. `now` is for times that are said relative to it.
    fn cells(&self, now: Timestamp) -> Vec<String>;
}

/// Something that can stand alone.
pub trait Details: Serialize {
    /// Names and values, in order; those that are absent left out.
    fn lines(&self, now: Timestamp) -> Vec<(&'static str, String)>;
}

/// Where a command's output goes.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
    now: Timestamp,
}

impl Output {
    /// Prints in this format; times are shown relative to `now`.
    pub fn new(format: Format, now: Timestamp) -> Self {
        Self { format, now }
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The instant that relative times are said from.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// A list: a table, or a JSON array.
    pub fn list<T: Row>(&self, items: &[T]) -> Result<(), CommandError> {
        match self.format {
            Format::Table => self.write(&table(items, self.now)),
            Format::Json => self.json(&items),
        }
    }

    /// One thing: a line for each of its fields, or a JSON object.
    pub fn details<T: Details>(&self, item: &T) -> Result<(), CommandError> {
        match self.format {
            Format::Table => self.write(&details(&item.lines(self.now))),
            Format::Json => self.json(item),
        }
    }

    /// One thing, with its own words for people, which end with a newline whether they say so or not.
    pub fn told<T: Serialize>(&self, item: &T, words: impl FnOnce(Timestamp) -> String) -> Result<(), CommandError> {
        match self.format {
            Format::Table => self.write(&format!("{}\n", words(self.now).trim_end_matches('\n'))),
            Format::Json => self.json(item),
        }
    }

    /// A text as it is, in both formats.
    pub fn write(&self, text: &str) -> Result<(), CommandError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// One thing of several that come in the course of time: JSON in a line of its own.
    pub fn line<T: Serialize>(&self, item: &T) -> Result<(), CommandError> {
        let text = serde_json::to_string(item).map_err(io::Error::other)?;
        self.write(&(text + "\n"))
    }

    fn json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), CommandError> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
        self.write(&(text + "\n"))
    }
}

/// An instant as it is shown: RFC 3339 in UTC; to people with its distance from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant(Timestamp);

impl Instant {
    /// From the wire, which may say nothing.
    pub fn from_wire(wire: Option<prost_types::Timestamp>) -> Option<Self> {
        let wire = wire?;
        let millis = wire.seconds.saturating_mul(1000).saturating_add(i64::from(wire.nanos / 1_000_000));
        Some(Self(Timestamp::from_millis(millis)))
    }

    /// From Unix milliseconds.
    pub fn from_millis(millis: i64) -> Self {
        Self(Timestamp::from_millis(millis))
    }

    /// For people: `2026-11-22T02:18:52Z (in 5h)`.
    pub fn relative_to(self, now: Timestamp) -> String {
        let (ahead, behind) = (self.0.since(now), now.since(self.0));
        let distance = match (ahead.as_secs(), behind.as_secs()) {
            (0, 0) => "now".to_owned(),
            (0, _) => format!("{} ago", duration::display(behind)),
            (_, _) => format!("in {}", duration::display(ahead)),
        };
        format!("{} ({distance})", self.0)
    }

    /// RFC 3339, whole seconds.
    pub fn second(self) -> String {
        self.0.to_string()
    }

    /// RFC 3339 with milliseconds.
    pub fn exact(self) -> String {
        let nanos = i128::from(self.0.millis()) * 1_000_000;
        let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().and_then(|at| at.format(&Rfc3339).ok());
        at.unwrap_or_else(|| self.0.to_string())
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A cell for what may be absent.
pub fn or_dash(text: Option<impl Into<String>>) -> String {
    text.map(Into::into).unwrap_or_else(|| "-".into())
}

/// A cell for an instant that may be absent.
pub fn when(instant: Option<Instant>, now: Timestamp) -> String {
    or_dash(instant.map(|instant| instant.relative_to(now)))
}

/// Whole seconds of a span on the wire, which may say nothing.
pub fn seconds(wire: Option<prost_types::Duration>) -> Option<u64> {
    wire.map(|span| u64::try_from(span.seconds).unwrap_or(0))
}

/// The wire's empty text is an absent one.
pub fn present(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// `1 device`, `2 devices`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The text without control characters.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A table: two spaces between the columns, none at a line's end, no wrapping.
pub fn table<T: Row>(items: &[T], now: Timestamp) -> String {
    let mut lines = vec![T::COLUMNS.iter().map(|name| name.to_string()).collect::<Vec<_>>()];
    lines.extend(items.iter().map(|item| item.cells(now).iter().map(|cell| printable(cell)).collect()));
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..T::COLUMNS.len()).map(|column| width(column).unwrap_or(0)).collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}

/// A name and a value a line, the values aligned.
pub fn details(lines: &[(&'static str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    lines.iter().map(|(name, value)| format!("{name:width$}  {}\n", printable(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Pump {
        id: &'static str,
        seen_at: Option<Instant>,
    }

    impl Row for Pump {
        const COLUMNS: &'static [&'static str] = &["ID", "SEEN"];

        fn cells(&self, now: Timestamp) -> Vec<String> {
            vec![self.id.into(), when(self.seen_at, now)]
        }
    }

    fn pumps() -> [Pump; 2] {
        let seen_at = Instant::from_wire(Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 5 }));
        [Pump { id: "pump-7", seen_at }, Pump { id: "a\u{1b}[2J", seen_at: None }]
    }

    #[test]
    fn tables_are_aligned_and_carry_no_control_characters() {
        let expected = "ID      SEEN\npump-7  2027-01-15T08:00:00Z (1h ago)\na\u{fffd}[2J   -\n";
        assert_eq!(table(&pumps(), Timestamp::from_secs(1_800_003_600)), expected);
    }

    #[test]
    fn instants_to_come_say_how_long_it_takes() {
        let instant = Instant::from_millis(1_800_000_000_123);
        assert_eq!(instant.relative_to(Timestamp::from_secs(1_799_999_940)), "2027-01-15T08:00:00Z (in 1m)");
        assert_eq!(instant.relative_to(Timestamp::from_secs(1_800_000_001)), "2027-01-15T08:00:00Z (now)");
        assert_eq!(instant.exact(), "2027-01-15T08:00:00.123Z");
    }

    #[test]
    fn json_has_dates_and_says_null_for_what_is_absent() {
        let expected = serde_json::json!([
            { "id": "pump-7", "seen_at": "2027-01-15T08:00:00Z" }, { "id": "a\u{1b}[2J", "seen_at": null },
        ]);
        assert_eq!(serde_json::to_value(pumps()).unwrap(), expected);
    }

    #[test]
    fn details_are_aligned() {
        assert_eq!(details(&[("name", "a".into()), ("validity", "24h".into())]), "name      a\nvalidity  24h\n");
    }
}
