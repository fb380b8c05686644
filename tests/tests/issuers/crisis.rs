//! What operators see of gateways after an issuing CA was revoked.

use super::*;

/// What is said of gateways and the CRL of one issuer: its number, and at how many it is loaded.
fn at(crls: &Value, issuer: &str) -> (Value, Value, Value) {
    let crl = crls.as_array().expect("a list").iter().find(|crl| crl["issuer"] == issuer).expect("the CRL");
    (crl["number"].clone(), crl["loaded"]["loaded"].clone(), crl["loaded"]["gateways"].clone())
}

#[test]
fn gateways_that_lack_the_roots_crl_are_behind_when_an_issuing_ca_was_revoked() {
    let mut server = server();
    let admin = server.admin();
    admin.create_fleet("pumps");
    let one = first(&server);
    Device::enroll(&server, "pumps", "pump-1");
    let gateways = ["eu-7", "eu-8"].map(|id| Device::enroll_gateway(&server, id));
    let outs = ["eu-7.pem", "eu-8.pem"].map(|name| server.scratch().join(name));
    let sync = |n: usize| sync(&["--dir", path(gateways[n].folder())], &outs[n]).succeeded();
    let two = create(&mut server);
    (0..2).for_each(|n| drop(sync(n)));
    let lag = |id: &str| {
        let listed = admin.run(&["gateway", "list"]);
        let row = listed.as_array().expect("a list").iter().find(|row| row["id"] == id).expect("the gateway").clone();
        row["loaded"].as_array().expect("a list").iter().any(|crl| crl["is_served"] == false)
    };
    assert_eq!((lag("eu-7"), lag("eu-8")), (false, false));
    let revoked: Value = serde_json::from_str(&held(&mut server, "revoke", &one).succeeded()).expect("JSON");
    assert_eq!((lag("eu-7"), lag("eu-8")), (true, true));
    sync(0);
    // The other fetches it, and its program does not take it in.
    super::sync(&["--dir", path(gateways[1].folder()), "--on-change", "false"], &outs[1]);
    assert_eq!((lag("eu-7"), lag("eu-8")), (false, true));
    let status = admin.run(&["crl", "status"]);
    let root = status.as_array().expect("a list").iter().find(|crl| crl["hierarchy"] == "device-root").expect("a root");
    let root_id = root["issuer"].as_str().expect("an ID");
    let (number, half) = (revoked["root_crl"].clone(), (revoked["root_crl"].clone(), json!(1), json!(2)));
    assert_eq!((root["number"].clone(), at(&status, root_id)), (number, half.clone()));
    assert_eq!(at(&admin.run(&["device", "show", "pump-1"])["crls"], root_id), half);
    let finished = admin.try_run(&["device", "revoke", "pump-1", "--wait=1s"]);
    let receipt: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!((finished.code, &receipt["crls"][0]["issuer"]), (3, &json!(root_id)), "{receipt}");
    assert_eq!(receipt["gateways"]["behind"][0]["gateway"], "eu-8");
    sync(1);
    assert_eq!(
        at(&admin.run(&["device", "show", "pump-1"])["crls"], root_id),
        (revoked["root_crl"].clone(), json!(2), json!(2))
    );
    // Of a device whose issuer goes on the number is of the first CRL that has its revocation.
    Device::enroll(&server, "pumps", "pump-2");
    let receipt = admin.run(&["device", "revoke", "pump-2"]);
    admin.run(&["crl", "publish"]);
    assert_eq!(at(&admin.run(&["device", "show", "pump-2"])["crls"], &two).0, receipt["crls"][0]["number"]);
}
