//! Spans of time as people write them: `30s`, `5m`, `24h`, `7d`.

use std::time::Duration;

const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// Reads a number and its unit: seconds, minutes, hours or days. Zero is none.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "a duration is a number and a unit: 30s, 5m, 24h, 7d".to_owned();
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    // A hundred years: what the wire and the dates in certificates can say.
    let total = number.checked_mul(*seconds).filter(|total| *total <= 36_525 * 86_400);
    match total {
        Some(0) => Err("a duration of nothing".into()),
        Some(total) => Ok(Duration::from_secs(total)),
        None => Err("a duration of more than a hundred years".into()),
    }
}

/// The same, and `0` or `none` for none.
pub fn parse_or_none(text: &str) -> Result<Duration, String> {
    if matches!(text, "0" | "none") { Ok(Duration::ZERO) } else { parse(text) }
}

/// Writes the two greatest units, rounded down: `7d`, `23h 59m`, `0s`.
pub fn display(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut parts = Vec::new();
    for (at, (unit, seconds)) in UNITS.iter().enumerate() {
        let count = rest / seconds;
        rest %= seconds;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        }
        if !parts.is_empty() && (parts.len() == 2 || at + 1 == UNITS.len() || rest / UNITS[at + 1].1 == 0) {
            break;
        }
    }
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

/// For the wire.
pub fn wire(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_read() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("24h", 86_400), ("7d", 604_800), ("1s", 1)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "5", "h", "1w", "-1h", "1.5h", "1h30m", " 1h", "0s", "99999999999999999999d", "40000d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_two_greatest_units_are_written() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (3_600, "1h"),
            (86_399, "23h 59m"),
            (90_061, "1d 1h"),
            (604_800, "7d"),
            (3_601, "1h"),
        ] {
            assert_eq!(display(Duration::from_secs(seconds)), text);
        }
    }
}
