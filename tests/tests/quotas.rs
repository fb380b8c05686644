//! Quotas as a device and an operator meet them.

use std::fmt::Write;

use fleetca_tests::{device::Device, server::Server};
use serde_json::Value;

#[test]
fn a_fleet_that_is_full_takes_nobody_and_who_is_there_goes_on() {
    let server = Server::start();
    let admin = server.admin();
    admin.run(&["fleet", "create", "sensors", "--max-devices", "2", "--max-enrollments-per-hour", "1"]);
    let one = Device::enroll(&server, "sensors", "sensor-1");
    let token = admin.device_token("sensors", "sensor-2", server.scratch());
    let out = server.scratch().join("three.token");
    let three =
        ["token", "create", "--fleet", "sensors", "--device-id", "sensor-3", "--out", out.to_str().expect("UTF-8")];
    assert_eq!(admin.reason(&three), "FLEET_FULL");
    let two = Device::new(server.scratch().join("sensor-2"));
    let refused = two.try_enroll(&server, "sensor-2", &token);
    assert!(refused.code == 3 && refused.stderr.contains("ENROLLMENT_QUOTA"), "{refused:?}");
    one.renew();
    let fleet = admin.run(&["fleet", "set", "sensors", "--max-enrollments-per-hour", "none"]);
    assert_eq!((&fleet["max_devices"], &fleet["max_enrollments_per_hour"]), (&2.into(), &Value::Null));
    two.try_enroll(&server, "sensor-2", &token).succeeded();
    // Who is cut off is a device still; who is out of use is none.
    admin.run(&["device", "revoke", "sensor-1"]);
    assert_eq!(admin.reason(&three), "FLEET_FULL");
    admin.run(&["device", "decommission", "sensor-1"]);
    admin.run(&three);
    let shown = admin.run(&["fleet", "show", "sensors"]);
    assert_eq!((&shown["device_count"], &shown["devices_in_use"]), (&3.into(), &2.into()));
    // Both policies are on record, with what was changed.
    let changes = admin.run(&["audit", "list", "--subject", "fleet/sensors"]);
    let quotas = |at: usize, which: &str| changes[at]["detail"][which]["quotas"].clone();
    let set: Value = serde_json::json!({"max_devices": 2, "max_enrollments_per_hour": 1});
    let free: Value = serde_json::json!({"max_devices": 2, "max_enrollments_per_hour": null});
    assert_eq!((quotas(0, "policy"), quotas(1, "was"), quotas(1, "policy")), (set.clone(), set, free), "{changes}");
}

#[test]
fn rows_that_are_too_many_are_registered_not_at_all() {
    let server = Server::start();
    let admin = server.admin();
    admin.run(&["fleet", "create", "sensors", "--max-devices", "20"]);
    let file = |rows: u32| {
        let mut csv = "id\n".to_owned();
        (1..=rows).for_each(|n| writeln!(csv, "sensor-{n}").expect("it is written"));
        let path = server.scratch().join("rows.csv");
        std::fs::write(&path, csv).expect("it is written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let refused = admin.refused(&["device", "register", "--fleet", "sensors", "--from", &file(25)]);
    assert!(refused.contains("line 22: the fleet has as many devices as it may have"), "{refused}");
    let count = || admin.run(&["fleet", "show", "sensors"])["device_count"].clone();
    assert_eq!(count(), 0);
    admin.run(&["device", "register", "--fleet", "sensors", "--from", &file(20)]);
    assert_eq!(count(), 20);
    assert_eq!(admin.reason(&["device", "register", "one-more", "--fleet", "sensors"]), "FLEET_FULL");
    for wrong in ["0", "-1", "many"] {
        let finished = admin.try_run(&["fleet", "set", "sensors", "--max-devices", wrong]);
        assert_eq!(finished.code, 2, "{wrong}: {finished:?}");
    }
}
