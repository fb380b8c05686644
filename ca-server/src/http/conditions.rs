//! Conditional, partial and negotiated requests (RFC 9110, sections 12 to 14), decided from headers alone. **Pure.**
//!
//! A resource has two forms, as it is and gzipped, each with a strong entity tag of its own. Ranges are of the first.

use std::{
    ops::Range,
    time::{Duration, UNIX_EPOCH},
};

use http::{
    HeaderMap, HeaderName,
    header::{ACCEPT_ENCODING, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE},
};

use crate::identity::Timestamp;

/// In which form the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// As they are.
    Identity,
    /// gzipped.
    Gzip,
}

/// What is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200.
    Whole(Coding),
    /// 206, or 416 where the range lies outside.
    Part(ByteRange),
    /// 304: the caller has this form already.
    NotModified(Coding),
    /// 412.
    PreconditionFailed,
}

/// What tells one version of a resource from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validators {
    /// The opaque tag, of visible ASCII characters without quotes; the gzipped form's is made from it.
    pub(super) tag: String,
    /// When it changed last, to the second.
    pub(super) last_modified: Timestamp,
    /// No earlier version has this date. Where two may share one, dates prove nothing: they are ignored.
    pub(super) dated_apart: bool,
}

impl Validators {
    /// The entity tag, quotes included.
    pub(super) fn entity_tag(&self, coding: Coding) -> String {
        match coding {
            Coding::Identity => format!("\"{}\"", self.tag),
            Coding::Gzip => format!("\"{}-gzip\"", self.tag),
        }
    }

    /// The date as Last-Modified says it.
    pub(super) fn http_date(&self) -> String {
        http_date(self.last_modified)
    }

    /// Decides, in the order of RFC 9110, section 13.2.2. `get`: GET, and not HEAD, which knows no ranges.
    pub(super) fn decide(&self, request: &HeaderMap, get: bool) -> Answer {
        if !self.precondition_holds(request) {
            return Answer::PreconditionFailed;
        }
        let coding = if request.contains_key(RANGE) { Coding::Identity } else { wanted_coding(request) };
        if let Some(tags) = EntityTags::of(request, &IF_NONE_MATCH) {
            if let Some(coding) = self.named_by(&tags, coding) {
                return Answer::NotModified(coding);
            }
        } else if self.is_unmodified_since(request, &IF_MODIFIED_SINCE) == Some(true) {
            return Answer::NotModified(coding);
        }
        match ByteRange::of(request).filter(|_| get && self.range_applies(request)) {
            Some(range) => Answer::Part(range),
            None => Answer::Whole(coding),
        }
    }

    fn precondition_holds(&self, request: &HeaderMap) -> bool {
        match EntityTags::of(request, &IF_MATCH) {
            Some(EntityTags::Any) => true,
            Some(EntityTags::These(tags)) => tags.iter().any(|tag| !tag.weak && self.form_named(&tag.text).is_some()),
            None => self.is_unmodified_since(request, &IF_UNMODIFIED_SINCE) != Some(false),
        }
    }

    /// The form that one of these tags names, compared weakly. Whoever has either form has what there is to have.
    fn named_by(&self, tags: &EntityTags, wanted: Coding) -> Option<Coding> {
        match tags {
            EntityTags::Any => Some(wanted),
            EntityTags::These(tags) => tags.iter().find_map(|tag| self.form_named(&tag.text)),
        }
    }

    fn form_named(&self, text: &str) -> Option<Coding> {
        match text.strip_prefix(self.tag.as_str())? {
            "" => Some(Coding::Identity),
            "-gzip" => Some(Coding::Gzip),
            _ => None,
        }
    }

    /// `None` where there is no date, one that can't be read, or one that proves nothing.
    fn is_unmodified_since(&self, request: &HeaderMap, name: &HeaderName) -> Option<bool> {
        let date = httpdate::parse_http_date(request.get(name)?.to_str().ok()?).ok()?;
        self.dated_apart.then(|| UNIX_EPOCH + self.since_epoch() <= date)
    }

    /// Whether If-Range, where it is there, names just these bytes.
    fn range_applies(&self, request: &HeaderMap) -> bool {
        let Some(condition) = request.get(IF_RANGE) else { return true };
        condition.to_str().is_ok_and(|condition| {
            condition == self.entity_tag(Coding::Identity) || self.dated_apart && condition == self.http_date()
        })
    }

    fn since_epoch(&self) -> Duration {
        since_epoch(self.last_modified)
    }
}

/// A date as headers say it.
pub(super) fn http_date(at: Timestamp) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + since_epoch(at))
}

fn since_epoch(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.secs()).unwrap_or(0))
}

/// The one range that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteRange {
    /// From the first to the second octet, that one included, or to the end.
    From(u64, Option<u64>),
    /// So many octets at the end.
    Last(u64),
}

impl ByteRange {
    /// The range of a request. `None` where there is none, several, or none that can be read: all get the whole.
    fn of(request: &HeaderMap) -> Option<Self> {
        let (unit, range) = request.get(RANGE)?.to_str().ok()?.split_once('=')?;
        let (first, last) = range.trim().split_once('-')?;
        match (unit.eq_ignore_ascii_case("bytes"), first, last) {
            (true, "", last) => Some(ByteRange::Last(position(last)?)),
            (true, first, "") => Some(ByteRange::From(position(first)?, None)),
            (true, first, last) => {
                let (first, last) = (position(first)?, position(last)?);
                (first <= last).then_some(ByteRange::From(first, Some(last)))
            }
            _ => None,
        }
    }

    /// Which of `length` octets these are; `None`: none of them.
    pub(super) fn within(self, length: usize) -> Option<Range<usize>> {
        let clamp = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(length);
        let range = match self {
            ByteRange::From(first, last) => clamp(first)..last.map_or(length, |last| clamp(last.saturating_add(1))),
            ByteRange::Last(count) => length - clamp(count)..length,
        };
        (!range.is_empty()).then_some(range)
    }
}

/// Digits only. Too many of them are beyond every end.
fn position(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// gzip, where it is accepted and nothing else is wanted more.
fn wanted_coding(request: &HeaderMap) -> Coding {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    let values = request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for element in values.flat_map(|value| value.split(',')) {
        let (name, parameters) = element.split_once(';').unwrap_or((element, "q=1"));
        let weight = Some(weight(parameters));
        match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => gzip = weight,
            "identity" => identity = weight,
            "*" => any = weight,
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    if gzip > 0 && gzip >= identity.unwrap_or(0) { Coding::Gzip } else { Coding::Identity }
}

/// A qvalue in thousandths. One that can't be read asks for nothing.
fn weight(parameters: &str) -> u16 {
    let value = parameters.trim().strip_prefix("q=").or(parameters.trim().strip_prefix("Q="));
    let weight = value.and_then(|value| value.trim().parse::<f32>().ok()).unwrap_or(0.0);
    (weight.clamp(0.0, 1.0) * 1000.0) as u16
}

/// What If-Match or If-None-Match names.
enum EntityTags {
    Any,
    These(Vec<EntityTag>),
}

struct EntityTag {
    weak: bool,
    text: String,
}

impl EntityTags {
    /// The tags of a header. `None` where it is not there; what can't be read of it names nothing.
    fn of(request: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let values: Vec<&str> = request.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect();
        match values.as_slice() {
            [] => None,
            ["*"] => Some(EntityTags::Any),
            values => Some(EntityTags::These(values.iter().flat_map(|value| entity_tags(value)).collect())),
        }
    }
}

/// A list of entity tags, as far as it can be read.
fn entity_tags(mut list: &str) -> Vec<EntityTag> {
    let mut tags = Vec::new();
    loop {
        list = list.trim_start_matches([' ', '\t', ',']);
        let (weak, quoted) = list.strip_prefix("W/").map_or((false, list), |rest| (true, rest));
        let Some((text, rest)) = quoted.strip_prefix('"').and_then(|open| open.split_once('"')) else { return tags };
        tags.push(EntityTag { weak, text: text.to_owned() });
        list = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Mon, 21 Sep 2026 14:13:20 GMT";

    fn validators(dated_apart: bool) -> Validators {
        Validators { tag: "ab12".into(), last_modified: Timestamp::from_millis(1_790_000_000_999), dated_apart }
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn decide(pairs: &[(HeaderName, &str)]) -> Answer {
        validators(true).decide(&headers(pairs), true)
    }

    #[test]
    fn gzip_goes_to_those_who_want_it() {
        use Coding::*;
        for (accepted, coding) in [
            ("gzip", Gzip),
            ("deflate, GZIP;q=0.5, br", Gzip),
            ("x-gzip", Gzip),
            ("*", Gzip),
            ("gzip; q=0.001", Gzip),
            ("gzip;q=0.5, identity;q=0.5", Gzip),
            ("gzip;q=0.5, identity", Identity),
            ("gzip;q=0", Identity),
            ("gzip;q=0, *", Identity),
            ("*;q=0", Identity),
            ("gzip;q=nonsense", Identity),
            ("br, deflate", Identity),
            ("", Identity),
        ] {
            assert_eq!(decide(&[(ACCEPT_ENCODING, accepted)]), Answer::Whole(coding), "{accepted}");
        }
        let mut two_lines = headers(&[(ACCEPT_ENCODING, "br")]);
        two_lines.append(ACCEPT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(validators(true).decide(&two_lines, true), Answer::Whole(Gzip));
    }

    #[test]
    fn whoever_names_a_form_that_is_current_gets_nothing_again() {
        use Coding::*;
        for (tags, answer) in [
            ("\"ab12\"", Answer::NotModified(Identity)),
            ("W/\"ab12\"", Answer::NotModified(Identity)),
            ("\"ab12-gzip\"", Answer::NotModified(Gzip)),
            ("\"x,y\" , ,W/\"z\",\"ab12\"", Answer::NotModified(Identity)),
            ("*", Answer::NotModified(Identity)),
            ("\"ab1\"", Answer::Whole(Identity)),
            ("\"ab12-other\"", Answer::Whole(Identity)),
            ("ab12", Answer::Whole(Identity)),
            ("\"ab12", Answer::Whole(Identity)),
            ("", Answer::Whole(Identity)),
        ] {
            assert_eq!(decide(&[(IF_NONE_MATCH, tags)]), answer, "{tags}");
        }
        assert_eq!(decide(&[(IF_NONE_MATCH, "*"), (ACCEPT_ENCODING, "gzip")]), Answer::NotModified(Gzip));
        assert_eq!(decide(&[(IF_NONE_MATCH, "\"ab12\""), (ACCEPT_ENCODING, "gzip")]), Answer::NotModified(Identity));
    }

    #[test]
    fn dates_count_where_no_tag_is_named() {
        let whole = Answer::Whole(Coding::Identity);
        let not_modified = Answer::NotModified(Coding::Identity);
        for (date, answer) in [
            (DATE, not_modified),
            ("Mon, 21 Sep 2026 14:13:21 GMT", not_modified),
            ("Monday, 21-Sep-26 14:13:20 GMT", not_modified),
            ("Mon, 21 Sep 2026 14:13:19 GMT", whole),
            ("yesterday", whole),
        ] {
            assert_eq!(decide(&[(IF_MODIFIED_SINCE, date)]), answer, "{date}");
        }
        assert_eq!(decide(&[(IF_MODIFIED_SINCE, DATE), (IF_NONE_MATCH, "\"old\"")]), whole);
    }

    #[test]
    fn a_date_that_two_versions_share_proves_nothing() {
        let shared = validators(false);
        for name in [IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
            assert_eq!(shared.decide(&headers(&[(name, DATE)]), true), Answer::Whole(Coding::Identity));
        }
        let resumed = headers(&[(RANGE, "bytes=1-"), (IF_RANGE, DATE)]);
        assert_eq!(shared.decide(&resumed, true), Answer::Whole(Coding::Identity));
    }

    #[test]
    fn a_precondition_that_fails_comes_first() {
        let whole = Answer::Whole(Coding::Identity);
        for (pairs, answer) in [
            ((IF_MATCH, "\"ab12\""), whole),
            ((IF_MATCH, "*"), whole),
            ((IF_MATCH, "W/\"ab12\""), Answer::PreconditionFailed),
            ((IF_MATCH, "\"old\""), Answer::PreconditionFailed),
            ((IF_UNMODIFIED_SINCE, DATE), whole),
            ((IF_UNMODIFIED_SINCE, "Mon, 21 Sep 2026 14:13:19 GMT"), Answer::PreconditionFailed),
        ] {
            assert_eq!(decide(std::slice::from_ref(&pairs)), answer, "{pairs:?}");
        }
        assert_eq!(decide(&[(IF_MATCH, "\"old\""), (IF_NONE_MATCH, "*")]), Answer::PreconditionFailed);
    }

    #[test]
    fn one_range_is_a_part_and_anything_else_the_whole() {
        let whole = Answer::Whole(Coding::Identity);
        for (range, answer) in [
            ("bytes=0-9", Answer::Part(ByteRange::From(0, Some(9)))),
            ("Bytes=5-", Answer::Part(ByteRange::From(5, None))),
            ("bytes=-5", Answer::Part(ByteRange::Last(5))),
            ("bytes=99999999999999999999-", Answer::Part(ByteRange::From(u64::MAX, None))),
            ("bytes=9-5", whole),
            ("bytes=0-1,3-4", whole),
            ("bytes=+1-2", whole),
            ("bytes=-", whole),
            ("bytes", whole),
            ("lines=0-1", whole),
        ] {
            assert_eq!(decide(&[(RANGE, range), (ACCEPT_ENCODING, "gzip")]), answer, "{range}");
            assert_eq!(validators(true).decide(&headers(&[(RANGE, range)]), false), whole, "HEAD knows no ranges");
        }
    }

    #[test]
    fn if_range_holds_for_the_same_bytes_only() {
        let part = Answer::Part(ByteRange::From(1, None));
        for (condition, answer) in [
            ("\"ab12\"", part),
            (DATE, part),
            ("W/\"ab12\"", Answer::Whole(Coding::Identity)),
            ("\"ab12-gzip\"", Answer::Whole(Coding::Identity)),
            ("Mon, 21 Sep 2026 14:13:21 GMT", Answer::Whole(Coding::Identity)),
        ] {
            assert_eq!(decide(&[(RANGE, "bytes=1-"), (IF_RANGE, condition)]), answer, "{condition}");
        }
    }

    #[test]
    fn ranges_stay_within_what_is_there() {
        use ByteRange::*;
        for (range, within) in [
            (From(0, Some(3)), Some(0..4)),
            (From(9, None), Some(9..10)),
            (From(4, Some(u64::MAX)), Some(4..10)),
            (From(10, None), None),
            (From(u64::MAX, None), None),
            (Last(3), Some(7..10)),
            (Last(50), Some(0..10)),
            (Last(0), None),
        ] {
            assert_eq!(range.within(10), within, "{range:?}");
        }
        assert_eq!(Last(1).within(0), None);
    }
}
