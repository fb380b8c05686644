//! A thief of a gateway's key: reads CRLs, renews itself, and nothing else.

use fleetca_proto::v1::{CrlChunk, GetCrlRequest, get_crl_request::Form};
use fleetca_tests::{
    calls::{self, outcome},
    device::Device,
    holder::Holder,
    server::Server,
    stranger::{SubjectKey, reason},
};

use super::{contents, server};

async fn read(server: &Server, holder: &Holder, form: Form) -> Result<Vec<CrlChunk>, tonic::Status> {
    let mut chunks = holder.revocation(server).get_crl(GetCrlRequest { form: Some(form) }).await?.into_inner();
    let mut all = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        all.push(chunk);
    }
    Ok(all)
}

#[tokio::test]
async fn a_gateways_key_reads_crls_and_renews_itself_and_changes_nothing_else() {
    let server = server();
    Device::enroll(&server, "sensors", "pump-7");
    let gateway = Holder::copy(&Device::enroll_gateway(&server, "eu-7"));
    let before = contents(&server);
    for (port, own) in [(server.addresses().devices.port(), false), (server.addresses().operators.port(), true)] {
        let channel = gateway.connect(&server, port);
        for call in calls::all() {
            let expected = match (&*call.service, &*call.method) {
                ("Operator", _) if own => "KIND_REFUSED",
                (service, _) if (service == "Operator") != own => "Unimplemented",
                ("Enrollment", "GetTime" | "GetTrustBundle") | ("Renewal", "GetRenewalInfo" | "Confirm") => "OK",
                ("Enrollment", "Enroll") => "PROTOCOL_ERROR",
                ("Renewal", "Renew") => "CSR_REFUSED",
                ("Revocation", "GetCrl" | "WatchCrl") => "INVALID_ARGUMENT",
                ("Revocation", "Acknowledge") => "OK",
                _ => panic!("{call:?} is new: may gateways call it?"),
            };
            assert_eq!(outcome(&channel, &call.path(), ()).await, expected, "{call:?}");
        }
    }
    assert!(!read(&server, &gateway, Form::Bundle(Default::default())).await.expect("the bundle").is_empty());
    assert!(!read(&server, &gateway, Form::Device("pump-7".into())).await.expect("a list").is_empty());
    assert_eq!(reason(read(&server, &gateway, Form::Device("../pump-7".into())).await), "INVALID_ARGUMENT");
    let changed: Vec<String> = contents(&server).into_iter().filter(|row| !before.contains(row)).collect();
    assert_eq!(changed, Vec::<String>::new());

    let next = gateway.renew_and_confirm(&server).await;
    assert_eq!(server.admin().run(&["certificate", "show", &next.serial()])["subject"], "gateway/eu-7");
    assert_eq!(reason(gateway.renew(&server, &SubjectKey::generate()).await), "LINEAGE_FORK");
    assert_eq!(server.admin().run(&["device", "show", "pump-7"])["status"], "active");
}
