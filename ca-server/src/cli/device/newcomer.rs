//! `ca-server device approve` and `reject`: devices that nobody registered, and that wait for an operator.

use clap::Args;
use fleetca_proto::v1::{
    self, ApproveDeviceRequest, ListNewcomersRequest, RejectDeviceRequest, operator_client::OperatorClient,
};
use serde::Serialize;
use tonic::transport::Channel;

use crate::{
    cli::{
        CommandError, Session,
        output::{Details, Instant, Row, details, when},
        paging,
    },
    identity::Timestamp,
};

/// Which device: by all that you have seen of it. Without that it shows what waits.
#[derive(Args, Debug)]
pub(super) struct Seen {
    /// The ID that it waits for
    id: String,
    /// The fleet that is to have it
    #[arg(long, requires = "identity")]
    fleet: Option<String>,
    /// What it has proven: ek:... or idevid:..., as `device show` and the device itself say it
    #[arg(long, requires = "key")]
    identity: Option<String>,
    /// SHA-256 of its key, as they say it
    #[arg(long, value_name = "SHA256", requires = "fleet")]
    key: Option<String>,
}

impl Seen {
    pub(super) async fn approve(
        self,
        mut operator: OperatorClient<Channel>,
        session: &Session,
    ) -> Result<(), CommandError> {
        let v1::Newcomer { id, fleet, identity, key_sha256, .. } = self.named(&mut operator, session).await?;
        let request = ApproveDeviceRequest { id, key_sha256, identity, fleet };
        let newcomer = View::from(operator.approve_device(request).await?.into_inner());
        session.output().details(&newcomer)
    }

    pub(super) async fn reject(
        self,
        mut operator: OperatorClient<Channel>,
        session: &Session,
    ) -> Result<(), CommandError> {
        let v1::Newcomer { id, fleet, identity, key_sha256, .. } = self.named(&mut operator, session).await?;
        let request = RejectDeviceRequest { id, key_sha256, identity, fleet };
        let newcomer = View::from(operator.reject_device(request).await?.into_inner());
        session.output().details(&newcomer)
    }

    /// Without all of it, it shows what waits, and goes no further: what is decided upon is what was seen.
    async fn named(
        self,
        operator: &mut OperatorClient<Channel>,
        session: &Session,
    ) -> Result<v1::Newcomer, CommandError> {
        let (Some(fleet), Some(identity), Some(key_sha256)) = (self.fleet, self.identity, self.key) else {
            let waiting = waiting(operator, String::new(), self.id, None).await?;
            show(&waiting, session)?;
            let text = match waiting.is_empty() {
                true => "nothing waits under this ID",
                false => "say what you have seen: --fleet, --identity and --key, as they are shown",
            };
            return Err(CommandError::Usage(text.into()));
        };
        Ok(v1::Newcomer { id: self.id, fleet, identity, key_sha256, ..Default::default() })
    }
}

/// The command that lets it in, and nothing else.
fn approval(newcomer: &View) -> String {
    let View { id, fleet, identity, key_sha256, .. } = newcomer;
    // What a maker wrote into a certificate may mean something to a shell.
    let identity = identity.replace('\'', r"'\''");
    format!("ca-server device approve {id} --fleet {fleet} --identity '{identity}' --key {key_sha256}")
}

/// Devices that wait.
pub(super) async fn waiting(
    operator: &mut OperatorClient<Channel>,
    fleet: String,
    id: String,
    limit: Option<u32>,
) -> Result<Vec<View>, CommandError> {
    let newcomers = paging::all(limit, async |page_size, page_token| {
        let request = ListNewcomersRequest { page_size, page_token, fleet: fleet.clone(), id: id.clone() };
        let page = operator.list_newcomers(request).await?.into_inner();
        Ok((page.newcomers, page.next_page_token))
    });
    Ok(newcomers.await?.into_iter().map(View::from).collect())
}

/// Shows all of each.
pub(super) fn show(waiting: &[View], session: &Session) -> Result<(), CommandError> {
    session.output().told(&waiting, |now| {
        let each: Vec<String> = waiting.iter().map(|newcomer| details(&newcomer.lines(now))).collect();
        each.join("\n")
    })
}

/// A device that waits, as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct View {
    id: String,
    fleet: String,
    status: &'static str,
    state: String,
    method: String,
    tier: String,
    identity: String,
    key_sha256: String,
    asked_at: Option<Instant>,
    expires_at: Option<Instant>,
}

impl From<v1::Newcomer> for View {
    fn from(wire: v1::Newcomer) -> Self {
        Self {
            id: wire.id,
            fleet: wire.fleet,
            status: "pending",
            state: wire.state,
            method: wire.method,
            tier: wire.tier,
            identity: wire.identity,
            key_sha256: wire.key_sha256,
            asked_at: Instant::from_wire(wire.asked_at),
            expires_at: Instant::from_wire(wire.expires_at),
        }
    }
}

impl Row for View {
    const COLUMNS: &'static [&'static str] = &["ID", "FLEET", "STATE", "ASKED", "IDENTITY", "KEY"];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.fleet.clone(),
            self.state.clone(),
            when(self.asked_at, now),
            self.identity.clone(),
            self.key_sha256.clone(),
        ]
    }
}

impl Details for View {
    fn lines(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("id", self.id.clone()),
            ("fleet", self.fleet.clone()),
            ("status", format!("pending ({})", self.state)),
            ("attested by", self.method.clone()),
            ("tier", self.tier.clone()),
            ("identity", self.identity.clone()),
            ("key", self.key_sha256.clone()),
            ("asked", when(self.asked_at, now)),
            ("forgotten", when(self.expires_at, now)),
        ];
        if self.state == "asked" {
            lines.push(("to approve", approval(self)));
        }
        lines
    }
}
