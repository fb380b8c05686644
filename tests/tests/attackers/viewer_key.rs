//! A thief of a viewer's key: sees everything, changes nothing.

use fleetca_proto::v1::{
    CreateOperatorRequest, CreateTokenRequest, ReleaseDeviceRequest, RevokeDeviceRequest, RevokeOperatorRequest,
};
use fleetca_tests::{
    calls::{self, outcome},
    device::Device,
    holder::Holder,
    stranger::reason,
};

use super::{contents, server};

#[tokio::test]
async fn a_viewer_changes_neither_the_store_nor_the_audit_log_by_any_call() {
    let server = server();
    Device::enroll(&server, "sensors", "pump-7");
    Device::enroll_gateway(&server, "eu-7");
    let viewer = Holder::copy(&Device::enroll_operator(&server, "eve", "viewer"));
    let before = contents(&server);
    let channel = viewer.connect(&server, server.addresses().operators.port());
    let (mut changing, names) = (0, ["", "pump-7", "sensors", "eu-7", "eve", "admin"]);
    for call in calls::all().iter().filter(|call| call.service == "Operator") {
        let reads = ["Get", "List", "Explain", "Wait"].iter().any(|verb| call.method.starts_with(verb));
        changing += usize::from(!reads);
        // What a call takes as its first field is mostly the name of what it is about.
        for message in names.map(str::to_owned) {
            let outcome = outcome(&channel, &call.path(), message).await;
            assert_eq!(outcome == "ROLE_REQUIRED", !reads, "{call:?}: {outcome}");
        }
    }
    assert!(changing > 10, "hardly any call changes anything: {changing}");

    let mut client = viewer.operator(&server);
    let revoke = RevokeDeviceRequest { id: "pump-7".into(), ..Default::default() };
    assert_eq!(reason(client.revoke_device(revoke).await), "ROLE_REQUIRED");
    let release = ReleaseDeviceRequest { id: "pump-7".into(), ..Default::default() };
    assert_eq!(reason(client.release_device(release).await), "ROLE_REQUIRED");
    let token = CreateTokenRequest { fleet: "sensors".into(), device_id: "pump-9".into(), ..Default::default() };
    assert_eq!(reason(client.create_token(token).await), "ROLE_REQUIRED");
    // Neither more rights for himself, nor fewer for others.
    let promoted = CreateOperatorRequest { name: "eve".into(), ..Default::default() };
    assert_eq!(reason(client.create_operator(promoted).await), "ROLE_REQUIRED");
    let rival = RevokeOperatorRequest { name: "admin".into(), ..Default::default() };
    assert_eq!(reason(client.revoke_operator(rival).await), "ROLE_REQUIRED");
    assert_eq!(contents(&server), before);
}
