//! A client in another language, written from the `.proto` files alone.

use fleetca_tests::{
    openssl,
    process::run,
    python,
    server::{Server, TRUST_DOMAIN},
};
use serde_json::Value;

#[test]
fn a_python_client_lists_the_services_checks_their_health_and_enrolls() {
    let Some(mut command) = python::script("enroll.py") else { return };
    let server = Server::start();
    server.admin().create_fleet("sensors");
    let token = server.admin().device_token("sensors", "snake-1", server.scratch());
    let out = server.scratch().join("snake-1");
    command.args(["--server", &format!("localhost:{}", server.addresses().devices.port())]);
    command.args(["--trust-domain", TRUST_DOMAIN, "--device-id", "snake-1", "--root"]).arg(server.control_root());
    command.arg("--token").arg(token).arg("--out").arg(&out);
    let report: Value = serde_json::from_str(&run(&mut command).succeeded()).expect("the client reports in JSON");

    for reflection in ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"] {
        let services = report["services"][reflection].as_array().expect("a list of services");
        for service in ["Enrollment", "Renewal", "Revocation"] {
            assert!(services.contains(&Value::from(format!("fleetca.v1.{service}"))), "{service} in {services:?}");
        }
        assert!(!services.contains(&Value::from("fleetca.v1.Operator")), "the devices' port has no Operator service");
    }
    assert_eq!(report["health"][""], "SERVING");
    assert_eq!(report["health"]["fleetca.v1.Enrollment"], "SERVING");
    assert_eq!(report["health"]["fleetca.v1.Nothing"], "NOT_FOUND");
    assert_eq!(report["confirm_required"], false);
    assert!(report["renewal_window_seconds"].as_i64() > Some(0));

    let device = server.admin().run(&["device", "show", "snake-1"]);
    assert_eq!(device["head_serial"], report["serial"]);
    let credential = out.join("credential.pem");
    if let Some(verdict) = openssl::verify(&credential, &server.device_root(), Some(&credential), None) {
        verdict.succeeded();
    }
}
