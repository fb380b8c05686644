//! Calls that cut many devices off, or release them.

use fleetca_proto::v1;
use tonic::Streaming;

use crate::{
    authority::{Authority, Refusal},
    rpc::{caller::Actor, convert},
    store::{BulkAction, BulkCounts, BulkPlan, Listed, MOST_AT_ONCE, Selection},
};

/// How many fleets an answer names, so that it fits into 64 KiB: those of which most devices change.
const NAMED: usize = 200;

type Requests = Streaming<v1::ManyDevicesRequest>;

pub async fn revoke(authority: &Authority, requests: Requests, actor: &Actor) -> Result<v1::ManyDevices, Refusal> {
    let asked = Asked::read(requests).await?;
    let action = BulkAction::Revoke(convert::reason(asked.head.reason)?);
    asked.answer(authority, action, actor).await
}

pub async fn hold(authority: &Authority, requests: Requests, actor: &Actor) -> Result<v1::ManyDevices, Refusal> {
    Asked::read(requests).await?.answer(authority, BulkAction::Hold, actor).await
}

pub async fn release(authority: &Authority, requests: Requests, actor: &Actor) -> Result<v1::ManyDevices, Refusal> {
    Asked::read(requests).await?.answer(authority, BulkAction::Release, actor).await
}

/// What the first message says, and whom all of them name.
struct Asked {
    head: v1::ManyDevicesRequest,
    devices: Selection,
}

impl Asked {
    async fn read(mut requests: Requests) -> Result<Self, Refusal> {
        let unread = |_| Refusal::Protocol("a message can't be read");
        let mut head = requests.message().await.map_err(unread)?.ok_or(Refusal::Protocol("there is no message"))?;
        let mut listed = Vec::new();
        let mut rows = std::mem::take(&mut head.devices);
        loop {
            if listed.len() + rows.len() > MOST_AT_ONCE {
                return Err(Refusal::invalid("devices", format!("at most {MOST_AT_ONCE} in one call")));
            }
            for row in rows {
                let line = row.line;
                listed.push(one(row).map_err(|why| why.at_line(line))?);
            }
            match requests.message().await.map_err(unread)? {
                Some(next) => rows = next.devices,
                None => break,
            }
        }
        let devices = match (head.fleet.as_str(), listed.is_empty()) {
            ("", true) => return Err(Refusal::invalid("devices", "there are none")),
            ("", false) => Selection::Listed(listed),
            (fleet, true) => Selection::Fleet(fleet.parse().map_err(Refusal::name("fleet"))?),
            _ => return Err(Refusal::invalid("fleet", "means all of its devices: name none besides")),
        };
        Ok(Self { head, devices })
    }

    async fn answer(
        self,
        authority: &Authority,
        action: BulkAction,
        actor: &Actor,
    ) -> Result<v1::ManyDevices, Refusal> {
        authority.still_may(actor).await?;
        if !self.head.execute {
            let plan = authority.plan_bulk(action, self.devices).await?;
            return Ok(answer(&plan));
        }
        let expected = match self.head.plan.as_slice() {
            [] => None,
            plan => Some(plan.try_into().map_err(|_| Refusal::invalid("plan", "must be 32 octets"))?),
        };
        let outcome = authority.change_bulk(action, self.devices, expected, actor).await?;
        let crls = convert::receipts(outcome.crls);
        Ok(v1::ManyDevices { done: true, tokens: outcome.tokens, crls, ..answer(&outcome.plan) })
    }
}

fn one(row: v1::ListedDevice) -> Result<Listed, Refusal> {
    let fleet = match row.fleet.as_str() {
        "" => None,
        name => Some(name.parse().map_err(Refusal::name("fleet"))?),
    };
    Ok(Listed { id: row.id.parse().map_err(Refusal::name("id"))?, fleet, line: row.line })
}

fn answer(plan: &BulkPlan) -> v1::ManyDevices {
    let share = |fleet: &str, counts: &BulkCounts| v1::ShareOfFleet {
        fleet: fleet.to_owned(),
        devices: counts.devices,
        certificates: counts.certificates,
        unchanged: counts.unchanged,
        undecided: counts.undecided,
        unreadable: counts.unreadable,
    };
    let mut fleets: Vec<_> = plan.fleets.iter().map(|(name, counts)| share(name.as_str(), counts)).collect();
    fleets.sort_by_key(|share| std::cmp::Reverse(share.devices));
    fleets.truncate(NAMED);
    v1::ManyDevices { plan: plan.digest.to_vec(), fleets, total: Some(share("", &plan.total())), ..Default::default() }
}
