//! `ca-server device`: devices, and cutting them off.

mod hardware;
mod idevid;
mod many;
mod newcomer;
mod register;
mod rows;
mod view;
mod wait;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use fleetca_proto::v1::{
    AllowReenrollRequest, DecommissionDeviceRequest, DeviceStatus, GetDeviceRequest, HoldDeviceRequest,
    ListDevicesRequest, ReleaseDeviceRequest, RevokeDeviceRequest,
};
use many::{Action, Whom};
use view::View;
use wait::Wait;

use super::{
    CommandError, Session, duration, paging,
    receipt::Receipt,
    words::{Sort, Status, parse_reason, parse_serial, reason_wire},
};
use crate::identity::{RevocationReason, SerialNumber};

/// Devices, and cutting them off
#[derive(Args, Debug)]
pub struct Device {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make devices known to their fleets before they enroll, with what they will prove
    Register(register::Register),
    /// Keys by which devices may prove themselves
    Key {
        #[command(subcommand)]
        command: register::Key,
    },
    /// Hardware by which devices may prove themselves
    Hardware {
        #[command(subcommand)]
        command: hardware::Hardware,
    },
    /// Let a device in that nobody registered, and that waits for approval: this one with this key, once
    Approve(newcomer::Seen),
    /// Keep a device out that waits for approval, for 7 days
    Reject(newcomer::Seen),
    /// List devices; those that wait for approval by --status pending only
    List(List),
    /// Show a device and its unexpired certificates
    Show {
        /// Its ID
        id: String,
    },
    /// Cut a device off, or many: all its certificates, its unspent tokens, and the fleet token that it came by
    Revoke {
        #[command(flatten)]
        whom: Whom,
        /// Why, by the names of RFC 5280: unspecified, keyCompromise (which bans its keys for ever), affiliationChanged,
        /// cessationOfOperation
        #[arg(long, value_parser = parse_reason, default_value = "unspecified")]
        reason: RevocationReason,
        #[command(flatten)]
        wait: Wait,
    },
    /// Cut a device off until it is released, or many
    Hold {
        #[command(flatten)]
        whom: Whom,
        #[command(flatten)]
        wait: Wait,
    },
    /// End a hold, or many; those after a fork have to be decided one by one
    Release {
        #[command(flatten)]
        whom: Whom,
        /// After a fork: the honest holder's certificate, which stays; all others are revoked
        #[arg(long, value_name = "SERIAL", value_parser = parse_serial, conflicts_with_all = ["from", "all"])]
        keep: Option<SerialNumber>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Let a revoked device enroll once more, by what it has proven before or by more
    AllowReenroll {
        /// Its ID
        id: String,
        /// How long it may, at most 30d
        #[arg(long = "for", value_name = "DURATION", default_value = "7d", value_parser = duration::parse)]
        lifetime: Duration,
    },
    /// Cut a device off for good: its ID is never used again
    Decommission {
        /// Its ID
        id: String,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Args, Debug)]
struct List {
    /// Only devices of this fleet
    #[arg(long)]
    fleet: Option<String>,
    /// Only devices in this state; lapsed: without a valid certificate, but once with one
    #[arg(long, value_enum)]
    status: Option<Filter>,
    /// Only devices whose certificate ends within this time
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    expiring_within: Option<Duration>,
    /// What to sort by
    #[arg(long, value_enum, default_value = "id")]
    sort: Sort,
    /// The greatest or latest first
    #[arg(long)]
    descending: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Filter {
    Registered,
    Pending,
    Active,
    Held,
    Revoked,
    Decommissioned,
    Lapsed,
}

impl Filter {
    /// The stored state asked for; none where it is derived.
    fn status(self) -> Option<Status> {
        Some(match self {
            Filter::Registered => Status::Registered,
            Filter::Pending => Status::Pending,
            Filter::Active => Status::Active,
            Filter::Held => Status::Held,
            Filter::Revoked => Status::Revoked,
            Filter::Decommissioned => Status::Decommissioned,
            Filter::Lapsed => return None,
        })
    }
}

impl List {
    fn request(&self) -> ListDevicesRequest {
        let status = self.status.and_then(Filter::status);
        ListDevicesRequest {
            fleet: self.fleet.clone().unwrap_or_default(),
            status: status.map_or(DeviceStatus::Unspecified, Status::wire).into(),
            lapsed: self.status == Some(Filter::Lapsed),
            expiring_within: self.expiring_within.map(duration::wire),
            sort: self.sort.wire().into(),
            descending: self.descending,
            ..Default::default()
        }
    }
}

/// Runs the command.
pub async fn run(args: Device, session: &Session) -> Result<(), CommandError> {
    if let Command::Revoke { whom, .. } | Command::Hold { whom, .. } | Command::Release { whom, .. } = &args.command {
        whom.is_said()?;
    }
    let mut operator = session.operator().await?;
    let (receipt, wait) = match args.command {
        Command::Register(register) => return register.run(operator, session).await,
        Command::Key { command } => return command.run(operator, session).await,
        Command::Hardware { command } => return command.run(operator, session).await,
        Command::Approve(seen) => return seen.approve(operator, session).await,
        Command::Reject(seen) => return seen.reject(operator, session).await,
        Command::Show { id } => {
            let device = match operator.get_device(GetDeviceRequest { id: id.clone() }).await {
                Err(status) if status.code() == tonic::Code::NotFound => {
                    let waiting = newcomer::waiting(&mut operator, String::new(), id, None).await?;
                    if waiting.is_empty() {
                        return Err(status.into());
                    }
                    return newcomer::show(&waiting, session);
                }
                answer => View::whole(answer?.into_inner()),
            };
            return session.output().told(&device, |now| device.words(now));
        }
        Command::List(list) if list.status == Some(Filter::Pending) => {
            let waiting = newcomer::waiting(&mut operator, list.fleet.unwrap_or_default(), String::new(), list.limit);
            return session.output().list(&waiting.await?);
        }
        Command::List(list) => {
            let devices = paging::all(list.limit, async |page_size, page_token| {
                let request = ListDevicesRequest { page_size, page_token, ..list.request() };
                let page = operator.list_devices(request).await?.into_inner();
                Ok((page.devices, page.next_page_token))
            });
            let devices: Vec<View> = devices.await?.into_iter().map(View::from).collect();
            return session.output().list(&devices);
        }
        Command::Revoke { whom, reason, wait } => {
            let reason = reason_wire(reason);
            match whom.one() {
                Ok(id) => (operator.revoke_device(RevokeDeviceRequest { id, reason }).await?, wait),
                Err(many) => return many.run(Action::Revoke(reason), wait, &mut operator, session).await,
            }
        }
        Command::Hold { whom, wait } => match whom.one() {
            Ok(id) => (operator.hold_device(HoldDeviceRequest { id }).await?, wait),
            Err(many) => return many.run(Action::Hold, wait, &mut operator, session).await,
        },
        Command::Release { whom, keep, wait } => {
            let id = match whom.one() {
                Ok(id) => id,
                Err(many) => return many.run(Action::Release, wait, &mut operator, session).await,
            };
            let keep_serial = keep.map(|serial| serial.to_string()).unwrap_or_default();
            (operator.release_device(ReleaseDeviceRequest { id, keep_serial }).await?, wait)
        }
        Command::AllowReenroll { id, lifetime } => {
            let request = AllowReenrollRequest { id, lifetime: Some(duration::wire(lifetime)) };
            let device = View::from(operator.allow_reenroll(request).await?.into_inner());
            return session.output().told(&device, |now| device.words(now));
        }
        Command::Decommission { id, wait } => {
            (operator.decommission_device(DecommissionDeviceRequest { id }).await?, wait)
        }
    };
    let receipt = receipt.into_inner();
    wait.after(&mut operator, receipt.crls.clone(), Receipt::from(receipt), session).await
}
