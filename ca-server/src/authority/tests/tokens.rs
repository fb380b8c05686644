//! Join tokens in the course of time.

use super::*;

#[tokio::test]
async fn a_token_key_for_which_anybody_can_sign_is_refused() {
    let world = World::new().await;
    let mut weak = [0; 32];
    for first in [0, 1] {
        weak[0] = first;
        let new = NewToken { public_key: weak, target: TokenFor::Gateway("gw".parse().unwrap()), lifetime: HOUR };
        let refused = world.authority.create_token(new, "operator/ana").await.unwrap_err();
        assert!(matches!(refused, Refusal::Invalid { field: "public_key", .. }));
    }
}

#[tokio::test]
async fn a_token_lives_no_longer_than_it_may() {
    let world = World::new().await;
    let fleet: FleetName = "pumps".parse().unwrap();
    let targets = [
        (TokenFor::Device { fleet: fleet.clone(), id: "pump-1".parse().unwrap(), reenroll: false }, 30 * DAY),
        (TokenFor::Gateway("eu-7".parse().unwrap()), 30 * DAY),
        (TokenFor::NewDevices { fleet, pattern: "p-*".into(), uses: 2 }, DAY),
    ];
    for (target, longest) in targets {
        let lives = async |lifetime| {
            let token = world.token(target.clone(), lifetime).await;
            token.map(|token| token.expires_at.since(START))
        };
        assert_eq!(lives(longest).await.unwrap(), longest);
        assert_eq!(lives(Duration::ZERO).await.unwrap(), DAY, "a day where nothing is said");
        let refused = lives(longest + Duration::from_secs(1)).await;
        assert!(matches!(refused, Err(Refusal::Invalid { field: "lifetime", .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_fleet_token_never_lets_in_again_who_came_by_it() {
    let world = World::new().await;
    let (fleet, policy): (FleetName, _) =
        ("gauges".parse().unwrap(), Policy { validity_secs: 3600, ..Policy::default() });
    world.authority.create_fleet(&fleet, policy, "operator/ana").await.unwrap();
    let target = TokenFor::NewDevices { fleet, pattern: "*".into(), uses: 9 };
    let token = world.token(target, Duration::ZERO).await.unwrap();
    let own = request();
    let first = world.enroll_with(&token, "gauge-1", &own).await.unwrap();
    let again = world.enroll_with(&token, "gauge-1", &own).await.unwrap();
    assert_eq!(first.0.serial, again.0.serial, "the answer was lost");
    // The certificate has ended, the token has not, and a new key would not help.
    world.at(2 * HOUR);
    for own in [own, request()] {
        let late = world.enroll_with(&token, "gauge-1", &own).await.err();
        assert!(matches!(late, Some(Refusal::IdTaken)), "{late:?}");
    }
}

#[tokio::test]
async fn a_token_is_judged_before_any_device_is_looked_at() {
    let world = World::new().await;
    let fleet: FleetName = "pumps".parse().unwrap();
    for id in ["active", "held", "revoked", "decommissioned", "allowed"] {
        world.enroll(id).await;
    }
    let (ana, authority) = ("operator/ana", &world.authority);
    let pending = TokenFor::Device { fleet: fleet.clone(), id: "registered".parse().unwrap(), reenroll: false };
    world.token(pending, Duration::ZERO).await.unwrap();
    authority.hold(&subject("held"), ana).await.unwrap();
    for id in ["revoked", "allowed"] {
        authority.revoke(&subject(id), RevocationReason::CessationOfOperation, ana).await.unwrap();
    }
    authority.allow_reenroll(&subject("allowed"), HOUR, ana).await.unwrap();
    authority.decommission(&subject("decommissioned"), ana).await.unwrap();
    let there = ["active", "held", "revoked", "decommissioned", "allowed", "registered", "ACTIVE", "Held"];
    let token = async |pattern: &str, uses| {
        let target = TokenFor::NewDevices { fleet: fleet.clone(), pattern: pattern.into(), uses };
        world.token(target, HOUR).await.unwrap()
    };
    let asks = async |token: &Token, id: &str| world.enroll_with(token, id, &request()).await.err();

    // One that is good: that they are there, and nothing else, whatever else would keep it out.
    let good = token("*", 9).await;
    for id in there {
        let told = asks(&good, id).await;
        assert!(matches!(told, Some(Refusal::IdTaken)), "{id}: {told:?}");
    }
    let full = |most| {
        let change = move |policy: &mut Policy| policy.quotas.max_devices = most;
        authority.change_policy(&fleet, change, ana)
    };
    full(Some(1)).await.unwrap();
    for id in there {
        let told = asks(&good, id).await;
        assert!(matches!(told, Some(Refusal::IdTaken)), "{id}: {told:?}");
    }
    assert!(matches!(asks(&good, "new").await, Some(Refusal::FleetFull)));
    full(None).await.unwrap();

    // Those that are worth nothing tell nothing.
    let (spent, ended, expired) = (token("*", 1).await, token("*", 9).await, token("*", 9).await);
    assert!(asks(&spent, "new").await.is_none());
    authority.revoke_token(&ended.id.parse().unwrap(), ana).await.unwrap();
    for id in there.into_iter().chain(["nobody", "new"]) {
        let told = [asks(&spent, id).await, asks(&ended, id).await];
        assert!(matches!(told, [Some(Refusal::TokenSpent), Some(Refusal::TokenRevoked)]), "{id}: {told:?}");
    }
    world.at(2 * HOUR);
    for id in there.into_iter().chain(["nobody"]) {
        let told = asks(&expired, id).await;
        assert!(matches!(told, Some(Refusal::TokenExpired)), "{id}: {told:?}");
    }
}

#[tokio::test]
async fn a_token_that_is_its_own_csr_key_is_refused() {
    let world = World::new().await;
    let own = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&own.serialize_der()).unwrap();
    let target = TokenFor::Device { fleet: "pumps".parse().unwrap(), id: "pump-1".parse().unwrap(), reenroll: false };
    let public_key = key.public_key().as_ref().try_into().unwrap();
    let new = NewToken { public_key, target, lifetime: HOUR };
    let row = world.authority.create_token(new, "operator/ana").await.unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&own).unwrap().der().to_vec();
    let token = Token { key, id: row.id.to_string(), expires_at: row.expires_at };
    let refused = world.enroll_with(&token, "pump-1", &(own, csr)).await;
    assert!(matches!(refused, Err(Refusal::Attestation(crate::attestation::AttestationError::SameKey))));
}

#[test]
fn evidence_that_cannot_be_read_gets_no_challenge() {
    use v1::start::Evidence;
    for evidence in [
        Some(Evidence::Tpm(v1::TpmEvidence::default())),
        Some(Evidence::Previous(v1::PreviousEvidence::default())),
        Some(Evidence::Token(v1::TokenEvidence::default())),
        None,
    ] {
        let start = v1::Start {
            trust_domain: "fleet.example".into(),
            kind: v1::Kind::Device.into(),
            evidence,
            ..Default::default()
        };
        EnrollmentRequest::read(start.encode_to_vec(), &"fleet.example".parse().unwrap()).unwrap_err();
    }
}
