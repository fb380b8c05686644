//! Lists: complete over any number of pages, each row once, sorted and filtered as asked.

use fleetca_proto::v1::{
    CreateFleetRequest, CreateGatewayRequest, CreateTokenRequest, ListDevicesRequest, ListTokensRequest,
    RegisterDeviceRequest,
};
use fleetca_tests::{
    admin::Admin,
    operator::Operator,
    server::Server,
    stranger::{self, reason},
};
use rusqlite::Connection;
use serde_json::Value;
use tokio::task::JoinSet;

const MANY: usize = 250;

async fn register(admin: &Admin, ids: impl Iterator<Item = String>) {
    let mut registrations = JoinSet::new();
    for id in ids {
        let mut client = admin.client();
        let request = RegisterDeviceRequest { id, fleet: "sensors".into(), ..Default::default() };
        registrations.spawn(async move { client.register_device(request).await.expect("it is registered") });
        // A connection bears 64 requests at once; what comes beyond is refused.
        if registrations.len() >= 32 {
            registrations.join_next().await.expect("one is under way").expect("it does not panic");
        }
    }
    registrations.join_all().await;
}

fn ids(admin: &Operator, command: &[&str]) -> Vec<String> {
    column(&admin.run(command), "id")
}

fn column(rows: &Value, name: &str) -> Vec<String> {
    let text = |row: &Value| row[name].as_str().unwrap_or_else(|| panic!("no {name} in {row}")).to_owned();
    rows.as_array().expect("a list").iter().map(text).collect()
}

/// As if time had passed: the certificate of a device has ended.
fn lapse(server: &Server, id: &str) {
    let db = Connection::open(server.dir().join("ca.db")).expect("it opens");
    let sql = "UPDATE holders SET expires_at = 1000 * unixepoch() - 60000 WHERE kind = 'device' AND id = ?1";
    assert_eq!(db.execute(sql, [id]).expect("it is changed"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_listed_completely_sorted_and_filtered() {
    let server = Server::start();
    let (admin, strangers, operator) = (Admin::of(&server), stranger::connect(&server).await, server.admin());
    operator.create_fleet("sensors");
    operator.create_fleet("pumps");
    operator.run(&["fleet", "create", "short", "--validity", "1h"]);
    let many: Vec<String> = (0..MANY).map(|index| format!("s-{index:03}")).collect();
    register(&admin, many.iter().rev().cloned()).await;
    let enrolled = [("short", "x-1"), ("pumps", "p-5"), ("pumps", "p-1"), ("pumps", "p-2"), ("pumps", "p-3")];
    for (fleet, id) in enrolled.into_iter().chain([("pumps", "p-4")]) {
        admin.enroll(&strangers, fleet, id).await;
    }
    lapse(&server, "p-5");
    for (command, id) in [("hold", "p-2"), ("revoke", "p-3"), ("decommission", "p-4")] {
        operator.run(&["device", command, id]);
    }

    let list = |options: &[&str]| ids(&operator, &[&["device", "list"], options].concat());
    let pumps = ["p-1", "p-2", "p-3", "p-4", "p-5"].map(str::to_owned);
    let mut all = [&pumps[..], &many, &["x-1".to_owned()]].concat();
    assert_eq!(list(&[]), all);
    assert_eq!(list(&["--fleet", "sensors"]), many);
    assert_eq!(list(&["--fleet", "pumps"]), pumps);
    assert_eq!(list(&["--status", "registered"]), many);
    assert_eq!(list(&["--status", "active"]), ["p-1", "p-5", "x-1"]);
    for (status, id) in [("held", "p-2"), ("revoked", "p-3"), ("decommissioned", "p-4"), ("lapsed", "p-5")] {
        assert_eq!(list(&["--status", status]), [id], "{status}");
        assert_eq!(list(&["--status", status, "--fleet", "short"]), [""; 0], "{status}");
    }
    assert_eq!(list(&["--status", "pending"]), [""; 0]);
    assert_eq!(list(&["--expiring-within", "2h"]), ["x-1"]);
    assert_eq!(list(&["--expiring-within", "2d", "--status", "active"]), ["p-1", "x-1"]);
    assert_eq!(list(&["--sort", "expires", "--status", "active"]), ["p-5", "x-1", "p-1"]);
    assert_eq!(list(&["--sort", "expires", "--status", "active", "--descending"]), ["p-1", "x-1", "p-5"]);
    assert_eq!(list(&["--sort", "created", "--descending", "--limit", "3"]), ["p-4", "p-3", "p-2"]);
    let created = list(&["--sort", "created"]);
    assert_eq!(created.len(), all.len());
    assert_eq!(created[MANY..], enrolled.map(|(_, id)| id).into_iter().chain(["p-4"]).collect::<Vec<_>>());
    assert_eq!(list(&["--limit", "150"]), all[..150]);
    all.reverse();
    assert_eq!(list(&["--descending"]), all);
    assert_eq!(operator.reason(&["device", "list", "--fleet", "no fleet"]), "INVALID_ARGUMENT");
    let lapsed = operator.run(&["device", "list", "--status", "lapsed"]);
    assert_eq!((&lapsed[0]["lapsed"], &lapsed[0]["status"]), (&true.into(), &"active".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_give_each_device_once_while_others_come() {
    let server = Server::start();
    let admin = Admin::of(&server);
    server.admin().create_fleet("sensors");
    let before: Vec<String> = (0..60).map(|index| format!("s-{:03}", index * 2)).collect();
    register(&admin, before.iter().cloned()).await;
    for descending in [false, true] {
        let (mut found, mut page_token, mut page_number) = (Vec::new(), String::new(), 0);
        loop {
            let request = ListDevicesRequest { page_size: 7, page_token, descending, ..Default::default() };
            let page = admin.client().list_devices(request).await.expect("a page").into_inner();
            assert!(page.devices.len() <= 7);
            found.extend(page.devices.into_iter().map(|device| device.id));
            if page.next_page_token.is_empty() {
                break;
            }
            page_token = page.next_page_token;
            page_number += 2;
            let new = [format!("s-{page_number:03}-{descending}"), format!("s-{:03}-{descending}", 120 - page_number)];
            register(&admin, new.into_iter()).await;
        }
        let mut sorted = found.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), found.len(), "none twice");
        if descending {
            sorted.reverse();
        }
        assert_eq!(found, sorted);
        found.sort();
        assert!(before.iter().all(|id| found.binary_search(id).is_ok()), "none left out");
    }
    for page_token in ["x", "bm9uc2Vuc2U", "%", "0123456789abcdef"] {
        let request = ListDevicesRequest { page_token: page_token.into(), ..Default::default() };
        assert_eq!(reason(admin.client().list_devices(request).await), "INVALID_ARGUMENT", "{page_token}");
        let request = ListTokensRequest { page_token: page_token.into(), ..Default::default() };
        assert_eq!(reason(admin.client().list_tokens(request).await), "INVALID_ARGUMENT", "{page_token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fleets_tokens_gateways_and_records_are_listed_beyond_a_page() {
    const COUNT: usize = 120;
    let server = Server::start();
    let (admin, operator) = (Admin::of(&server), server.admin());
    operator.create_fleet("sensors");
    let mut tokens = Vec::new();
    for index in 0..COUNT {
        let name = format!("n-{index:03}");
        let request = CreateFleetRequest { name: name.clone(), policy: None };
        admin.client().create_fleet(request).await.expect("a fleet");
        let request =
            CreateTokenRequest { fleet: "sensors".into(), device_id: name.clone(), uses: 1, ..Default::default() };
        tokens.push(admin.make_token(request).await.id().to_owned());
        let public_key = enroll_client::attester::token::JoinToken::generate().expect("a token").public_key().to_vec();
        let request = CreateGatewayRequest { id: name, public_key, lifetime: None };
        admin.client().create_gateway(request).await.expect("a gateway's token");
    }
    let names: Vec<String> = (0..COUNT).map(|index| format!("n-{index:03}")).collect();
    let fleets = operator.run(&["fleet", "list"]);
    assert_eq!(column(&fleets, "name"), [&names[..], &["sensors".to_owned()]].concat());
    assert_eq!(fleets[COUNT]["device_count"], COUNT);
    assert_eq!(ids(&operator, &["gateway", "list"]), names);
    assert_eq!(ids(&operator, &["gateway", "list", "--limit", "3"]), names[..3]);
    tokens.reverse();
    assert_eq!(ids(&operator, &["token", "list", "--fleet", "sensors"]), tokens, "the newest first");
    assert_eq!(operator.run(&["token", "list"]).as_array().expect("a list").len(), 2 * COUNT);

    let sequences = |options: &[&str]| -> Vec<u64> {
        let records = operator.run(&[&["audit", "list"], options].concat());
        records
            .as_array()
            .expect("a list")
            .iter()
            .map(|record| record["sequence"].as_u64().expect("a number"))
            .collect()
    };
    let last = 3 + 1 + 3 * COUNT as u64;
    assert_eq!(sequences(&[]), (1..=last).collect::<Vec<_>>());
    assert_eq!(sequences(&["--newest-first"]), (1..=last).rev().collect::<Vec<_>>());
    assert_eq!(sequences(&["--action", "token.created"]).len(), 2 * COUNT);
    assert_eq!(sequences(&["--subject", "fleet/n-007"]).len(), 1);
    assert_eq!(sequences(&["--limit", "150"]), (1..=150).collect::<Vec<_>>());
}

#[test]
fn what_is_never_written_can_not_be_asked_for() {
    let server = Server::start();
    let admin = server.admin();
    fn records<'a>(options: &[&'a str]) -> Vec<&'a str> {
        [&["audit", "list"], options].concat()
    }
    for (wrong, known) in [
        (&["--action", "device.revokt"][..], "device.revoked"),
        (&["--action", "lineage.fork"], "device.held"),
        (&["--security", "--action", "device.revoked"], "lineage.fork"),
        (&["--subject", "pump-7"], "device/pump-7"),
        (&["--subject", "devices/pump-7"], "device/pump-7"),
        (&["--subject", "device/"], "device/pump-7"),
        (&["--security", "--subject", "pump-7"], "device/pump-7"),
    ] {
        assert_eq!(admin.reason(&records(wrong)), "INVALID_ARGUMENT", "{wrong:?}");
        let said = admin.refused(&records(wrong));
        assert!(said.contains(known), "{wrong:?}: {said}");
    }
    for empty in [
        &["--subject", "device/nobody"][..],
        &["--action", "device.revoked"],
        &["--security", "--action", "lineage.fork"],
    ] {
        assert_eq!(admin.run(&records(empty)), Value::Array(Vec::new()), "{empty:?}");
    }
    assert_eq!(admin.run(&records(&["--subject", "domain/fleet.test"])).as_array().map(Vec::len), Some(1));
}
