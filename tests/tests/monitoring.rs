//! Health and metrics, on a port of their own.

use fleetca_tests::{device::Device, http, server::Server};

#[test]
fn health_says_that_the_server_can_sign_and_commit() {
    let server = Server::start();
    for path in ["/healthz", "/readyz"] {
        http::get(&server.metrics_url(path)).ok();
    }
    assert_eq!(http::get(&server.http_url("/metrics")).status, 404, "metrics are not for everybody");
}

#[test]
fn metrics_count_what_was_issued_and_refused() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    let token = server.admin().device_token("sensors", "pump-7", server.scratch());
    for id in ["pump-7", "pump-8"] {
        Device::new(server.scratch().join(id)).try_enroll(&server, id, &token);
    }
    let metrics = String::from_utf8(http::get(&server.metrics_url("/metrics")).ok()).expect("text");
    assert!(metrics.contains("ID_REFUSED"), "{metrics}");
    assert!(metrics.lines().any(|line| line.contains("enrollment") && line.ends_with(" 1")), "{metrics}");
}
