//! Operators: three roles, each call with the least role that `operator.proto` names for it, and nobody else let in.

use std::process::Command;

use fleetca_proto::v1::{ListDevicesRequest, ListFleetsRequest, operator_client::OperatorClient};
use fleetca_tests::{
    binaries, device::Device, holder::Holder, operator::Operator, process::run, server::Server, stranger::Refusal,
};
use serde_json::Value;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

const ROLES: [&str; 3] = ["viewer", "revoker", "admin"];

/// Every call of the service, and the least role that it needs, as the comments in the `.proto` file say.
fn calls() -> Vec<(String, &'static str)> {
    let mut calls = Vec::new();
    let mut least = None;
    for line in include_str!("../../proto/fleetca/v1/operator.proto").lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("// Role: ") {
            least = ROLES.into_iter().find(|role| words.starts_with(role));
        } else if let Some(rest) = line.strip_prefix("rpc ") {
            let (method, _) = rest.split_once('(').expect("a method");
            calls.push((method.to_owned(), least.take().unwrap_or_else(|| panic!("{method} names no role"))));
        }
    }
    calls
}

/// Calls a method with an empty request: all that matters here is whether it gets past the role.
async fn call(channel: &Channel, method: &str) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("the connection is up");
    let path = PathAndQuery::try_from(format!("/fleetca.v1.Operator/{method}")).expect("a path");
    client.unary(Request::new(()), path, ProstCodec::<(), ()>::default()).await.map(|_| ())
}

fn operator(server: &Server, name: &str, role: &str) -> Operator {
    Operator::new(server.operator_url(), Device::enroll_operator(server, name, role).folder().to_path_buf())
}

fn channel(server: &Server, holder: &Holder) -> Channel {
    holder.connect(server, server.addresses().operators.port())
}

#[tokio::test]
async fn every_call_demands_the_role_that_it_names() {
    let server = Server::start();
    let calls = calls();
    assert!(calls.len() >= 25, "{calls:?}");
    for (rank, role) in ROLES.into_iter().enumerate() {
        let holder = Holder::copy(&Device::enroll_operator(&server, role, role));
        let channel = channel(&server, &holder);
        for (method, least) in &calls {
            let allowed = ROLES.iter().position(|role| role == least) <= Some(rank);
            let outcome = call(&channel, method).await;
            let refused = outcome.as_ref().is_err_and(|status| status.code() == Code::PermissionDenied);
            assert_eq!(refused, !allowed, "{method} by a {role}: {outcome:?}");
            if let Err(status) = outcome
                && refused
            {
                assert_eq!(Refusal::of(&status).reason, "ROLE_REQUIRED");
            }
        }
    }
}

#[tokio::test]
async fn devices_gateways_and_strangers_have_no_way_in() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    for peer in [Device::enroll(&server, "sensors", "pump-7"), Device::enroll_gateway(&server, "eu-7")] {
        let channel = channel(&server, &Holder::copy(&peer));
        let refused =
            OperatorClient::new(channel).list_fleets(ListFleetsRequest::default()).await.expect_err("no operator");
        assert_ne!(refused.code(), Code::Ok);
    }
    let port = server.addresses().operators.port();
    let refused = fleetca_tests::tls::get(port, &server.control_root(), None);
    assert!(refused.is_err(), "the handshake demands a certificate: {refused:?}");
}

#[tokio::test]
async fn a_revoked_operator_is_refused_on_an_open_connection() {
    let server = Server::start();
    let ana = Device::enroll_operator(&server, "ana", "viewer");
    let mut client = OperatorClient::new(channel(&server, &Holder::copy(&ana)));
    client.list_fleets(ListFleetsRequest::default()).await.expect("a list");
    let receipt = server.admin().run(&["operator", "revoke", "ana"]);
    assert_eq!(receipt["subject"], "operator/ana");
    client.list_fleets(ListFleetsRequest::default()).await.expect_err("revoked");
}

#[test]
fn operators_enroll_by_join_token_and_work_with_their_own_credential() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    let ana = operator(&server, "ana", "revoker");
    Device::enroll(&server, "sensors", "pump-7");
    assert_eq!(ana.run(&["device", "revoke", "pump-7"])["status"], "revoked");
    ana.refused(&["fleet", "create", "pumps"]);
    let records = server.admin().run(&["audit", "list"]);
    let by_ana = |record: &&Value| record["actor"] == "operator/ana" && record["action"] == "device.revoked";
    let found = records.as_array().expect("a list").iter().find(by_ana);
    assert_eq!(found.expect("a record")["subject"], "device/pump-7");
}

#[test]
fn lists_are_filtered_and_sorted() {
    let server = Server::start();
    let admin = server.admin();
    admin.create_fleet("sensors");
    admin.run(&["fleet", "create", "pumps", "--attest", "token", "--validity", "1h"]);
    for (fleet, id) in [("sensors", "b"), ("pumps", "c"), ("sensors", "a"), ("sensors", "d")] {
        Device::enroll(&server, fleet, id);
    }
    admin.run(&["device", "register", "e", "--fleet", "pumps"]);
    admin.run(&["device", "hold", "d"]);
    let list = |options: &[&str]| -> Vec<String> {
        let devices = admin.run(&[&["device", "list"], options].concat());
        let id = |device: &Value| device["id"].as_str().expect("an ID").to_owned();
        devices.as_array().expect("a list").iter().map(id).collect()
    };
    assert_eq!(list(&[]), ["a", "b", "c", "d", "e"]);
    assert_eq!(list(&["--descending"]), ["e", "d", "c", "b", "a"]);
    assert_eq!(list(&["--fleet", "sensors"]), ["a", "b", "d"]);
    assert_eq!(list(&["--status", "held"]), ["d"]);
    assert_eq!(list(&["--status", "registered"]), ["e"]);
    assert_eq!(list(&["--expiring-within", "2h"]), ["c"]);
    assert_eq!(list(&["--sort", "created", "--status", "active"]), ["b", "c", "a"]);
    assert_eq!(list(&["--limit", "2"]), ["a", "b"]);
}

#[tokio::test]
async fn pages_of_one_make_the_whole_list() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    let ids = ["a", "b", "c"];
    let _ = ids.map(|id| Device::enroll(&server, "sensors", id));
    let admin = Holder::copy(&Device::new(server.dir().join("operator")));
    let mut client = OperatorClient::new(channel(&server, &admin));
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListDevicesRequest { page_size: 1, page_token, ..Default::default() };
        let page = client.list_devices(request).await.expect("a page").into_inner();
        assert!(page.devices.len() <= 1);
        found.extend(page.devices.into_iter().map(|device| device.id));
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    assert_eq!(found, ids);
}

#[test]
fn who_has_lost_every_credential_gets_back_in_on_the_servers_own_folder() {
    let server = Server::start();
    let out = server.scratch().join("recovered");
    let mut command = Command::new(binaries::ca_server());
    command.args(["operator", "recover", "--name", "root-admin", "--dir"]).arg(server.dir()).arg("--out").arg(&out);
    run(&mut command).succeeded();
    let back = Operator::new(server.operator_url(), out);
    back.create_fleet("sensors");
    back.run(&["operator", "revoke", "admin"]);
    server.admin().refused(&["fleet", "list"]);
    let records = back.run(&["audit", "list", "--subject", "operator/root-admin"]);
    assert_eq!(records[0]["actor"], "local", "{records}");
}
