//! At how many gateways something is loaded, by their word.

use fleetca_proto::v1;
use serde::Serialize;

use super::{
    duration,
    output::{count, present, printable, seconds},
};

/// How many are named to people.
const NAMED: usize = 10;

/// At how many gateways something is loaded.
#[derive(Debug, Serialize)]
pub struct LoadedAt {
    gateways: u32,
    loaded: u32,
    behind: Vec<Behind>,
    /// Of those that are there only: how many more there are.
    not_heard: Option<u32>,
}

/// A gateway where it is not.
#[derive(Debug, Serialize)]
struct Behind {
    gateway: String,
    issuer: Option<String>,
    number: Option<u64>,
    behind_seconds: u64,
}

impl From<v1::LoadedAt> for LoadedAt {
    fn from(wire: v1::LoadedAt) -> Self {
        let behind = |one: v1::GatewayBehind| Behind {
            gateway: one.gateway,
            issuer: present(one.issuer),
            number: (one.number > 0).then_some(one.number),
            behind_seconds: seconds(one.behind).unwrap_or(0),
        };
        Self {
            gateways: wire.gateways,
            loaded: wire.loaded,
            behind: wire.behind.into_iter().map(behind).collect(),
            not_heard: wire.not_heard,
        }
    }
}

impl LoadedAt {
    /// At how many it is not.
    pub fn missing(&self) -> u32 {
        self.gateways.saturating_sub(self.loaded)
    }

    /// Of how many.
    pub fn gateways(&self) -> u32 {
        self.gateways
    }

    /// For people: `loaded at 41 of 42 gateways, by their word; behind: eu-7, CRL 1840, 3m`. Of those that are there:
    /// `loaded at 1 of 1 gateway that is connected, by their word; 12 more were not heard from`.
    pub fn words(&self) -> String {
        let gateways = count(self.gateways.into(), "gateway");
        let connected = match self.not_heard {
            None => "",
            Some(_) if self.gateways == 1 => " that is connected",
            Some(_) => " that are connected",
        };
        let mut words = format!("loaded at {} of {gateways}{connected}, by their word", self.loaded);
        match self.not_heard {
            None | Some(0) => {}
            Some(1) => words += "; 1 more was not heard from",
            Some(more) => words += &format!("; {more} more were not heard from"),
        }
        let named: Vec<String> = self.behind.iter().take(NAMED).map(Behind::words).collect();
        if !named.is_empty() {
            words += &format!("; behind: {}", named.join("; "));
        }
        match self.missing() as usize - named.len().min(self.missing() as usize) {
            0 => words,
            more => words + &format!("; and {more} more"),
        }
    }
}

impl Behind {
    fn words(&self) -> String {
        let crl = self.number.map_or("no CRL".to_owned(), |number| format!("CRL {number}"));
        let behind = duration::display(std::time::Duration::from_secs(self.behind_seconds));
        printable(&format!("{}, {crl}, {behind}", self.gateway))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(gateway: impl ToString, number: u64, seconds: i64) -> v1::GatewayBehind {
        let behind = Some(prost_types::Duration { seconds, nanos: 0 });
        v1::GatewayBehind { gateway: gateway.to_string(), number, behind, ..Default::default() }
    }

    #[test]
    fn those_behind_are_named_ten_at_most() {
        let said = |gateways, loaded, behind| {
            LoadedAt::from(v1::LoadedAt { gateways, loaded, behind, not_heard: None }).words()
        };
        assert_eq!(said(1, 1, Vec::new()), "loaded at 1 of 1 gateway, by their word");
        let expected = "loaded at 40 of 42 gateways, by their word; behind: eu-7, CRL 1840, 3m; eu-8, no CRL, 2h";
        assert_eq!(said(42, 40, vec![behind("eu-7", 1840, 180), behind("eu-8", 0, 7200)]), expected);
        let many = said(1000, 0, (0..100).map(|n| behind(n, 1, 1)).collect());
        assert_eq!((many.matches("CRL 1,").count(), many.ends_with("; and 990 more")), (10, true), "{many}");
    }

    #[test]
    fn those_that_nobody_waited_for_are_counted_beside_those_that_are_there() {
        let said = |gateways, not_heard| {
            let wire = v1::LoadedAt { gateways, loaded: gateways, not_heard: Some(not_heard), ..Default::default() };
            LoadedAt::from(wire).words()
        };
        assert_eq!(
            said(1, 12),
            "loaded at 1 of 1 gateway that is connected, by their word; 12 more were not heard from"
        );
        assert_eq!(
            said(2, 1),
            "loaded at 2 of 2 gateways that are connected, by their word; 1 more was not heard from"
        );
        assert_eq!(said(2, 0), "loaded at 2 of 2 gateways that are connected, by their word");
    }
}
