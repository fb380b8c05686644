//! A reader of the database, or of a copy of it: finds nothing that enrolls or signs.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use enroll_client::attester::token::JoinToken;
use fleetca_proto::{
    transcript::{Role, enrollment},
    v1::enroll_request::Step,
};
use fleetca_tests::{
    admin::read_token,
    device::Device,
    server::Server,
    stranger::{self, Exchange, SubjectKey, reason},
};
use prost::Message;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};

use super::server;

/// The database with its log, as it is on disk now.
fn copy(server: &Server) -> Vec<u8> {
    ["ca.db", "ca.db-wal"].iter().flat_map(|file| fs::read(server.dir().join(file)).unwrap_or_default()).collect()
}

fn holds(database: &[u8], secret: &[u8]) -> bool {
    assert!(secret.len() >= 16, "too short to be found by chance only");
    database.windows(secret.len()).any(|window| window == secret)
}

/// The private number of a key in PKCS#8, P-256.
fn private_number(der: &[u8]) -> Vec<u8> {
    let before = [2, 1, 1, 4, 32];
    let at = der.windows(before.len()).position(|window| window == before).expect("a P-256 key in PKCS#8");
    der[at + before.len()..][..32].to_vec()
}

/// Every private key in PEM files under a folder.
fn private_keys(folder: &Path, into: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            private_keys(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "pem")
            && let Ok(key) = PrivateKeyDer::from_pem_file(&path)
        {
            into.push(private_number(key.secret_der()));
        }
    }
}

#[test]
fn a_copy_of_the_database_holds_no_private_key_and_no_tokens_secret() {
    let server = server();
    let admin = server.admin();
    let spent = admin.device_token("sensors", "pump-7", server.scratch());
    let unspent = admin.device_token("sensors", "pump-8", server.scratch());
    let pump = Device::new(server.scratch().join("pump-7"));
    pump.try_enroll(&server, "pump-7", &spent).succeeded();
    pump.renew();
    Device::enroll_gateway(&server, "eu-7");
    Device::enroll_operator(&server, "ana", "admin");
    let database = copy(&server);

    let token = read_token(&unspent);
    assert!(holds(&database, &token.public_key()), "the search finds what is there");
    for file in [&spent, &unspent] {
        let text = fs::read_to_string(file).expect("a token");
        let seed = text.trim().split('.').nth(1).expect("a seed").to_owned();
        assert!(!holds(&database, seed.as_bytes()), "a token's text");
        assert!(!holds(&database, &URL_SAFE_NO_PAD.decode(&seed).expect("base64url")), "a token's seed");
    }
    let mut keys = Vec::new();
    // The CA's own keys, the roots' keys and every credential folder lie below.
    private_keys(server.scratch(), &mut keys);
    assert!(keys.len() >= 8, "roots, CAs, server, operators, gateway, device: {}", keys.len());
    for key in keys {
        assert!(!holds(&database, &key), "a private key");
    }
}

/// A token whose private key is these octets.
fn token_of(seed: [u8; 32]) -> JoinToken {
    let public = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any seed is a key");
    let digest = |octets: &[u8]| -> String {
        ring::digest::digest(&ring::digest::SHA256, octets).as_ref().iter().map(|o| format!("{o:02x}")).collect()
    };
    let id = &digest(public.public_key().as_ref())[..16];
    let text = format!("fleetca-join-{id}.{}", URL_SAFE_NO_PAD.encode(seed));
    JoinToken::parse(&format!("{text}.{}", &digest(text.as_bytes())[..8])).expect("a token")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_knows_of_a_token_enrolls_nobody() {
    let server = server();
    let file = server.admin().device_token("sensors", "pump-8", server.scratch());
    let token = read_token(&file);
    // All that is in the row: the token's ID, and its public key, which a thief may try as if it were the private one.
    let thief = token_of(token.public_key());
    let connection = stranger::connect(&server).await;
    let key = SubjectKey::generate();
    let start = stranger::start("pump-8", &token, &key).encode_to_vec();
    for signature in [None, Some(token.public_key().to_vec()), Some([token.public_key(); 2].concat())] {
        let mut exchange = Exchange::start(&connection, &start).await.expect("a stream");
        let challenge = exchange.challenge().await.expect("a challenge");
        let mut proof = stranger::proof(&thief, &key, &start, &challenge);
        proof.evidence_signature =
            signature.unwrap_or_else(|| thief.sign(&enrollment("token", Role::Evidence, &start, &challenge)));
        exchange.send(Step::Proof(proof));
        assert_eq!(reason(exchange.issued().await), "ATTESTATION_FAILED");
    }
    Device::new(server.scratch().join("pump-8")).try_enroll(&server, "pump-8", &file).succeeded();
}
