//! Fleets that name the issuing CAs of their devices, and the bundles of such fleets.

use super::*;

#[test]
fn a_fleets_bundle_has_the_issuers_that_it_needs_and_no_other() {
    let mut server = server();
    let one = first(&server);
    let other = create(&mut server);
    let admin = server.admin();
    let (of_one, of_other) = (BTreeSet::from([one.clone()]), BTreeSet::from([other.clone()]));
    admin.run(&["fleet", "create", "ones", "--issuers", &one]);
    admin.run(&["fleet", "create", "others", "--issuers", &other]);
    assert_eq!(bundle(&server, "/crl/fleet/ones/bundle.pem"), of_one);
    assert_eq!(bundle(&server, "/crl/fleet/others/bundle.pem"), of_other);
    let device = Device::enroll(&server, "others", "d-1");
    assert_eq!(issuer_of(&server, &device), other);

    let gateway = Device::enroll_gateway(&server, "eu-7");
    let out = server.scratch().join("others.pem");
    let folder = gateway.folder().to_path_buf();
    let over = ["--dir", path(&folder), "--form", "fleet:others"];
    sync(&over, &out).succeeded();
    assert_eq!(Crl::all_from_pem(&fs::read_to_string(&out).expect("a file")).len(), 2);
    let over_http = server.scratch().join("http.pem");
    let (url, root) = (server.http_url(""), server.device_root());
    let from_http = ["--http-url", &url, "--trust", path(&root), "--form", "fleet:others"];
    sync(&from_http, &over_http).succeeded();
    assert_eq!(Crl::all_from_pem(&fs::read_to_string(&over_http).expect("a file")).len(), 2);

    // Moved: what was signed before is needed until it has expired.
    let changed = admin.run(&["fleet", "set", "others", "--issuers", &one]);
    assert_eq!((&changed["issuers"], &changed["named_issuers"]), (&json!([one]), &json!([one])));
    assert_eq!(bundle(&server, "/crl/fleet/others/bundle.pem"), BTreeSet::from([one.clone(), other.clone()]));
    assert_eq!(bundle(&server, "/crl/fleet/ones/bundle.pem"), of_one);
    device.renew();
    assert_eq!(issuer_of(&server, &device), one);
    for (options, out) in [(&over[..], &out), (&from_http, &over_http)] {
        sync(options, out).succeeded();
        assert_eq!(Crl::all_from_pem(&fs::read_to_string(out).expect("a file")).len(), 3);
    }
    let all = admin.run(&["fleet", "set", "others", "--issuers", "all"]);
    assert_eq!((all["issuers"].as_array().expect("a list").len(), &all["named_issuers"]), (2, &Value::Null));
    assert!(
        admin.refused(&["fleet", "set", "ones", "--issuers", "0123456789abcdef"]).contains("no issuing CA of devices")
    );
    assert_eq!(admin.reason(&["fleet", "set", "ones", "--issuers", "0123456789abcdef"]), "INVALID_ARGUMENT");
}

#[test]
fn a_fleets_devices_are_spread_over_the_issuers_that_it_names_and_come_to_no_other() {
    let mut server = server();
    let one = first(&server);
    let (two, three) = (create(&mut server), create(&mut server));
    let admin = server.admin();
    admin.create_fleet("pumps");
    let ids = |of: [&String; 2]| of.map(String::as_str).join(",");
    // None where one of them is unknown.
    let reason = admin.reason(&["fleet", "set", "pumps", "--issuers", &format!("{one},0123456789abcdef")]);
    assert_eq!(
        (reason.as_str(), &admin.run(&["fleet", "show", "pumps"])["named_issuers"]),
        ("INVALID_ARGUMENT", &Value::Null)
    );

    let named = BTreeSet::from([one.clone(), three.clone()]);
    let listed = |value: &Value| -> BTreeSet<String> {
        value.as_array().expect("a list").iter().map(|id| id.as_str().expect("an ID").to_owned()).collect()
    };
    let changed = admin.run(&["fleet", "set", "pumps", "--issuers", &ids([&one, &three])]);
    assert_eq!((listed(&changed["issuers"]), listed(&changed["named_issuers"])), (named.clone(), named.clone()));
    let devices = devices(&server, "pumps", &named);
    let signers = || devices.iter().map(|device| issuer_of(&server, device)).collect::<BTreeSet<_>>();
    assert_eq!(signers(), named);
    assert_eq!(bundle(&server, "/crl/fleet/pumps/bundle.pem"), named);

    let others = ids([&two, &three]);
    let changed = admin.run(&["fleet", "set", "pumps", "--issuers", &others]);
    assert_eq!(listed(&changed["named_issuers"]), BTreeSet::from([two.clone(), three.clone()]));
    devices.iter().for_each(Device::renew);
    assert!(!signers().contains(&one));
    // What one of them has signed is needed until it has expired.
    assert_eq!(bundle(&server, "/crl/fleet/pumps/bundle.pem"), BTreeSet::from([one, two, three]));
}
