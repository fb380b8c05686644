//! Operators: three roles, each call with the least role that it needs; and how operators and gateways come and go.

use std::{collections::BTreeMap, fs, io, path::Path, process::Command};

use enroll_client::attester::token::JoinToken;
use fleetca_proto::v1::{
    ConfirmRequest, GetCrlRequest, GetRenewalInfoRequest, Kind, ListFleetsRequest, ListedDevice, ManyDevicesRequest,
    PublishCrlRequest, RegisterDeviceRequest, RegisterDevicesRequest, RenewRequest, Start, get_crl_request::Form,
    start,
};
use fleetca_tests::{
    admin::read_token,
    binaries,
    crl::Crl,
    device::Device,
    gateway::Presented,
    holder::Holder,
    operator::Operator,
    process::{Finished, run},
    server::Server,
    stranger::{self, Exchange, Refusal, SubjectKey, reason},
    tls,
};
use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;
use x509_cert::ext::pkix::CrlReason;

const ROLES: [&str; 3] = ["viewer", "revoker", "admin"];

/// Every call, the least role that it needs, and what comes of an empty request from one who may.
const CALLS: [(&str, &str, &str); 43] = [
    ("CreateFleet", "admin", "INVALID_ARGUMENT"),
    ("UpdateFleet", "admin", "INVALID_ARGUMENT"),
    ("ExplainDevice", "viewer", "INVALID_ARGUMENT"),
    ("GetFleet", "viewer", "INVALID_ARGUMENT"),
    ("ListFleets", "viewer", "OK"),
    ("RegisterDevice", "admin", "INVALID_ARGUMENT"),
    ("RegisterDevices", "admin", "INVALID_ARGUMENT"),
    ("RegisterKey", "admin", "INVALID_ARGUMENT"),
    ("RetireKey", "admin", "INVALID_ARGUMENT"),
    ("RegisterHardware", "admin", "INVALID_ARGUMENT"),
    ("RetireHardware", "admin", "INVALID_ARGUMENT"),
    ("ListNewcomers", "viewer", "OK"),
    ("ApproveDevice", "admin", "INVALID_ARGUMENT"),
    ("RejectDevice", "revoker", "INVALID_ARGUMENT"),
    ("GetDevice", "viewer", "INVALID_ARGUMENT"),
    ("ListDevices", "viewer", "OK"),
    ("RevokeDevice", "revoker", "INVALID_ARGUMENT"),
    ("HoldDevice", "revoker", "INVALID_ARGUMENT"),
    ("ReleaseDevice", "revoker", "INVALID_ARGUMENT"),
    ("DecommissionDevice", "revoker", "INVALID_ARGUMENT"),
    ("RevokeDevices", "revoker", "INVALID_ARGUMENT"),
    ("HoldDevices", "revoker", "INVALID_ARGUMENT"),
    ("ReleaseDevices", "revoker", "INVALID_ARGUMENT"),
    ("AllowReenroll", "admin", "INVALID_ARGUMENT"),
    ("GetCertificate", "viewer", "INVALID_ARGUMENT"),
    ("CreateToken", "admin", "INVALID_ARGUMENT"),
    ("ListTokens", "viewer", "OK"),
    ("RevokeToken", "revoker", "INVALID_ARGUMENT"),
    ("ListCrls", "viewer", "OK"),
    ("PublishCrl", "admin", "OK"),
    ("ListIssuers", "viewer", "OK"),
    ("RetireIssuer", "admin", "INVALID_ARGUMENT"),
    ("WaitForGateways", "viewer", "OK"),
    ("CreateGateway", "admin", "INVALID_ARGUMENT"),
    ("ListGateways", "viewer", "OK"),
    ("RevokeGateway", "revoker", "INVALID_ARGUMENT"),
    ("CreateOperator", "admin", "INVALID_ARGUMENT"),
    ("ListOperators", "viewer", "OK"),
    ("RevokeOperator", "admin", "INVALID_ARGUMENT"),
    ("ListAuditRecords", "viewer", "OK"),
    ("ListAuditSeals", "viewer", "OK"),
    ("ListSecurityEvents", "viewer", "OK"),
    ("NoSuchCall", "viewer", "UNIMPLEMENTED"),
];

/// Every method of the service, as the descriptors have it.
fn methods() -> Vec<String> {
    let set = FileDescriptorSet::decode(fleetca_proto::DESCRIPTOR_SET).expect("the descriptors");
    let mut services = set.file.iter().flat_map(|file| &file.service);
    let operator = services.find(|service| service.name() == "Operator").expect("the service");
    operator.method.iter().map(|method| method.name().to_owned()).collect()
}

/// The role that the comment above each method names.
fn documented() -> BTreeMap<String, String> {
    let (mut roles, mut role) = (BTreeMap::new(), None);
    for line in include_str!("../../proto/fleetca/v1/operator.proto").lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("// Role: ") {
            role = words.split('.').next();
        } else if let Some(rest) = line.strip_prefix("rpc ") {
            let (method, _) = rest.split_once('(').expect("a method");
            roles.insert(method.to_owned(), role.take().unwrap_or_else(|| panic!("{method} names no role")).to_owned());
        }
    }
    roles
}

/// Calls a method with an empty request; `OK`, the reason, or the code where there is none.
async fn outcome(channel: &Channel, method: &str) -> String {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("the connection is up");
    let path = PathAndQuery::try_from(format!("/fleetca.v1.Operator/{method}")).expect("a path");
    let answer = client.unary(Request::new(()), path, ProstCodec::<(), ()>::default()).await;
    match answer {
        Ok(_) => "OK".into(),
        Err(status) if status.code() == Code::Unimplemented => "UNIMPLEMENTED".into(),
        Err(status) => Refusal::of(&status).reason,
    }
}

fn port(server: &Server) -> u16 {
    server.addresses().operators.port()
}

fn operator(server: &Server, peer: &Device) -> Operator {
    Operator::new(server.operator_url(), peer.folder().to_path_buf())
}

fn refusal(code: Code, reason: &str, action: &str) -> Refusal {
    Refusal { code, reason: reason.into(), action: action.into() }
}

#[test]
fn the_table_of_calls_is_whole_and_says_what_the_proto_says() {
    let table: BTreeMap<_, _> = CALLS.iter().map(|(method, role, _)| (*method, *role)).collect();
    let mut methods = methods();
    assert_eq!(methods.len(), documented().len());
    for (method, role) in documented() {
        assert_eq!(table.get(&*method), Some(&&*role), "{method}");
    }
    methods.push("NoSuchCall".into());
    methods.sort();
    assert_eq!(methods, table.into_keys().collect::<Vec<_>>());
}

#[tokio::test]
async fn every_call_needs_its_role_and_no_more() {
    let server = Server::start();
    for (rank, role) in ROLES.into_iter().enumerate() {
        let peer = Holder::copy(&Device::enroll_operator(&server, role, role));
        let channel = peer.connect(&server, port(&server));
        for (method, least, allowed) in CALLS {
            let may = ROLES.iter().position(|role| *role == least) <= Some(rank);
            let expected = if may { allowed } else { "ROLE_REQUIRED" };
            assert_eq!(outcome(&channel, method).await, expected, "{method} by a {role}");
        }
        let crl = PublishCrlRequest { root_crl: vec![0x30, 0x00], accept_clock: false };
        let expected = if role == "admin" { "CRL_REFUSED" } else { "ROLE_REQUIRED" };
        assert_eq!(reason(peer.operator(&server).publish_crl(crl).await), expected);
    }
    let refused = Holder::copy(&Device::new(server.scratch().join("viewer")));
    let refused = refused.operator(&server).publish_crl(PublishCrlRequest::default()).await.expect_err("no admin");
    assert_eq!(Refusal::of(&refused), refusal(Code::PermissionDenied, "ROLE_REQUIRED", "stop"));
    assert_eq!(refused.message(), "this call needs the role admin");
}

#[tokio::test]
async fn devices_gateways_and_strangers_have_no_way_in() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let channel = Holder::copy(&gateway).connect(&server, port(&server));
    for (method, ..) in CALLS.iter().filter(|(method, ..)| *method != "NoSuchCall") {
        assert_eq!(outcome(&channel, method).await, "KIND_REFUSED", "{method}");
    }
    let device = Device::enroll(&server, "sensors", "pump-7");
    let handshake = |presented: Option<&Presented>| {
        let refused = tls::get(port(&server), &server.control_root(), presented).expect_err("no handshake");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{refused}");
        refused.to_string()
    };
    assert_eq!(handshake(None), "received fatal alert: CertificateRequired");
    assert_eq!(handshake(Some(&device.presented())), "received fatal alert: UnknownCA");

    for peer in [&gateway, &device] {
        let refused = operator(&server, peer).try_run(&["fleet", "list"]);
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("not of an operator"), "{refused:?}");
    }
    // The other services are for the devices' port alone, and the other way round.
    let admin = Holder::copy(&Device::new(server.admin().credential().to_path_buf()));
    let elsewhere = admin.connect(&server, server.addresses().devices.port());
    assert_eq!(outcome(&elsewhere, "ListFleets").await, "UNIMPLEMENTED");
}

#[tokio::test]
async fn operators_and_gateways_enroll_by_join_tokens_and_renew_with_the_same_client() {
    let server = Server::start();
    let ana = Device::enroll_operator(&server, "ana", "viewer");
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let before = [&ana, &gateway].map(Holder::copy);
    for (peer, days) in [(&ana, 30), (&gateway, 7)] {
        let validity = *peer.certificate().tbs_certificate().validity();
        let lasts = validity.not_after.to_unix_duration() - validity.not_before.to_unix_duration();
        assert_eq!(lasts.as_secs(), days * 24 * 3600 + 300);
        peer.renew();
    }
    operator(&server, &ana).run(&["fleet", "list"]);
    let lists = [("operator", &ana), ("gateway", &gateway)];
    for (kind, peer) in lists {
        let listed = server.admin().run(&[kind, "list"]);
        let listed = listed.as_array().expect("a list").iter().find(|row| row["head_serial"] == peer.serial());
        let listed = listed.unwrap_or_else(|| panic!("no {kind} with serial {}", peer.serial()));
        assert_eq!(listed["status"], "active");
        assert_eq!(listed["role"].as_str(), (kind == "operator").then_some("viewer"));
    }

    // What was replaced is good for nothing but finding out that there are two of them.
    let superseded = refusal(Code::Unauthenticated, "CERTIFICATE_SUPERSEDED", "reattest");
    let refused = before[0].operator(&server).list_fleets(ListFleetsRequest::default()).await.expect_err("replaced");
    assert_eq!(Refusal::of(&refused), superseded);
    let request = GetCrlRequest { form: Some(Form::Bundle(Default::default())) };
    let refused = before[1].revocation(&server).get_crl(request).await.expect_err("replaced");
    assert_eq!(Refusal::of(&refused), superseded);
    for (old, new) in before.iter().zip([&ana, &gateway]) {
        assert_eq!(reason(old.renew(&server, &SubjectKey::generate()).await), "LINEAGE_FORK");
        assert_eq!(reason(Holder::copy(new).renew(&server, &SubjectKey::generate()).await), "DEVICE_HELD");
    }
    assert_eq!(operator(&server, &ana).reason(&["fleet", "list"]), "DEVICE_HELD");
}

/// Starts an enrollment as `kind`, and gives the reason why it gets no certificate.
async fn refused_as(server: &Server, kind: Kind, id: &str, token: &JoinToken) -> String {
    let (connection, key) = (stranger::connect(server).await, SubjectKey::generate());
    let start = Start { kind: kind.into(), ..stranger::start(id, token, &key) };
    assert!(matches!(start.evidence, Some(start::Evidence::Token(_))));
    let start = start.encode_to_vec();
    let attempt = async {
        let mut exchange = Exchange::start(&connection, &start).await?;
        let challenge = exchange.challenge().await?;
        let proof = stranger::proof(token, &key, &start, &challenge);
        exchange.send(fleetca_proto::v1::enroll_request::Step::Proof(proof));
        exchange.issued().await
    };
    reason::<fleetca_proto::v1::Issued>(attempt.await)
}

#[tokio::test]
async fn a_join_token_is_for_its_kind_and_name_and_a_name_keeps_its_role() {
    let server = Server::start();
    let admin = server.admin();
    let create = |kind: &str, id: &str, options: &[&str]| {
        let out = server.scratch().join(format!("{kind}-{id}.token"));
        let text = out.to_str().expect("UTF-8").to_owned();
        admin.run(&[&[kind, "create", id, "--out", &text], options].concat());
        read_token(&out)
    };
    let ana = create("operator", "ana", &["--role", "viewer"]);
    let gateway = create("gateway", "eu-7", &[]);
    for (kind, id, token) in [
        (Kind::Device, "ana", &ana),
        (Kind::Gateway, "ana", &ana),
        (Kind::Operator, "bob", &ana),
        (Kind::Operator, "eu-7", &gateway),
        (Kind::Device, "eu-7", &gateway),
    ] {
        assert_eq!(refused_as(&server, kind, id, token).await, "ID_REFUSED", "{kind:?} {id}");
    }
    let out = server.scratch().join("more.token");
    let promoted = ["operator", "create", "ana", "--role", "admin", "--out", out.to_str().expect("UTF-8")];
    assert_eq!(admin.reason(&promoted), "STATE_REFUSED");
    let alike = ["operator", "create", "ANA", "--role", "viewer", "--out", out.to_str().expect("UTF-8")];
    assert_eq!(admin.reason(&alike), "ID_TAKEN");
    assert!(!out.exists());
}

#[tokio::test]
async fn whoever_is_revoked_is_refused_at_the_next_call_of_an_open_connection() {
    let server = Server::start();
    let admin = server.admin();
    let ana = Device::enroll_operator(&server, "ana", "revoker");
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let mut operators = Holder::copy(&ana).operator(&server);
    let mut crls = Holder::copy(&gateway).revocation(&server);
    let fleets = ListFleetsRequest::default;
    let bundle = || GetCrlRequest { form: Some(Form::Bundle(Default::default())) };
    operators.list_fleets(fleets()).await.expect("a list");
    admin.create_fleet("sensors");
    let (pump, held) = (Device::enroll(&server, "sensors", "pump-7"), Device::enroll(&server, "sensors", "pump-8"));
    let devices = [&pump, &held].map(|device| Holder::copy(device).renewal(&server));
    for mut device in devices.clone() {
        device.get_renewal_info(GetRenewalInfoRequest {}).await.expect("an answer");
    }
    crls.get_crl(bundle()).await.expect("CRLs");

    for (kind, peer, id) in [("operator", &ana, "ana"), ("gateway", &gateway, "eu-7")] {
        let receipt = admin.run(&[kind, "revoke", id, "--reason", "keyCompromise"]);
        assert_eq!(receipt["subject"], format!("{kind}/{id}"));
        assert_eq!((&receipt["status"], &receipt["certificates"]), (&"revoked".into(), &1.into()));
        let list = Crl::fetch(&server, receipt["crls"][0]["issuer"].as_str().expect("an issuer"));
        assert_eq!(list.reason(&peer.serial()), Some(CrlReason::KeyCompromise));
        assert_eq!(admin.run(&[kind, "revoke", id, "--reason", "keyCompromise"])["certificates"], 0);
        let refused = Holder::copy(peer).renew(&server, &SubjectKey::generate()).await;
        assert_eq!(reason(refused), "DEVICE_REVOKED", "{kind}");
    }
    let revoked = refusal(Code::PermissionDenied, "DEVICE_REVOKED", "stop");
    assert_eq!(Refusal::of(&operators.list_fleets(fleets()).await.expect_err("revoked")), revoked);
    assert_eq!(Refusal::of(&crls.get_crl(bundle()).await.expect_err("revoked")), revoked);

    admin.run(&["device", "revoke", "pump-7"]);
    admin.run(&["device", "hold", "pump-8"]);
    for (mut device, why) in devices.into_iter().zip(["DEVICE_REVOKED", "DEVICE_HELD"]) {
        let csr = SubjectKey::generate().csr();
        assert_eq!(reason(device.get_renewal_info(GetRenewalInfoRequest {}).await), why);
        assert_eq!(reason(device.renew(RenewRequest { csr, ..Default::default() }).await), why);
        assert_eq!(reason(device.confirm(ConfirmRequest {}).await), why);
    }

    let out = server.scratch().join("again.token");
    let out = out.to_str().expect("UTF-8");
    assert_eq!(admin.reason(&["operator", "create", "ana", "--role", "revoker", "--out", out]), "DEVICE_REVOKED");
    assert_eq!(admin.reason(&["gateway", "create", "eu-7", "--out", out]), "DEVICE_REVOKED");
}

#[test]
fn how_to_end_the_last_admin_is_told_to_admins_only() {
    let server = Server::start();
    for role in ["viewer", "revoker"] {
        let peer = operator(&server, &Device::enroll_operator(&server, role, role));
        assert_eq!(peer.reason(&["operator", "revoke", "admin"]), "ROLE_REQUIRED", "{role}");
    }
    let told = server.admin().try_run(&["operator", "revoke", "admin"]);
    assert!(told.code == 2 && told.stderr.contains("--yes"), "{told:?}");
}

#[test]
fn what_an_operator_does_is_recorded_under_its_name() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    server.admin().run(&["device", "register", "pump-7", "--fleet", "sensors"]);
    let ana = operator(&server, &Device::enroll_operator(&server, "ana", "revoker"));
    assert_eq!(ana.run(&["device", "revoke", "pump-7"])["status"], "revoked");
    assert_eq!(ana.reason(&["fleet", "create", "pumps"]), "ROLE_REQUIRED");
    let records = ana.run(&["audit", "list", "--newest-first", "--limit", "1"]);
    assert_eq!((&records[0]["actor"], &records[0]["action"]), (&"operator/ana".into(), &"device.revoked".into()));
}

/// `operator recover` on the server's folder.
fn recover(server: &Server, name: &str, out: &Path) -> Finished {
    let mut command = Command::new(binaries::ca_server());
    run(command.args(["operator", "recover", "--name", name, "--dir"]).arg(server.dir()).arg("--out").arg(out))
}

#[test]
fn an_admin_who_is_locked_out_comes_back_by_the_servers_own_folder() {
    let server = Server::start();
    let admin = server.admin();
    Device::enroll_operator(&server, "vic", "viewer");
    let scratch = |name: &str| server.scratch().join(name);
    fs::create_dir(scratch("full")).expect("a folder");
    fs::write(scratch("full").join("key.pem"), "precious").expect("a file");
    let refused = recover(&server, "admin", &scratch("full"));
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("is not overwritten"), "{refused:?}");
    assert_eq!(fs::read_to_string(scratch("full").join("key.pem")).expect("it is there"), "precious");
    let refused = recover(&server, "vic", &scratch("vic-again"));
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("this operator is no admin"), "{refused:?}");

    // The key is lost: the same admin gets another one, while the server runs.
    recover(&server, "admin", &scratch("found")).succeeded();
    let found = Device::new(scratch("found"));
    let again = operator(&server, &found);
    let records = again.run(&["audit", "list", "--subject", "operator/admin", "--newest-first", "--limit", "1"]);
    let expected = ["certificate.issued", "local", "operator/admin", "ok"];
    let written = ["action", "actor", "subject", "outcome"].map(|key| records[0][key].as_str().expect("a text"));
    assert_eq!(written, expected);
    assert_eq!(records[0]["serial"], found.serial());
    assert_eq!(admin.reason(&["fleet", "list"]), "CERTIFICATE_SUPERSEDED", "the lost key is worth nothing any more");

    // The key is stolen: the name is gone for good, and the way back is under another one.
    again.run(&["operator", "revoke", "admin", "--reason", "keyCompromise", "--yes"]);
    assert_eq!(again.reason(&["fleet", "list"]), "DEVICE_REVOKED");
    let refused = recover(&server, "admin", &scratch("again"));
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("revoked"), "{refused:?}");
    assert!(!scratch("again").exists());
    recover(&server, "root", &scratch("root")).succeeded();
    let root = Operator::new(server.operator_url(), scratch("root"));
    let listed = root.run(&["operator", "list"]);
    let listed: Vec<_> = listed.as_array().expect("a list").iter().map(|row| [&row["id"], &row["status"]]).collect();
    let expected = [["admin", "revoked"], ["root", "active"], ["vic", "active"]].map(|row| row.map(Value::from));
    assert_eq!(listed, expected.each_ref().map(|[id, status]| [id, status]));
    root.run(&["audit", "verify"]);
}

#[tokio::test]
async fn an_operator_enrolls_again_only_with_a_new_join_token() {
    let server = Server::start();
    let ana = Device::enroll_operator(&server, "ana", "viewer");
    let token = server.scratch().join("ana.token");
    let again = Device::new(server.scratch().join("thief"));
    let mut command = again.command("enroll");
    command.args(["--server", &server.url(), "--kind", "operator", "--operator-name", "ana", "--root"]);
    command.arg(server.control_root()).arg("--attest").arg(format!("token:{}", token.display()));
    let refused = run(&mut command);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("TOKEN_SPENT"), "{refused:?}");
    operator(&server, &ana).run(&["fleet", "list"]);

    let second = server.scratch().join("second.token");
    let second = second.to_str().expect("UTF-8");
    server.admin().run(&["operator", "create", "ana", "--role", "viewer", "--out", second]);
    let mut command = again.command("enroll");
    command.args(["--server", &server.url(), "--kind", "operator", "--operator-name", "ana", "--root"]);
    run(command.arg(server.control_root()).args(["--attest", &format!("token:{second}")])).succeeded();
    operator(&server, &again).run(&["fleet", "list"]);
    assert_eq!(operator(&server, &ana).reason(&["fleet", "list"]), "CERTIFICATE_SUPERSEDED");
}

#[test]
fn the_last_admin_is_not_revoked_by_accident() {
    let server = Server::start();
    let admin = server.admin();
    let said = admin.try_run(&["operator", "revoke", "admin"]);
    assert!(said.code == 2 && said.stderr.contains("last admin"), "{said:?}");
    assert!(said.stderr.contains("operator recover"), "it says what the way back is: {said:?}");
    // A viewer is no admin, and neither is one who has not enrolled.
    Device::enroll_operator(&server, "ana", "viewer");
    let out = server.scratch().join("bob.token");
    admin.run(&["operator", "create", "bob", "--role", "admin", "--out", out.to_str().expect("UTF-8")]);
    assert_eq!(admin.try_run(&["operator", "revoke", "admin"]).code, 2);
    admin.run(&["operator", "revoke", "ana"]);

    let carl = operator(&server, &Device::enroll_operator(&server, "carl", "admin"));
    assert_eq!(carl.run(&["operator", "revoke", "admin"])["status"], "revoked");
    assert_eq!(carl.try_run(&["operator", "revoke", "carl"]).code, 2);
    assert_eq!(carl.run(&["operator", "revoke", "carl", "--yes"])["status"], "revoked", "who insists may");
    assert_eq!(carl.reason(&["fleet", "list"]), "DEVICE_REVOKED");
}

/// What an operator has sent of a call that is not at its end yet does nothing once he is cut off.
#[tokio::test]
async fn a_call_that_an_operator_holds_open_does_nothing_after_the_operator_is_cut_off() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    Device::enroll(&server, "sensors", "pump-7");
    let ana = Holder::copy(&Device::enroll_operator(&server, "ana", "admin"));
    let mut client = ana.operator(&server);
    let device = RegisterDeviceRequest { id: "pump-8".into(), fleet: "sensors".into(), line: 1, ..Default::default() };
    let registers = RegisterDevicesRequest { devices: vec![device] };
    let holds = ManyDevicesRequest {
        devices: vec![ListedDevice { id: "pump-7".into(), ..Default::default() }],
        execute: true,
        ..Default::default()
    };
    let (register, registering) = mpsc::unbounded_channel();
    let (hold, holding) = mpsc::unbounded_channel();
    let (mut one, mut two) = (client.clone(), client.clone());
    let registered = tokio::spawn(async move { one.register_devices(UnboundedReceiverStream::new(registering)).await });
    let held = tokio::spawn(async move { two.hold_devices(UnboundedReceiverStream::new(holding)).await });
    register.send(registers).expect("the call is open");
    hold.send(holds).expect("the call is open");
    // Both have begun, on the same connection.
    client.list_fleets(ListFleetsRequest::default()).await.expect("an admin lists");
    server.admin().run(&["operator", "revoke", "ana", "--reason", "keyCompromise"]);
    drop((register, hold));
    for refused in [reason(registered.await.expect("no panic")), reason(held.await.expect("no panic"))] {
        assert_eq!(refused, "DEVICE_REVOKED");
    }
    let devices = server.admin().run(&["device", "list"]);
    let devices: Vec<_> = devices.as_array().expect("a list").iter().map(|one| (&one["id"], &one["status"])).collect();
    assert_eq!(devices, [(&"pump-7".into(), &"active".into())]);
}
