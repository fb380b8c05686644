//! Heads of CRLs that a gateway says it holds: nothing that the control CA has not signed makes the CA stand still, nor
//! does what it knows; and a head that it has signed and forgotten does.

#![no_main]

use std::cell::RefCell;

use axum::body::Body;
use ca_server::{
    authority::resume,
    clock::{Clock, SystemClock},
    pki::{CaRole, IssuerCertificate, ParsedCrl},
};
use fleetca_fuzz::{variant, world::World};
use fleetca_proto::{
    transcript,
    v1::{AcknowledgeRequest, CrlHead},
};
use http::Request;
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use ring::digest::{SHA256, digest};
use tower::ServiceExt;

struct Ca {
    world: World,
    /// What a gateway holds that is up to date.
    real: AcknowledgeRequest,
}

thread_local! {
    static CA: RefCell<Option<Ca>> = const { RefCell::new(None) };
}

impl Ca {
    fn new() -> Ca {
        let world = World::new();
        let held = [CaRole::DeviceIssuing, CaRole::ControlCa].map(|role| {
            let (der, issuer) = (world.crl(role), IssuerCertificate::parse(world.certificate(role)).expect("a CA"));
            let crl = ParsedCrl::parse(der.clone().into()).expect("our own CRL");
            let this_update = prost_types::Timestamp { seconds: crl.this_update().secs(), nanos: 0 };
            let sha256 = digest(&SHA256, &der).as_ref().to_vec();
            let head = CrlHead {
                issuer: issuer.id().to_string(),
                number: crl.number(),
                this_update: Some(this_update),
                sha256,
                signature: Vec::new(),
            };
            signed(&world, head)
        });
        Ca { world, real: AcknowledgeRequest { held: held.to_vec(), not_loaded: false, continues: false } }
    }
}

/// What the control CA signs of a head; nothing where no head can be so.
fn transcript_of(head: &CrlHead) -> Option<Vec<u8>> {
    let this_update = head.this_update.unwrap_or_default().seconds;
    let sha256: [u8; 32] = head.sha256.as_slice().try_into().ok()?;
    Some(transcript::crl_head(&head.issuer, head.number, this_update, &sha256))
}

/// The same with the control CA's signature.
fn signed(world: &World, head: CrlHead) -> CrlHead {
    let Some(message) = transcript_of(&head) else { return head };
    let signature = world.signers[&CaRole::ControlCa].sign(&message).expect("it signs");
    CrlHead { signature, ..head }
}

fn is_signed(world: &World, head: &CrlHead) -> bool {
    let control = IssuerCertificate::parse(world.certificate(CaRole::ControlCa)).expect("a CA");
    transcript_of(head).is_some_and(|message| control.public_key().verify(&message, &head.signature).is_ok())
}

async fn call(world: &World, message: &[u8]) -> String {
    let length = u32::try_from(message.len()).expect("inputs are short").to_be_bytes();
    let body = [&[0][..], &length, message].concat();
    let request = Request::post("/fleetca.v1.Revocation/Acknowledge").header("content-type", "application/grpc");
    let request = request.extension(world.gateway.clone()).body(Body::from(body)).expect("a request");
    let answer = world.devices.clone().oneshot(request).await.expect("services do not fail");
    let (head, body) = answer.into_parts();
    let trailers = body.collect().await.expect("a whole answer").trailers().cloned().unwrap_or_default();
    let code = head.headers.get("grpc-status").or(trailers.get("grpc-status")).expect("an answer has a code");
    String::from_utf8_lossy(code.as_bytes()).into_owned()
}

fuzz_target!(|input: &[u8]| {
    CA.with_borrow_mut(|ca| {
        let Ca { world, real } = ca.get_or_insert_with(Ca::new);
        let mut message = variant(&real.encode_to_vec(), input);
        let sign = input.first().is_some_and(|kind| kind & 2 != 0);
        if let Ok(mut request) = AcknowledgeRequest::decode(&*message)
            && sign
        {
            request.held = request.held.into_iter().map(|head| signed(world, head)).collect();
            message = request.encode_to_vec();
        }
        let code = world.runtime.block_on(call(world, &message));
        let held = AcknowledgeRequest::decode(&*message).unwrap_or_default().held;
        let forgotten = |head: &CrlHead| {
            let known = real.held.iter().any(|known| transcript_of(known) == transcript_of(head));
            !known && is_signed(world, head)
        };
        let halted = world.authority.publisher.is_halted();
        assert!(!halted || held.iter().any(forgotten), "it stands still for nothing");
        assert!(!halted || code != "0", "it stands still, and says that all is well");
        if halted {
            let now = SystemClock.now();
            let goes_on = async {
                let issuers = world.store.issuers().await.expect("the issuers");
                let all: Vec<_> = issuers.iter().map(|row| row.id).collect();
                resume(world.store.as_ref(), &[], &all, std::time::Duration::ZERO, now).await
            };
            world.runtime.block_on(goes_on).expect("it goes on");
            let Ca { world, real } = ca.take().expect("it is there");
            *ca = Some(Ca { world: world.restarted(), real });
        }
    });
});
