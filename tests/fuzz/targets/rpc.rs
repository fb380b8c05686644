//! Every call of both gRPC ports, with any message, over the real services and store: it is granted or refused, and never
//! an internal error.

#![no_main]

use std::{cell::RefCell, time::Duration};

use axum::body::Body;
use fleetca_fuzz::{split, world::World};
use http::Request;
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use tower::ServiceExt;

const DEVICES: [&str; 9] = [
    "Enrollment/Enroll",
    "Enrollment/GetTrustBundle",
    "Enrollment/GetTime",
    "Renewal/Renew",
    "Renewal/Confirm",
    "Renewal/GetRenewalInfo",
    "Revocation/GetCrl",
    "Revocation/Acknowledge",
    "Revocation/WatchCrl",
];

const OPERATORS: [&str; 33] = [
    "CreateFleet",
    "UpdateFleet",
    "GetFleet",
    "ListFleets",
    "RegisterDevice",
    "GetDevice",
    "ListDevices",
    "RevokeDevice",
    "HoldDevice",
    "ReleaseDevice",
    "DecommissionDevice",
    "RevokeDevices",
    "HoldDevices",
    "ReleaseDevices",
    "GetCertificate",
    "CreateToken",
    "ListTokens",
    "RevokeToken",
    "ListCrls",
    "PublishCrl",
    "ListIssuers",
    "RetireIssuer",
    "WaitForGateways",
    "CreateGateway",
    "ListGateways",
    "RevokeGateway",
    "CreateOperator",
    "ListOperators",
    "RevokeOperator",
    "ListAuditRecords",
    "ListAuditSeals",
    "ListSecurityEvents",
    "NoSuchCall",
];

/// What faults of ours are called: no message may bring these about. (tonic itself calls what it can't decode INTERNAL,
/// in other words.)
const FAULTS: [&str; 2] = ["internal%20error", "the%20store%20is%20not%20available"];
/// How long is listened to a watch.
const WATCH: Duration = Duration::from_millis(50);
/// So many calls, and the store has grown too large to be fast.
const MANY: u32 = 20_000;

thread_local! {
    static CA: RefCell<(u32, Option<World>)> = const { RefCell::new((0, None)) };
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("inputs are short").to_be_bytes();
    [&[0][..], &length, message].concat()
}

fuzz_target!(|input: &[u8]| {
    let [call, form, rest @ ..] = input else { return };
    CA.with_borrow_mut(|(calls, world)| {
        *calls += 1;
        if *calls % MANY == 0 {
            *world = None;
        }
        let world = world.get_or_insert_with(World::new);
        let call = usize::from(*call) % (DEVICES.len() + OPERATORS.len());
        let (router, path, caller) = match DEVICES.get(call) {
            Some(path) => {
                let caller = if form & 8 == 0 { &world.device } else { &world.gateway };
                (&world.devices, format!("/fleetca.v1.{path}"), caller)
            }
            None => {
                (&world.operators, format!("/fleetca.v1.Operator/{}", OPERATORS[call - DEVICES.len()]), &world.admin)
            }
        };
        let body = match form % 4 {
            0 | 1 => frame(rest),
            2 => {
                let (first, second) = split(rest);
                [frame(first), frame(second)].concat()
            }
            _ => rest.to_vec(),
        };
        let mut request = Request::post(&path).header("content-type", "application/grpc").header("te", "trailers");
        if form % 8 < 6 {
            request = request.extension(caller.clone());
        }
        let request = request.body(Body::from(body)).expect("a request");
        let message = world.runtime.block_on(async {
            let answer = router.clone().oneshot(request).await.expect("services do not fail");
            assert_eq!(answer.status(), 200, "{path}");
            let (head, body) = answer.into_parts();
            // A watch goes on for minutes.
            let body = match path.ends_with("/WatchCrl") {
                true => tokio::time::timeout(WATCH, body.collect()).await.ok()?,
                false => body.collect().await,
            };
            let body = body.expect("a whole answer");
            let trailers = body.trailers().cloned().unwrap_or_default();
            let told = |name: &str| head.headers.get(name).or(trailers.get(name)).cloned();
            assert!(told("grpc-status").is_some(), "{path}: an answer has a code");
            told("grpc-message").map(|message| String::from_utf8_lossy(message.as_bytes()).into_owned())
        });
        let message = message.unwrap_or_default();
        assert!(!FAULTS.contains(&message.as_str()), "{path}: {message}");
    });
});
