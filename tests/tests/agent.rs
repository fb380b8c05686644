//! The agent: renews when the time has come, tells programs, outlasts what passes, and ends where the CA says so.

use fleetca_tests::{
    device::Device,
    holder::Holder,
    pem,
    process::{Running, run},
    server::Server,
    stranger::{SubjectKey, reason},
    wait::{SOON, until, until_true},
};

/// `enroll-client run` on a device's folder.
fn run_agent(server: &Server, device: &Device, on_renew: Option<&str>) -> Running {
    let mut command = device.command("run");
    if let Some(hook) = on_renew {
        command.args(["--on-renew", hook]);
    }
    Running::start("agent", command, server.scratch())
}

fn server(validity: &str) -> Server {
    let server = Server::start();
    server.admin().run(&["fleet", "create", "sensors", "--validity", validity]);
    server
}

/// The message of a failure that `status` shows, once it does.
fn failure(device: &Device, which: &str) -> String {
    until(SOON, "status shows a failure", || device.status()[which]["message"].as_str().map(str::to_owned))
}

fn exit_code(mut agent: Running) -> Option<i32> {
    until(SOON, "the agent ends", || agent.ended()).code()
}

#[test]
fn the_agent_renews_when_it_is_due_and_tells_programs() {
    let server = server("24h");
    let device = Device::enroll(&server, "sensors", "pump-7");
    let first = device.serial();
    let told = server.scratch().join("told.pem");
    let hook = format!("cp \"$FLEETCA_FILE\" {0}.new && mv {0}.new {0}", told.display());
    let mut agent = run_agent(&server, &device, Some(&hook));
    agent.until("it runs", |agent| agent.stderr().contains("keeps the credential alive").then_some(()));
    assert_eq!(device.serial(), first, "it is not due");
    assert!(agent.stop().success());
    assert!(!told.exists());

    device.make_due();
    let mut agent = run_agent(&server, &device, Some(&hook));
    agent.until("programs are told", |_| told.exists().then_some(()));
    assert_ne!(device.serial(), first);
    assert_eq!(pem::serial(&pem::read_certificates(&told)[0]), device.serial(), "they find the new one");
    let shown = server.admin().run(&["device", "show", "pump-7"]);
    assert_eq!(shown["head_serial"], device.serial(), "it is in force before anybody is told");
    let status = device.status();
    assert!(status["renew_at"].as_str() > Some("2026-01-02"), "the next instant is drawn: {status}");
    assert!(agent.stop().success());
}

#[test]
fn a_hook_that_fails_is_shown_by_status_until_it_succeeds() {
    let server = server("24h");
    let device = Device::enroll(&server, "sensors", "pump-7");
    device.make_due();
    let mut failing = run_agent(&server, &device, Some("exit 7"));
    assert!(failure(&device, "on_renew_error").contains("exit status: 7"));
    let text = run(&mut device.command("status")).succeeded();
    assert!(text.lines().any(|line| line.starts_with("on renew") && line.contains("exit status: 7")), "{text}");
    assert!(failing.stop().success());

    let told = server.scratch().join("told");
    let mut good = run_agent(&server, &device, Some(&format!("echo >> {}", told.display())));
    until_true(SOON, "the failure is forgotten", || device.status()["on_renew_error"].is_null());
    assert!(good.stop().success());
    let mut again = run_agent(&server, &device, Some(&format!("echo >> {}", told.display())));
    again.until("it runs", |agent| agent.stderr().contains("keeps the credential alive").then_some(()));
    assert!(again.stop().success());
    assert_eq!(std::fs::read_to_string(&told).expect("it was told"), "\n", "programs are told once");
}

#[test]
fn the_agent_outlasts_a_server_that_is_away() {
    let mut server = server("5m");
    let device = Device::enroll(&server, "sensors", "pump-7");
    let first = device.serial();
    device.make_due();
    server.kill();
    let mut agent = run_agent(&server, &device, None);
    let message = failure(&device, "last_error");
    assert!(message.contains("cannot be reached"), "{message}");
    server.start_again();
    agent.until("it renews", |_| (device.serial() != first).then_some(()));
    agent.until("the failure is forgotten", |_| device.status()["last_error"].is_null().then_some(()));
    assert!(agent.stop().success());
}

#[test]
fn a_device_on_hold_is_not_given_up() {
    let server = server("24h");
    let device = Device::enroll(&server, "sensors", "pump-7");
    let first = device.serial();
    device.make_due();
    server.admin().run(&["device", "hold", "pump-7"]);
    let mut agent = run_agent(&server, &device, None);
    let message = failure(&device, "last_error");
    assert!(message.contains("DEVICE_HELD"), "{message}");
    assert!(agent.ended().is_none(), "it waits for people: {}", agent.stderr());
    assert!(agent.stop().success());
    server.admin().run(&["device", "release", "pump-7"]);
    let mut agent = run_agent(&server, &device, None);
    agent.until("it renews", |_| (device.serial() != first).then_some(()));
    assert!(agent.stop().success());
}

#[tokio::test]
async fn the_agent_ends_where_no_further_try_can_help() {
    let server = server("24h");
    let revoked = Device::enroll(&server, "sensors", "pump-7");
    server.admin().run(&["device", "revoke", "pump-7"]);
    assert_eq!(exit_code(run_agent(&server, &revoked, None)), Some(1), "revoked: for good");
    assert!(failure(&revoked, "last_error").contains("DEVICE_REVOKED"));

    let forked = Device::enroll(&server, "sensors", "pump-8");
    let kept = Holder::copy(&forked).renew_and_confirm(&server).await;
    let refused = Holder::copy(&forked).renew(&server, &SubjectKey::generate()).await;
    assert_eq!(reason(refused), "LINEAGE_FORK");
    server.admin().run(&["device", "release", "pump-8", "--keep", &kept.serial()]);
    assert_eq!(exit_code(run_agent(&server, &forked, None)), Some(4), "it has to attest again");

    let nobody = Device::new(server.scratch().join("nobody"));
    assert_eq!(exit_code(run_agent(&server, &nobody, None)), Some(4), "it has to enroll first");
    assert!(!nobody.folder().exists(), "nothing is made where nothing is");
}
