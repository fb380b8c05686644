//! Names and numbers as texts: what is taken is written back as it came, and both sides take the same IDs.

#![no_main]

use ca_server::identity::{DeviceId, FleetName, HostName, IssuerId, SerialNumber, Subject, TokenId, TrustDomain};
use enroll_client::{
    crl_sync::{Form, HttpUrl},
    identity::{Id, SpiffeId, TrustDomain as ClientDomain},
    trust::Trust,
};
use libfuzzer_sys::fuzz_target;

fn written_back<T: std::str::FromStr + std::fmt::Display>(text: &str) -> bool {
    let read = text.parse::<T>();
    read.is_ok_and(|read| {
        assert_eq!(read.to_string(), text);
        true
    })
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let id = written_back::<DeviceId>(text);
    assert_eq!(id, written_back::<FleetName>(text));
    assert_eq!(id, text.parse::<Id>().is_ok_and(|id| id.as_str() == text));
    if written_back::<TrustDomain>(text) && text.len() <= 255 {
        assert!(written_back::<ClientDomain>(text));
    }
    let _ = written_back::<TokenId>(text);
    // Addresses have many forms.
    if let Ok(host) = text.parse::<HostName>() {
        assert_eq!(host.to_string().parse(), Ok(host));
    }
    // Colons and upper case come from other tools: many forms are read, one is written.
    if let Ok(serial) = text.parse::<SerialNumber>() {
        assert_eq!(serial.to_string().parse(), Ok(serial));
    }
    assert_eq!(written_back::<IssuerId>(text), written_back::<enroll_client::crl_sync::IssuerId>(text));
    let _ = (written_back::<Form>(text), Trust::from_fingerprint(text));
    if let Ok(url) = text.parse::<HttpUrl>() {
        assert_eq!(url.to_string().parse::<HttpUrl>().ok(), Some(url));
    }
    if let Ok(url) = text.parse::<enroll_client::connect::ServerUrl>() {
        assert_eq!(url.to_string().parse().ok(), Some(url));
    }
    let domain = "fleet.example".parse().expect("a trust domain");
    let subject = Subject::from_spiffe_uri(text, &domain);
    if let Ok(subject) = &subject {
        assert_eq!(subject.spiffe_uri(&domain), text);
        assert_eq!(subject.to_string().parse().as_ref(), Ok(subject));
    }
    if written_back::<SpiffeId>(text) && text.starts_with("spiffe://fleet.example/") {
        assert!(subject.is_ok());
    }
});
