//! A device as it is shown.

use fleetca_proto::v1;
use serde::Serialize;

use crate::{
    cli::{
        certificate,
        output::{Details, Instant, Row, details, or_dash, present, printable, table, when},
        receipt::CrlReceipt,
        words::Status,
    },
    identity::Timestamp,
};

#[derive(Debug, Serialize)]
pub(super) struct View {
    id: String,
    fleet: String,
    status: Option<Status>,
    status_reason: Option<String>,
    lapsed: bool,
    method: Option<String>,
    tier: Option<String>,
    generation: u64,
    head_serial: Option<String>,
    pending_serial: Option<String>,
    created_at: Option<Instant>,
    expires_at: Option<Instant>,
    last_seen_at: Option<Instant>,
    reenroll_allowed: bool,
    reenroll_until: Option<Instant>,
    #[serde(flatten)]
    more: Option<More>,
}

/// What is shown of one device, and not in lists.
#[derive(Debug, Serialize)]
struct More {
    certificates: Vec<certificate::View>,
    crls: Vec<CrlReceipt>,
    hardware: Vec<String>,
    retired_hardware: Vec<String>,
    keys: Vec<KeyView>,
    /// The issuing CA of its certificate is revoked.
    must_reattest: bool,
}

/// A registered key, as it is shown.
#[derive(Debug, Serialize)]
struct KeyView {
    thumbprint: String,
    active_from: Option<Instant>,
    retires_at: Option<Instant>,
}

impl From<v1::RegisteredKey> for KeyView {
    fn from(wire: v1::RegisteredKey) -> Self {
        Self {
            thumbprint: wire.thumbprint,
            active_from: Instant::from_wire(wire.active_from),
            retires_at: Instant::from_wire(wire.retires_at),
        }
    }
}

impl Row for KeyView {
    const COLUMNS: &'static [&'static str] = &["REGISTERED KEY", "ACTIVE FROM", "RETIRES"];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![self.thumbprint.clone(), when(self.active_from, now), when(self.retires_at, now)]
    }
}

impl From<v1::Device> for View {
    fn from(wire: v1::Device) -> Self {
        Self {
            id: wire.id,
            fleet: wire.fleet,
            status: Status::from_wire(wire.status),
            status_reason: present(wire.status_reason),
            lapsed: wire.lapsed,
            method: present(wire.method),
            tier: present(wire.tier),
            generation: wire.generation,
            head_serial: present(wire.head_serial),
            pending_serial: present(wire.pending_serial),
            created_at: Instant::from_wire(wire.created_at),
            expires_at: Instant::from_wire(wire.expires_at),
            last_seen_at: Instant::from_wire(wire.last_seen_at),
            reenroll_allowed: wire.reenroll_allowed,
            reenroll_until: Instant::from_wire(wire.reenroll_until),
            more: None,
        }
    }
}

impl View {
    /// One device, with its certificates and the CRLs that hold its revocation.
    pub(super) fn whole(mut wire: v1::Device) -> Self {
        let certificates = std::mem::take(&mut wire.certificates).into_iter().map(certificate::View::from).collect();
        let crls = std::mem::take(&mut wire.crls).into_iter().map(CrlReceipt::from).collect();
        let hardware = std::mem::take(&mut wire.hardware);
        let retired_hardware = std::mem::take(&mut wire.retired_hardware);
        let keys = std::mem::take(&mut wire.keys).into_iter().map(KeyView::from).collect();
        let must_reattest = wire.must_reattest;
        let more = More { certificates, crls, hardware, retired_hardware, keys, must_reattest };
        Self { more: Some(more), ..Self::from(wire) }
    }

    /// The device, then all the rest.
    pub(super) fn words(&self, now: Timestamp) -> String {
        let mut words = details(&self.lines(now));
        let Some(more) = &self.more else { return words };
        if more.must_reattest {
            words += "must attest  anew: its issuing CA is revoked\n";
        }
        more.crls.iter().for_each(|crl| words += &format!("{}\n", printable(&crl.words())));
        more.hardware.iter().for_each(|id| words += &format!("hardware     {}\n", printable(id)));
        more.retired_hardware.iter().for_each(|id| words += &format!("retired      {}\n", printable(id)));
        if !more.keys.is_empty() {
            words += &format!("\n{}", table(&more.keys, now));
        }
        if !more.certificates.is_empty() {
            words += &format!("\n{}", table(&more.certificates, now));
        }
        words
    }

    fn status(&self) -> String {
        let lapsed = if self.lapsed { " (lapsed)" } else { "" };
        let once_more = if self.reenroll_allowed { " (may enroll once more)" } else { "" };
        format!("{}{lapsed}{once_more}", or_dash(self.status.map(Status::as_str)))
    }
}

impl Row for View {
    const COLUMNS: &'static [&'static str] = &["ID", "FLEET", "STATUS", "EXPIRES", "LAST SEEN", "SERIAL"];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.fleet.clone(),
            self.status(),
            when(self.expires_at, now),
            when(self.last_seen_at, now),
            or_dash(self.head_serial.clone()),
        ]
    }
}

impl Details for View {
    fn lines(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let mut lines = vec![("id", self.id.clone()), ("fleet", self.fleet.clone()), ("status", self.status())];
        let texts = [
            ("because", &self.status_reason),
            ("attested by", &self.method),
            ("tier", &self.tier),
            ("certificate", &self.head_serial),
            ("pending", &self.pending_serial),
        ];
        lines.extend(texts.into_iter().filter_map(|(name, text)| Some((name, text.clone()?))));
        if self.head_serial.is_some() {
            lines.push(("generation", self.generation.to_string()));
        }
        let times = [
            ("come back by", self.reenroll_until),
            ("expires", self.expires_at),
            ("last seen", self.last_seen_at),
            ("created", self.created_at),
        ];
        lines.extend(times.into_iter().filter_map(|(name, time)| Some((name, time?.relative_to(now)))));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> View {
        View::whole(v1::Device {
            id: "pump-7".into(),
            fleet: "pumps".into(),
            status: v1::DeviceStatus::Held.into(),
            status_reason: "lineage fork".into(),
            head_serial: "00ff".into(),
            generation: 3,
            expires_at: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
            certificates: vec![v1::Certificate {
                serial: "00ff".into(),
                position: "head".into(),
                ..Default::default()
            }],
            ..Default::default()
        })
    }

    #[test]
    fn a_device_is_shown_with_its_certificates() {
        let expected = "\
id           pump-7
fleet        pumps
status       held
because      lineage fork
certificate  00ff
generation   3
expires      2027-01-15T08:00:00Z (in 1m)

SERIAL  POSITION  EXPIRES  REVOKED
00ff    head      -        -
";
        assert_eq!(device().words(Timestamp::from_secs(1_799_999_940)), expected);
    }

    #[test]
    fn its_json_has_every_field_whether_it_is_known_or_not() {
        let json = serde_json::to_value(device()).unwrap();
        assert_eq!(json["status"], "held");
        assert_eq!(json["expires_at"], "2027-01-15T08:00:00Z");
        assert!(json["last_seen_at"].is_null() && json["pending_serial"].is_null());
        assert_eq!(json["certificates"][0]["serial"], "00ff");
    }
}
