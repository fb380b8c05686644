//! `device revoke | hold | release` of one device, or of many: those of a file, or all of a fleet. Of many nothing is done
//! before somebody has said `--yes`: without it, the plan is told.

use std::path::PathBuf;

use clap::Args;
use fleetca_proto::v1::{
    self, ListTokensRequest, ListedDevice, ManyDevicesRequest, RevocationReason, operator_client::OperatorClient,
};
use serde::Serialize;
use tonic::transport::Channel;

use super::{register::batches, rows, wait::Wait};
use crate::{
    cli::{
        CommandError, Session,
        loaded::LoadedAt,
        output::count,
        paging,
        receipt::{CrlReceipt, InForce},
        sheet,
        words::reason_word,
    },
    identity::hex,
};

/// Whom a command is about.
#[derive(Args, Debug)]
pub(super) struct Whom {
    /// Its ID
    #[arg(conflicts_with_all = ["from", "all"])]
    id: Option<String>,
    /// Many devices, all or none: one ID a line, CSV with a head, or JSON lines; - is the standard
    /// input
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    from: Option<PathBuf>,
    /// With --all: the fleet; with --from: the fleet that devices must be of whose row names none
    #[arg(long, conflicts_with = "id")]
    fleet: Option<String>,
    /// All devices of the fleet
    #[arg(long, requires = "fleet")]
    all: bool,
    /// Do it to many devices, and not only say what would be done; with a plan, only if it is that one still
    #[arg(
        long,
        value_name = "PLAN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ANY,
        value_parser = plan,
        conflicts_with = "id"
    )]
    yes: Option<Plan>,
}

/// `--yes` alone: whatever the plan is. `--yes=` is none of it: there the plan was lost that should have been named.
const ANY: &str = "any";

/// What names a plan; empty: any.
#[derive(Clone, Debug, Default)]
struct Plan(Vec<u8>);

/// Reads a plan's digest.
fn plan(text: &str) -> Result<Plan, &'static str> {
    let octet = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let octets: Option<Vec<u8>> = text.as_bytes().chunks(2).map(octet).collect();
    match octets {
        _ if text == ANY => Ok(Plan::default()),
        Some(octets) if text.len() == 64 => Ok(Plan(octets)),
        _ => Err("a plan is named by 64 hexadecimal digits; --yes alone takes any"),
    }
}

/// What becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Revoke(i32),
    Hold,
    Release,
}

impl Whom {
    /// One way or another it says whom.
    pub(super) fn is_said(&self) -> Result<(), CommandError> {
        if self.id.is_some() || self.from.is_some() || self.all {
            return Ok(());
        }
        Err(CommandError::Usage("say which: a device's ID, or --from FILE, or --fleet NAME --all".into()))
    }

    /// The one device, or many.
    pub(super) fn one(self) -> Result<String, Many> {
        match self {
            Whom { id: Some(id), .. } => Ok(id),
            Whom { from, fleet, yes, .. } => Err(Many { from, fleet: fleet.unwrap_or_default(), yes }),
        }
    }
}

/// Many devices.
#[derive(Debug)]
pub(super) struct Many {
    from: Option<PathBuf>,
    fleet: String,
    yes: Option<Plan>,
}

impl Many {
    /// Tells the plan, or carries it out and tells the receipt.
    pub(super) async fn run(
        self,
        action: Action,
        wait: Wait,
        operator: &mut OperatorClient<Channel>,
        session: &Session,
    ) -> Result<(), CommandError> {
        let messages = self.messages(action)?;
        let devices: Vec<ListedDevice> = messages.iter().flat_map(|message| message.devices.clone()).collect();
        let messages = tokio_stream::iter(messages);
        let answer = match action {
            Action::Revoke(_) => operator.revoke_devices(messages).await,
            Action::Hold => operator.hold_devices(messages).await,
            Action::Release => operator.release_devices(messages).await,
        };
        let answer = answer.map_err(|status| self.named(status, &devices))?.into_inner();
        let (done, crls, plan) = (answer.done, answer.crls.clone(), hex(&answer.plan));
        let mut told = Told::from_wire(action, answer);
        if action != Action::Release && self.from.is_none() {
            told.pattern_tokens = Some(live_pattern_tokens(operator, &self.fleet).await?);
        }
        if done {
            return wait.after(operator, crls, told, session).await;
        }
        session.output().told(&told, |_| told.words())?;
        Err(CommandError::Usage(format!(
            "nothing is changed yet: say --yes to do it, or --yes={plan} to do it only as long as it is these devices"
        )))
    }

    /// A refusal, with its file's name; and because there is no such thing, with that thing's.
    fn named(&self, status: tonic::Status, devices: &[ListedDevice]) -> CommandError {
        let line = status.message().strip_prefix("line ");
        let line = line.and_then(|rest| rest.split(':').next()?.parse::<u32>().ok());
        let device = line.and_then(|line| devices.iter().find(|device| device.line == line));
        let name = match (device, &self.from) {
            (Some(ListedDevice { id, fleet, .. }), _) if fleet.is_empty() => id.clone(),
            (Some(ListedDevice { id, fleet, .. }), _) => format!("{id}, fleet {fleet}"),
            (None, None) => self.fleet.clone(),
            (None, Some(_)) => String::new(),
        };
        let error = match &self.from {
            Some(file) => sheet::name_file(file)(status),
            None => status.into(),
        };
        match error {
            CommandError::Refused(mut refusal) if refusal.code == tonic::Code::NotFound && !name.is_empty() => {
                refusal.message += &format!(": {name}");
                CommandError::Refused(refusal)
            }
            other => other,
        }
    }

    fn messages(&self, action: Action) -> Result<Vec<ManyDevicesRequest>, CommandError> {
        let head = ManyDevicesRequest {
            reason: if let Action::Revoke(reason) = action { reason } else { RevocationReason::Unspecified.into() },
            execute: self.yes.is_some(),
            plan: self.yes.clone().unwrap_or_default().0,
            ..Default::default()
        };
        let Some(file) = &self.from else {
            return Ok(vec![ManyDevicesRequest { fleet: self.fleet.clone(), ..head }]);
        };
        let devices = rows::ids(file, &self.fleet)?;
        let mut messages: Vec<_> =
            batches(devices).into_iter().map(|devices| ManyDevicesRequest { devices, ..Default::default() }).collect();
        if let Some(first) = messages.first_mut() {
            *first = ManyDevicesRequest { devices: std::mem::take(&mut first.devices), ..head };
        }
        Ok(messages)
    }
}

/// Tokens by which a fleet still takes devices that it does not know.
async fn live_pattern_tokens(operator: &mut OperatorClient<Channel>, fleet: &str) -> Result<u64, CommandError> {
    let tokens = paging::all(None, async |page_size, page_token| {
        let request = ListTokensRequest { page_size, page_token, fleet: fleet.to_owned() };
        let page = operator.list_tokens(request).await?.into_inner();
        Ok((page.tokens, page.next_page_token))
    });
    let live = |token: &&v1::Token| !token.id_pattern.is_empty() && token.state == "live";
    Ok(tokens.await?.iter().filter(live).count() as u64)
}

/// What would come of it, or did.
#[derive(Debug, Serialize)]
struct Told {
    action: &'static str,
    reason: Option<&'static str>,
    plan: String,
    done: bool,
    devices: u64,
    certificates: u64,
    unchanged: u64,
    undecided: u64,
    unreadable: u64,
    tokens: u64,
    /// Where a whole fleet is revoked or held: tokens that let new devices into it, now.
    pattern_tokens: Option<u64>,
    /// Those of which most devices change.
    fleets: Vec<Share>,
    crls: Vec<CrlReceipt>,
    /// Where somebody waited for them.
    gateways: Option<LoadedAt>,
    #[serde(skip)]
    kind: Action,
}

#[derive(Debug, Serialize)]
struct Share {
    fleet: String,
    devices: u64,
    certificates: u64,
    unchanged: u64,
    undecided: u64,
    unreadable: u64,
}

impl From<v1::ShareOfFleet> for Share {
    fn from(wire: v1::ShareOfFleet) -> Self {
        let v1::ShareOfFleet { fleet, devices, certificates, unchanged, undecided, unreadable } = wire;
        Self { fleet, devices, certificates, unchanged, undecided, unreadable }
    }
}

impl Told {
    fn from_wire(kind: Action, wire: v1::ManyDevices) -> Self {
        let total = Share::from(wire.total.unwrap_or_default());
        Self {
            action: match kind {
                Action::Revoke(_) => "revoke",
                Action::Hold => "hold",
                Action::Release => "release",
            },
            reason: if let Action::Revoke(reason) = kind { Some(reason_word(reason)) } else { None },
            plan: hex(&wire.plan),
            done: wire.done,
            devices: total.devices,
            certificates: total.certificates,
            unchanged: total.unchanged,
            undecided: total.undecided,
            unreadable: total.unreadable,
            tokens: wire.tokens,
            pattern_tokens: None,
            fleets: wire.fleets.into_iter().map(Share::from).collect(),
            crls: wire.crls.into_iter().map(CrlReceipt::from).collect(),
            gateways: None,
            kind,
        }
    }

    /// What is said of those that do not change.
    fn rest(&self, share: &Share) -> String {
        let stay = match self.kind {
            Action::Revoke(_) => "revoked or decommissioned already",
            Action::Hold => "cut off already",
            Action::Release => "not on hold",
        };
        let mut rest = String::new();
        if share.unchanged > 0 {
            rest += &format!("; {} {stay}", share.unchanged);
        }
        if share.undecided > 0 {
            let why = "left on hold, since somebody has to say which certificate is genuine (device release ID --keep)";
            rest += &format!("; {} {why}", share.undecided);
        }
        if share.unreadable > 0 {
            rest += &format!("; {} passed over", count(share.unreadable, "unreadable row"));
        }
        rest
    }
}

impl InForce for Told {
    fn loaded(self, gateways: Option<LoadedAt>) -> Self {
        Self { gateways, ..self }
    }

    fn words(&self) -> String {
        let (became, would) = match self.kind {
            Action::Revoke(_) => ("revoked", "revoke"),
            Action::Hold => ("held", "hold"),
            Action::Release => ("released", "release"),
        };
        let reason = self.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let total = Share {
            fleet: String::new(),
            devices: self.devices,
            certificates: self.certificates,
            unchanged: self.unchanged,
            undecided: self.undecided,
            unreadable: self.unreadable,
        };
        let devices = count(total.devices, "device");
        let certificates = count(total.certificates, "certificate");
        let mut words = if self.done {
            let (are, tokens) = (if total.devices == 1 { "is" } else { "are" }, count(self.tokens, "token"));
            format!("{devices} {are} {became}{reason} ({certificates} and {tokens} changed){}\n", self.rest(&total))
        } else {
            format!("would {would}{reason} {devices} with {certificates}{}\n", self.rest(&total))
        };
        for share in &self.fleets {
            let (devices, certificates) = (count(share.devices, "device"), count(share.certificates, "certificate"));
            words += &format!("  fleet {}: {devices} with {certificates}{}\n", share.fleet, self.rest(share));
        }
        if let Some(tokens) = self.pattern_tokens.filter(|tokens| *tokens > 0) {
            let (let_in, tokens) = (if tokens == 1 { "lets" } else { "let" }, count(tokens, "pattern token"));
            words += &format!(
                "{tokens} {let_in} new devices into the fleet: end them by token revoke (token list --fleet)\n"
            );
        }
        self.crls.iter().for_each(|crl| words += &format!("{}\n", crl.words()));
        words
    }

    fn unreadable(&self) -> u64 {
        self.unreadable
    }
}
