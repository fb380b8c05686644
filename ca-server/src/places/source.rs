//! Where somebody comes from, as far as it can be told apart.

use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address, or the 48 bits of an IPv6 address that are one customer's at the most: within them, networks and
/// addresses are free.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(IpAddr);

impl Source {
    /// The source of this address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into())
            }
            address => Self(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[test]
    fn networks_of_one_customer_are_one_source() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:ffff:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:2:2::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"), "as a socket for both families reports it");
    }
}
