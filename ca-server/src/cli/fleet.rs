//! `ca-server fleet`: fleets and their policies.

mod explain;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use explain::Explanation;
use fleetca_proto::v1::{
    self, CreateFleetRequest, ExplainDeviceRequest, GetFleetRequest, ListFleetsRequest, UpdateFleetRequest,
};
use serde::Serialize;

use super::{
    CommandError, Session, duration,
    output::{Details, Instant, Row, or_dash, present, when},
    paging,
    words::{CrlScope, KeyType, OnFork},
};
use crate::{
    identity::{CertificateHash, Timestamp},
    pki::{PemLabel, from_pem},
};

/// Fleets and their policies
#[derive(Args, Debug)]
pub struct Fleet {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Create a fleet
    Create {
        /// Its name
        name: String,
        /// Attestation methods that it accepts: token, factory, registered-key, tpm
        #[arg(long, value_name = "METHODS", value_delimiter = ',', default_value = "token")]
        attest: Vec<String>,
        #[command(flatten)]
        policy: Policy,
    },
    /// List all fleets
    List {
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
    /// Show a fleet and its policy
    Show {
        /// Its name
        name: String,
    },
    /// Say what would happen if a device came now, by each way that there is, and why
    Explain {
        /// Its fleet
        name: String,
        /// Its ID
        device_id: String,
        /// What it would prove, if nothing is registered for it: ek:... or idevid:...
        #[arg(long, value_name = "IDENTITY")]
        identity: Option<String>,
    },
    /// Change a fleet's policy: what is not named stays as it is
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
        .args(["attest", "validity", "key_types", "on_fork", "crl_scope", "grace", "least_tier", "reenroll", "factory_roots", "tpm_roots", "factory_validity", "banned_keys", "unknown_devices", "accept_any_holder", "id_template", "most_pending", "ek_kind", "max_devices", "max_enrollments_per_hour", "issuers"]))]
    Set {
        /// Its name
        name: String,
        /// Attestation methods that it accepts: token, factory, registered-key, tpm
        #[arg(long, value_name = "METHODS", value_delimiter = ',')]
        attest: Vec<String>,
        #[command(flatten)]
        policy: Policy,
    },
}

#[derive(Args, Debug)]
struct Policy {
    /// How long certificates are valid: 5m to 7d
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    validity: Option<Duration>,
    /// Kinds of keys that it accepts
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_enum)]
    key_types: Vec<KeyType>,
    /// What happens when two holders of one identity show up
    #[arg(long, value_name = "WHAT", value_enum)]
    on_fork: Option<OnFork>,
    /// Where the CRL distribution point in certificates leads
    #[arg(long, value_name = "SCOPE", value_enum)]
    crl_scope: Option<CrlScope>,
    /// How long after its certificate has expired a device may come back with it: none, or up to 365d
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_or_none)]
    grace: Option<Duration>,
    /// Roots of the makers whose IDevIDs count, in PEM: these and no others; or none
    #[arg(long, value_name = "FILE")]
    factory_roots: Option<PathBuf>,
    /// At which time a factory's chain is judged
    #[arg(long, value_name = "WHEN", value_parser = ["birth", "now"])]
    factory_validity: Option<String>,
    /// Roots of the makers whose TPMs count, in PEM: these and no others; or none
    #[arg(long, value_name = "FILE")]
    tpm_roots: Option<PathBuf>,
    /// Keys that are refused wherever they are in a chain, by the SHA-256 of their SubjectPublicKeyInfo: these and no others,
    /// so say those again that stay; or none
    #[arg(long, value_name = "SHA256", value_delimiter = ',')]
    banned_keys: Vec<String>,
    /// The least tier that an enrollment has to prove
    #[arg(long, value_name = "TIER", value_parser = ["token", "registered", "factory", "hardware"])]
    least_tier: Option<String>,
    /// From which tier on an active device may enroll again by itself
    #[arg(long, value_name = "TIER", value_parser = ["never", "registered", "factory", "hardware"])]
    reenroll: Option<String>,
    /// What becomes of devices that nobody registered, where a pinned root vouches for them
    #[arg(long, value_name = "WHAT", value_parser = ["refuse", "pending", "register"])]
    unknown_devices: Option<String>,
    /// Of devices that register themselves: whoever holds one of a pinned maker's, anywhere in the world, gets in
    #[arg(long)]
    accept_any_holder: bool,
    /// What unknown devices are named, by what they prove: board-{issuer}-{serial} (of an IDevID), tpm-{ek}; or none
    #[arg(long, value_name = "TEMPLATE")]
    id_template: Option<String>,
    /// How many unknown devices may wait for approval
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    most_pending: Option<u32>,
    /// The one kind of endorsement key by which TPMs that nobody registered count: each has one of each kind
    #[arg(long, value_name = "KIND", value_parser = ["rsa-2048", "p-256", "p-384"])]
    ek_kind: Option<String>,
    /// How many devices it may have, those that are decommissioned aside; or none for no limit
    #[arg(long, value_name = "N", value_parser = count_or_none, allow_negative_numbers = true)]
    max_devices: Option<u32>,
    /// How many devices may enroll in an hour (renewals are not counted); or none for no limit
    #[arg(long, value_name = "N", value_parser = count_or_none, allow_negative_numbers = true)]
    max_enrollments_per_hour: Option<u32>,
    /// The issuing CAs that its devices are spread over; or all
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    issuers: Vec<String>,
}

impl Policy {
    fn wire(mut self, attest: Vec<String>) -> Result<v1::FleetPolicy, CommandError> {
        let no_banned_keys = self.banned_keys == ["none"];
        if no_banned_keys {
            self.banned_keys.clear();
        }
        let ((factory_roots, no_factory_roots), (tpm_roots, no_tpm_roots)) =
            (roots(self.factory_roots.as_deref())?, roots(self.tpm_roots.as_deref())?);
        Ok(v1::FleetPolicy {
            attest,
            validity: self.validity.map(duration::wire),
            key_types: self.key_types.into_iter().map(|key_type| key_type.wire().into()).collect(),
            on_fork: self.on_fork.map_or(0, |on_fork| on_fork.wire().into()),
            crl_scope: self.crl_scope.map_or(0, |crl_scope| crl_scope.wire().into()),
            grace: self.grace.map(duration::wire),
            least_tier: self.least_tier.unwrap_or_default(),
            reenroll: self.reenroll.unwrap_or_default(),
            factory_roots,
            no_factory_roots,
            tpm_roots,
            no_tpm_roots,
            no_banned_keys,
            factory_validity: self.factory_validity.unwrap_or_default(),
            banned_keys: self.banned_keys,
            unknown_devices: self.unknown_devices.unwrap_or_default(),
            accept_any_holder: self.accept_any_holder,
            id_template: self.id_template.unwrap_or_default(),
            most_pending: self.most_pending.unwrap_or_default(),
            ek_kind: self.ek_kind.unwrap_or_default(),
            max_devices: self.max_devices,
            max_enrollments_per_hour: self.max_enrollments_per_hour,
            issuers: self.issuers,
        })
    }
}

/// A number of at least one; `none` is no limit, and 0 on the wire.
fn count_or_none(text: &str) -> Result<u32, String> {
    match text.parse() {
        _ if text == "none" => Ok(0),
        Ok(count) if count > 0 => Ok(count),
        _ => Err("must be a number above 0, or none".into()),
    }
}

/// The roots in a file, and whether there are to be none.
fn roots(file: Option<&Path>) -> Result<(Vec<Vec<u8>>, bool), CommandError> {
    match file {
        None => Ok((Vec::new(), false)),
        Some(file) if file.as_os_str() == "none" => Ok((Vec::new(), true)),
        Some(file) => Ok((certificates(file)?, false)),
    }
}

pub(super) fn certificates(file: &Path) -> Result<Vec<Vec<u8>>, CommandError> {
    let text = pem(file, "x509")?;
    let wrong = |reason: String| CommandError::Content { path: file.into(), reason };
    match from_pem(PemLabel::Certificate, &text).map_err(|error| wrong(error.to_string()))? {
        none if none.is_empty() => Err(wrong("no certificate in PEM".into())),
        found => Ok(found),
    }
}

/// The text of a file that is to be PEM. What is not text is DER most often: `what` is the command of openssl's that converts it.
pub(super) fn pem(file: &Path, what: &str) -> Result<String, CommandError> {
    let octets = std::fs::read(file).map_err(|source| CommandError::File { path: file.into(), source })?;
    String::from_utf8(octets).map_err(|_| {
        let reason =
            format!("not PEM; from DER, `openssl {what} -inform DER -in {} -out FILE.pem` makes it", file.display());
        CommandError::Content { path: file.into(), reason }
    })
}

/// Runs the command.
pub async fn run(args: Fleet, session: &Session) -> Result<(), CommandError> {
    let mut operator = session.operator().await?;
    let fleet = match args.command {
        Command::Create { name, attest, policy } => {
            operator.create_fleet(CreateFleetRequest { name, policy: Some(policy.wire(attest)?) }).await?
        }
        Command::Set { name, attest, policy } => {
            operator.update_fleet(UpdateFleetRequest { name, policy: Some(policy.wire(attest)?) }).await?
        }
        Command::Show { name } => operator.get_fleet(GetFleetRequest { name }).await?,
        Command::Explain { name, device_id, identity } => {
            let request = ExplainDeviceRequest { fleet: name, device_id, identity: identity.unwrap_or_default() };
            let explained = Explanation::from(operator.explain_device(request).await?.into_inner());
            return session.output().told(&explained, |now| explained.words(now));
        }
        Command::List { limit } => {
            let fleets = paging::all(limit, async |page_size, page_token| {
                let page = operator.list_fleets(ListFleetsRequest { page_size, page_token }).await?.into_inner();
                Ok((page.fleets, page.next_page_token))
            });
            let fleets: Vec<View> = fleets.await?.into_iter().map(View::from).collect();
            return session.output().list(&fleets);
        }
    };
    session.output().details(&View::from(fleet.into_inner()))
}

/// A fleet as it is shown.
#[derive(Debug, Serialize)]
struct View {
    name: String,
    attest: Vec<String>,
    validity_seconds: Option<i64>,
    key_types: Vec<KeyType>,
    on_fork: Option<OnFork>,
    crl_scope: Option<CrlScope>,
    grace_seconds: Option<i64>,
    least_tier: String,
    reenroll: String,
    /// SHA-256 of each root's certificate.
    factory_roots: Vec<String>,
    factory_validity: String,
    tpm_roots: Vec<String>,
    banned_keys: Vec<String>,
    unknown_devices: String,
    accept_any_holder: bool,
    id_template: Option<String>,
    most_pending: u32,
    ek_kind: Option<String>,
    max_devices: Option<u32>,
    max_enrollments_per_hour: Option<u32>,
    created_at: Option<Instant>,
    device_count: u64,
    devices_in_use: u64,
    /// Those that sign for it now, or are about to.
    issuers: Vec<String>,
    /// Of these, those that sign now.
    signing_issuers: Vec<String>,
    /// Those that were named before, and go.
    leaving_issuers: Vec<String>,
    /// Those that were named; null: all.
    named_issuers: Option<Vec<String>>,
}

impl From<v1::Fleet> for View {
    fn from(wire: v1::Fleet) -> Self {
        let policy = wire.policy.unwrap_or_default();
        Self {
            name: wire.name,
            attest: policy.attest,
            validity_seconds: policy.validity.map(|validity| validity.seconds),
            key_types: policy.key_types.into_iter().filter_map(KeyType::from_wire).collect(),
            on_fork: OnFork::from_wire(policy.on_fork),
            crl_scope: CrlScope::from_wire(policy.crl_scope),
            grace_seconds: policy.grace.map(|grace| grace.seconds),
            least_tier: policy.least_tier,
            reenroll: policy.reenroll,
            factory_roots: policy.factory_roots.iter().map(|der| CertificateHash::of(der).to_string()).collect(),
            factory_validity: policy.factory_validity,
            tpm_roots: policy.tpm_roots.iter().map(|der| CertificateHash::of(der).to_string()).collect(),
            banned_keys: policy.banned_keys,
            unknown_devices: policy.unknown_devices,
            accept_any_holder: policy.accept_any_holder,
            id_template: present(policy.id_template).filter(|template| template != "none"),
            most_pending: policy.most_pending,
            ek_kind: present(policy.ek_kind),
            max_devices: policy.max_devices.filter(|most| *most > 0),
            max_enrollments_per_hour: policy.max_enrollments_per_hour.filter(|most| *most > 0),
            created_at: Instant::from_wire(wire.created_at),
            device_count: wire.device_count,
            devices_in_use: wire.devices_in_use,
            issuers: wire.issuers,
            signing_issuers: wire.signing_issuers,
            leaving_issuers: wire.leaving_issuers,
            named_issuers: Some(policy.issuers).filter(|named| *named != ["all"]),
        }
    }
}

impl View {
    fn validity(&self) -> String {
        span(self.validity_seconds)
    }

    /// `d939…, 77aa… (waits), df58… (leaves)`: who signs and is meant to stands alone.
    fn issuers(&self) -> String {
        let word = |id: &String| match (self.signing_issuers.contains(id), &self.named_issuers) {
            (false, _) if self.leaving_issuers.contains(id) => " (leaves)",
            (false, _) => " (waits)",
            (true, Some(named)) if !named.contains(id) => " (leaves)",
            (true, _) => "",
        };
        self.issuers.iter().map(|id| format!("{id}{}", word(id))).collect::<Vec<_>>().join(", ")
    }

    fn key_types(&self) -> String {
        self.key_types.iter().map(|key_type| key_type.as_str()).collect::<Vec<_>>().join(",")
    }
}

fn span(seconds: Option<i64>) -> String {
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    or_dash(seconds.map(|seconds| duration::display(Duration::from_secs(seconds))))
}

impl Row for View {
    const COLUMNS: &'static [&'static str] = &["NAME", "DEVICES", "ATTEST", "VALIDITY", "KEY TYPES", "ON FORK"];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.device_count.to_string(),
            self.attest.join(","),
            self.validity(),
            self.key_types(),
            or_dash(self.on_fork.map(OnFork::as_str)),
        ]
    }
}

impl Details for View {
    fn lines(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let again = match self.reenroll.as_str() {
            "never" => "never".to_owned(),
            tier => format!("from {tier} on"),
        };
        let lists =
            [("factory root", &self.factory_roots), ("TPM root", &self.tpm_roots), ("banned", &self.banned_keys)];
        let count = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.len().to_string() };
        let mut lines = vec![
            ("name", self.name.clone()),
            ("devices", format!("{}, {} in use", self.device_count, self.devices_in_use)),
            ("attest", self.attest.join(", ")),
            ("validity", self.validity()),
            ("key types", self.key_types()),
            ("on fork", or_dash(self.on_fork.map(OnFork::as_str))),
            ("CRL scope", or_dash(self.crl_scope.map(CrlScope::as_str))),
            ("grace", if self.grace_seconds == Some(0) { "none".to_owned() } else { span(self.grace_seconds) }),
            ("least tier", self.least_tier.clone()),
            ("enroll again", again),
            ("judged", self.factory_validity.clone()),
            ("unknown", self.unknown_devices.clone()),
            ("any holder", if self.accept_any_holder { "accepted" } else { "not accepted" }.to_owned()),
            ("most pending", self.most_pending.to_string()),
            ("ID template", or_dash(self.id_template.clone())),
            ("EK kind", or_dash(self.ek_kind.clone())),
            ("max devices", or_dash(self.max_devices.map(|most| most.to_string()))),
            ("max per hour", or_dash(self.max_enrollments_per_hour.map(|most| most.to_string()))),
            ("issuers", self.issuers()),
            ("created", when(self.created_at, now)),
            ("factory roots", count(&self.factory_roots)),
            ("TPM roots", count(&self.tpm_roots)),
            ("banned keys", count(&self.banned_keys)),
        ];
        lines.extend(lists.into_iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one.clone()))));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_and_who_leaves_is_told_from_who_signs() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let shown = |named: &[&str]| {
            let policy = v1::FleetPolicy { issuers: ids(named), ..Default::default() };
            let (issuers, signing_issuers) = (ids(&["77aa", "d939", "df58"]), ids(&["d939", "df58"]));
            View::from(v1::Fleet { policy: Some(policy), issuers, signing_issuers, ..Default::default() }).issuers()
        };
        assert_eq!(shown(&["d939", "77aa"]), "77aa (waits), d939, df58 (leaves)");
        assert_eq!(shown(&["all"]), "77aa (waits), d939, df58");
        let policy = Some(v1::FleetPolicy { issuers: ids(&["d939"]), ..Default::default() });
        let (issuers, signing_issuers, leaving_issuers) = (ids(&["d939", "df58"]), ids(&["d939"]), ids(&["df58"]));
        let fleet = v1::Fleet { policy, issuers, signing_issuers, leaving_issuers, ..Default::default() };
        assert_eq!(View::from(fleet).issuers(), "d939, df58 (leaves)");
    }
}
