//! Hostile names and paths, sent over the wire to a real server and given to a real client: refused, never repaired, and
//! shown to nobody.

use fleetca_proto::v1::{
    CreateFleetRequest, CreateGatewayRequest, CreateOperatorRequest, CreateTokenRequest, GetDeviceRequest,
    HoldDeviceRequest, ListDevicesRequest, RegisterDeviceRequest, RevokeDeviceRequest, RevokeGatewayRequest,
};
use fleetca_tests::{
    admin::Admin,
    device::Device,
    http,
    server::Server,
    stranger::{self, SubjectKey, reason},
};

/// No ID, no name of a fleet and no pattern: characters outside the grammar, too long, or nothing at all.
fn names() -> Vec<String> {
    let outside = [
        "../pump-8",
        "..",
        ".",
        "/etc/passwd",
        "pump/8",
        "pump\\8",
        "%2e%2e%2fpump-8",
        "-pump-8",
        "--force",
        ".pump-8",
        "_pump-8",
        "pump-8\n",
        "\npump-8",
        "pump\r\n8",
        "pump-8\0",
        "pump\"8",
        "pump'8",
        "pump`8",
        "pump 8",
        " pump-8",
        "pump-8\t",
        "pump,8",
        "pump;8",
        "pump=8",
        "pump+8",
        "CN=pump-8",
        "pump:8",
        "pump@8",
        "pump#8",
        "pump?8",
        "$(id)",
        "' OR 1=1 --",
        "\x1b[2Jpump-8",
        "\u{440}ump-8",
        "pump\u{2011}8",
        "pump\u{200b}8",
        "\u{202e}8-pmup",
        "pümp-8",
        "\u{ff50}ump-8",
        "pump-8\u{301}",
        "<script>",
    ];
    let long = ["a".repeat(65), "a".repeat(300), "a/".repeat(15_000)];
    outside.iter().map(|name| (*name).to_owned()).chain(long).collect()
}

/// After everything: it serves, it has not panicked, and no name has got into the log or the events.
fn nothing_happened(server: &mut Server) {
    let admin = server.admin();
    let events = admin.run(&["audit", "list", "--security"]).to_string();
    let records = admin.run(&["audit", "list", "--limit", "500"]).to_string();
    let log = server.process().stderr();
    assert!(log.contains("DEBUG") && !log.contains("panicked"), "{log}");
    for text in [events, records, log] {
        for name in
            ["../pump-8", "pump\\8", "$(id)", "OR 1=1", "\x1b[2J", "\u{200b}", "%2e%2e", "<script>", "aaaaaaaaaa"]
        {
            assert!(!text.contains(name), "{name}: {text}");
        }
    }
    Device::enroll(server, "sensors", "pump-9").renew();
}

fn server() -> Server {
    let server = Server::start_logging("debug");
    server.admin().create_fleet("sensors");
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_outside_the_grammar_enroll_nobody() {
    let mut server = server();
    let (admin, connection) = (Admin::of(&server), stranger::connect(&server).await);
    let everybody =
        CreateTokenRequest { fleet: "sensors".into(), id_pattern: "*".into(), uses: 9, ..Default::default() };
    let (everybody, bound) = (admin.make_token(everybody).await, admin.token("sensors", "pump-8").await);
    let key = SubjectKey::generate();
    for id in names().iter().map(String::as_str) {
        for token in [&everybody, &bound] {
            let answer = stranger::enroll(&connection, id, token, &key).await;
            assert_eq!(reason(answer), "INVALID_ARGUMENT", "{id:?}");
        }
    }
    // A token for many leaves the ID to the device: it has to name one.
    assert_eq!(reason(stranger::enroll(&connection, "", &everybody, &key).await), "INVALID_ARGUMENT");
    stranger::enroll(&connection, "pump-8", &bound, &key).await.expect("both tokens still work");
    stranger::enroll(&connection, "pump-7", &everybody, &SubjectKey::generate()).await.expect("both tokens still work");
    nothing_happened(&mut server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_differs_from_anothers_in_case_only_is_refused() {
    let server = server();
    let (admin, connection) = (Admin::of(&server), stranger::connect(&server).await);
    let key = SubjectKey::generate();
    admin.enroll(&connection, "sensors", "pump-7").await;
    let everybody =
        CreateTokenRequest { fleet: "sensors".into(), id_pattern: "*".into(), uses: 9, ..Default::default() };
    let everybody = admin.make_token(everybody).await;
    for id in ["PUMP-7", "Pump-7", "pump-7"] {
        assert_eq!(reason(stranger::enroll(&connection, id, &everybody, &key).await), "ID_TAKEN", "{id}");
    }
    let public_key = vec![7; 32];
    let token = CreateTokenRequest {
        public_key,
        fleet: "sensors".into(),
        device_id: "PUMP-7".into(),
        uses: 1,
        ..Default::default()
    };
    assert_eq!(reason(admin.client().create_token(token).await), "ID_TAKEN");
    let registered = RegisterDeviceRequest { id: "PuMp-7".into(), fleet: "sensors".into(), ..Default::default() };
    assert_eq!(reason(admin.client().register_device(registered).await), "ALREADY_EXISTS");
    let shown = admin.client().get_device(GetDeviceRequest { id: "PUMP-7".into() }).await;
    assert_eq!(reason(shown), "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_outside_the_grammar_get_nowhere_by_an_operator_either() {
    let mut server = server();
    let admin = Admin::of(&server).client();
    let token =
        || CreateTokenRequest { public_key: vec![7; 32], fleet: "sensors".into(), uses: 1, ..Default::default() };
    for name in names() {
        macro_rules! refused {
            ($call:ident, $request:expr) => {
                let answer = admin.clone().$call($request).await;
                assert_eq!(reason(answer), "INVALID_ARGUMENT", "{}: {name:?}", stringify!($call));
            };
        }
        refused!(create_token, CreateTokenRequest { device_id: name.clone(), ..token() });
        refused!(create_token, CreateTokenRequest { fleet: name.clone(), device_id: "pump-8".into(), ..token() });
        refused!(create_fleet, CreateFleetRequest { name: name.clone(), policy: None });
        refused!(
            register_device,
            RegisterDeviceRequest { id: name.clone(), fleet: "sensors".into(), ..Default::default() }
        );
        refused!(get_device, GetDeviceRequest { id: name.clone() });
        refused!(hold_device, HoldDeviceRequest { id: name.clone() });
        refused!(revoke_device, RevokeDeviceRequest { id: name.clone(), reason: 1 });
        refused!(
            create_gateway,
            CreateGatewayRequest { id: name.clone(), public_key: vec![7; 32], ..Default::default() }
        );
        refused!(revoke_gateway, RevokeGatewayRequest { id: name.clone(), reason: 1 });
        let operator =
            CreateOperatorRequest { name: name.clone(), role: 1, public_key: vec![7; 32], ..Default::default() };
        refused!(create_operator, operator);
        refused!(list_devices, ListDevicesRequest { fleet: name.clone(), ..Default::default() });
        refused!(list_devices, ListDevicesRequest { page_token: name.clone(), ..Default::default() });
        // A pattern has the characters of an ID, and `*`; it may begin with any of them.
        let pattern = format!("{name}*");
        let possible = pattern.len() <= 64 && pattern.chars().all(|c| c.is_ascii_alphanumeric() || "._-*".contains(c));
        if !possible {
            refused!(create_token, CreateTokenRequest { id_pattern: pattern, ..token() });
        }
    }
    nothing_happened(&mut server);
}

#[test]
fn a_client_takes_no_name_that_no_server_would() {
    let server = server();
    let token = server.admin().device_token("sensors", "pump-8", server.scratch());
    for id in ["../pump-8", "-pump-8", "pump-8\n", "pump\"8", "\u{440}ump-8", &"a".repeat(300)] {
        let folder = server.scratch().join("folder");
        let finished = Device::new(folder.clone()).try_enroll(&server, id, &token);
        assert_ne!(finished.code, 0, "{id:?}: {finished:?}");
        assert!(!finished.stderr.contains("panicked"), "{id:?}: {finished:?}");
        assert!(!folder.join("current").exists(), "{id:?}: {finished:?}");
    }
    Device::new(server.scratch().join("pump-8")).try_enroll(&server, "pump-8", &token).succeeded();
}

#[test]
fn paths_lead_to_nothing_but_what_is_served() {
    let mut server = server();
    let issuer = {
        let bundle = server.admin().run(&["issuer", "list"]);
        bundle[0]["id"].as_str().expect("an issuer has an ID").to_owned()
    };
    let paths = [
        "/",
        "//",
        "/crl",
        "/crl/",
        "/crl/..",
        "/crl/../../ca.db",
        "/crl/%2e%2e/%2e%2e/ca.db",
        "/crl/..%2f..%2fca.db/full.crl",
        "/issuers/../keys/control.pem",
        "/issuers/%2e%2e%2fkeys%2fcontrol.pem",
        "/issuers/..\\keys",
        "/issuers/%00",
        "/crl/%ff%fe/full.crl",
        "/crl/%/full.crl",
        "/crl/fleet/../bundle.pem",
        "/crl/fleet/%27%20OR%201=1/bundle.pem",
        "/metrics",
        "/healthz",
        "/debug/pprof",
        "/crl/ISSUER/full.crl.bak",
        "/crl/ISSUER/FULL.CRL",
        "/crl/ISSUER/device/.crl",
        "/crl/ISSUER/device/%2e%2e.crl",
        "/crl/ISSUER/device/' OR 1=1",
        "/crl/ISSUER/device/0000000000000000.crl",
    ];
    for path in paths.map(|path| path.replace("ISSUER", &issuer)).iter().chain([&format!("/crl/{}", "a/".repeat(3000))])
    {
        let answer = http::get(&server.http_url(path));
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
        assert!(answer.body.len() < 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    }
    assert_eq!(http::get(&server.http_url(&format!("/crl/{issuer}/full.crl"))).status, 200);
    nothing_happened(&mut server);
}
