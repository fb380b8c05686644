//! Kills: whatever the moment, the device goes on afterwards with the same command, nothing that was acknowledged is
//! lost, and an honest device is never taken for two.

use std::process::Command;

use enroll_client::flow::Step;
use fleetca_tests::{
    binaries,
    device::Device,
    process::{Finished, run},
    server::Server,
};

/// Runs a client on a device's folder that is killed at a step.
fn killed_at(step: Step, device: &Device, rest: &[&str]) -> Finished {
    let mut command = Command::new(binaries::helper("killed-client"));
    run(command.arg(format!("{step:?}")).arg(device.folder()).args(rest))
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

/// What must hold of a device that has gone on after a kill.
fn is_in_force(server: &Server, id: &str, device: &Device) {
    let shown = server.admin().run(&["device", "show", id]);
    assert_eq!(shown["status"], "active", "{id}");
    assert_eq!(shown["head_serial"], device.serial(), "{id}");
    assert_eq!(shown["pending_serial"], serde_json::Value::Null, "{id}");
    assert!(!device.folder().join("next").exists(), "{id}: no key is left over");
}

#[test]
fn a_device_killed_at_any_step_of_an_enrollment_enrolls_with_the_same_command() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    for step in Step::ALL {
        let id = format!("{step:?}");
        let device = Device::new(server.scratch().join(&id));
        let token = server.admin().device_token("sensors", &id, server.scratch());
        let root = server.control_root();
        let killed = killed_at(step, &device, &[&server.url(), path(&root), path(&token), &id]);
        // A first certificate needs no Confirm.
        assert_eq!(killed.code, if step == Step::Confirmed { 0 } else { -1 }, "{step:?}: {killed:?}");
        device.try_enroll(&server, &id, &token).succeeded();
        is_in_force(&server, &id, &device);
        let shown = server.admin().run(&["device", "show", &id]);
        assert_eq!(shown["certificates"].as_array().map(Vec::len), Some(1), "{id}");
    }
}

#[test]
fn a_device_killed_at_any_step_of_a_renewal_renews_with_the_same_command() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    for step in Step::ALL {
        let id = format!("{step:?}");
        let device = Device::enroll(&server, "sensors", &id);
        let first = device.serial();
        let killed = killed_at(step, &device, &[]);
        assert_eq!(killed.code, -1, "{step:?}: {killed:?}");
        device.renew();
        assert_ne!(device.serial(), first, "{step:?}");
        is_in_force(&server, &id, &device);
    }
}

#[test]
fn a_server_that_was_killed_has_lost_nothing_that_it_acknowledged() {
    let mut server = Server::start();
    server.admin().create_fleet("sensors");
    let device = Device::enroll(&server, "sensors", "pump-7");
    server.kill();
    server.start_again();
    is_in_force(&server, "pump-7", &device);
    device.renew();
    server.kill();
    server.start_again();
    is_in_force(&server, "pump-7", &device);
    let report = server.admin().run(&["audit", "verify"]);
    assert!(report["records"].as_u64() > Some(3), "{report}");
}
