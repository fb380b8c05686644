//! The load tools say what they promise, at a size that proves nothing else.

use std::process::Command;

use fleetca_tests::{binaries, process::run, require};
use serde_json::Value;

#[test]
fn a_fleet_renews_under_load_and_every_figure_is_told() {
    let mut command = Command::new(binaries::helper("fleet_load"));
    let output =
        run(command.args(["--devices", "6", "--rounds", "2", "--in-flight", "3", "--output", "json"])).succeeded();
    let result: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}, in: {output}"));
    assert_eq!(result["renewals"], 12);
    for figure in [
        "renewals_per_s",
        "latency_p50_ms",
        "latency_p99_ms",
        "renew_cpu_us",
        "handshake_cpu_us",
        "confirm_cpu_us",
        "verify_plus_sign_us",
        "ratio",
    ] {
        assert!(result[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} in {output}");
    }
}

#[test]
fn devices_of_all_methods_enroll_under_load_and_every_figure_is_told() {
    if require::program("swtpm").is_none() {
        return;
    }
    let mut command = Command::new(binaries::helper("fleet_load"));
    let output = run(command.args(["--enrollments", "10", "--output", "json"])).succeeded();
    let result: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}, in: {output}"));
    for figure in [
        "enrollments_per_s",
        "latency_p50_ms",
        "latency_p99_ms",
        "enroll_cpu_us",
        "verify_plus_sign_us",
        "tpm_enrollment_ms",
        "tpm_commands_ms",
        "tpm_ratio",
    ] {
        assert!(result[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} in {output}");
    }
    for (method, enrollments) in [("token", 3), ("registered-key", 3), ("factory", 2), ("tpm", 1), ("previous", 1)] {
        assert_eq!(result["methods"][method]["enrollments"], enrollments, "{method} in {output}");
    }
}

#[test]
fn revocations_beside_many_others_are_measured_and_every_figure_is_told() {
    let mut command = Command::new(binaries::helper("crl_load"));
    command.args(["--entries", "1000", "--gateways", "3", "--per-second", "10", "--seconds", "1", "--bulk", "20"]);
    let output = run(command.args(["--output", "json"])).succeeded();
    let result: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}, in: {output}"));
    for figure in [
        "encode_sign_ms",
        "copy_hash_ms",
        "ratio",
        "read_back_ms",
        "revoke_to_signed_ms",
        "revoke_to_served_ms",
        "revoke_to_served_wall_ms",
        "restart_ms",
        "peak_rss_mb",
    ] {
        assert!(result[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} in {output}");
    }
    assert_eq!(result["entries"], 1000);
    assert_eq!(result["bulk"]["devices"], 20, "{output}");
    assert!(result["watch"]["publications"].as_u64().is_some_and(|count| count > 0), "{output}");
}
