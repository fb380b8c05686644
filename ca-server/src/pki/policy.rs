//! Certificate policies: what a device has proven, as an OID that a gateway can ask for (RFC 5280, section 4.2.1.4).

use std::{fmt, str::FromStr};

use const_oid::ObjectIdentifier;

use crate::inventory::fleet::Tier;

/// The longest arc, as text.
const LONGEST: usize = 64;

/// Not an arc under which policies can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an object identifier of your own, such as 1.3.6.1.4.1.NUMBER.1: at least four numbers, each below 2^32 and \
     without leading zeros, the first 0, 1 or 2"
)]
pub struct NotAnArc;

/// The operator's arc, under which each tier has a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyArc(ObjectIdentifier);

impl PolicyArc {
    /// The policy of what was proven: the arc, then the tier's number.
    pub fn policy(&self, tier: Tier) -> ObjectIdentifier {
        // What does not fit is refused when the arc is read.
        self.0.push_arc(number(tier)).unwrap_or(self.0)
    }
}

/// The tiers' numbers are contract: they never change.
const fn number(tier: Tier) -> u32 {
    match tier {
        Tier::Token => 1,
        Tier::Registered => 2,
        Tier::Factory => 3,
        Tier::Hardware => 4,
    }
}

impl FromStr for PolicyArc {
    type Err = NotAnArc;

    fn from_str(text: &str) -> Result<Self, NotAnArc> {
        let canonical =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
        // Below 2.5.29 are the names of extensions and of anyPolicy.
        if text.len() > LONGEST || !text.split('.').all(canonical) || text.starts_with("2.5.29.") {
            return Err(NotAnArc);
        }
        let oid = ObjectIdentifier::new(text).map_err(|_| NotAnArc)?;
        let room = oid.push_arc(number(Tier::Hardware)).is_ok();
        if oid.arcs().count() >= 4 && room { Ok(Self(oid)) } else { Err(NotAnArc) }
    }
}

impl fmt::Display for PolicyArc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tier_has_a_policy_of_its_own_under_the_arc() {
        let arc: PolicyArc = "1.3.6.1.4.1.99999.1".parse().unwrap();
        let policies = Tier::ALL.map(|tier| arc.policy(tier).to_string());
        assert_eq!(policies, [1, 2, 3, 4].map(|n| format!("1.3.6.1.4.1.99999.1.{n}")));
        assert_eq!(arc.to_string(), "1.3.6.1.4.1.99999.1");
    }

    #[test]
    fn what_is_no_arc_is_refused() {
        for text in [
            "",
            "1",
            "1.3.6",
            "1..3.6.1",
            ".1.3.6.1",
            "1.3.6.1.",
            "3.1.2.3",
            "1.40.2.3",
            "1.3.6.01",
            "1.3.6.-1",
            "1.3.6.1.4294967296",
            "1.3.6.x",
            "1.3.6. 1",
            "2.5.29.32",
            "oid.1.2.3",
            "1.3.6.1.4.1.4294967295.4294967295.4294967295.4294967295.4294967295",
        ] {
            assert_eq!(text.parse::<PolicyArc>(), Err(NotAnArc), "{text}");
        }
    }
}
