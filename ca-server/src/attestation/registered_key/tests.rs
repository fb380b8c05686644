//! Refuse 28, and what RFC 8725 warns of.

use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public(pair: &Ed25519KeyPair) -> PublicKey {
    PublicKey::from_ed25519(pair.public_key().as_ref().try_into().unwrap()).unwrap()
}

fn text(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

fn header() -> Value {
    json!({"alg": "EdDSA", "typ": TYPE})
}

fn body() -> Value {
    let bound = BASE64_URL_SAFE_NO_PAD.encode(binding("registered-key", b"start", b"challenge"));
    json!({
        "iss": "pump-7", "sub": "pump-7", "aud": "spiffe://fleet.example", "jti": "1",
        "iat": NOW.secs(), "exp": NOW.secs() + 60, "binding": bound,
    })
}

fn signed(header: &Value, body: &Value, seed: u8) -> String {
    let signed = format!("{}.{}", text(header), text(body));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(pair(seed).sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn check(assertion: &str) -> Result<(Claims, Used), AttestationError> {
    let (device, trust_domain) = ("pump-7".parse().unwrap(), "fleet.example".parse().unwrap());
    let expected = Expected { key: &public(&pair(1)), device: &device, trust_domain: &trust_domain };
    verify(b"start", b"challenge", assertion, expected, NOW)
}

fn with(key: &str, value: Value) -> Result<(Claims, Used), AttestationError> {
    let mut body = body();
    body[key] = value;
    check(&signed(&header(), &body, 1))
}

#[test]
fn an_assertion_bound_to_the_enrollment_proves_the_key() {
    let (claims, used) = check(&signed(&header(), &body(), 1)).unwrap();
    assert_eq!((claims.method, claims.tier), (Method::RegisteredKey, Tier::Registered));
    assert_eq!(claims.identity, public(&pair(1)).thumbprint().to_string());
    assert_eq!(used.expires_at.secs(), NOW.secs() + 60);
    let (_, other) = with("jti", json!("2")).unwrap();
    assert_ne!(used.hash, other.hash);
}

#[test]
fn claims_that_are_not_exactly_what_they_must_be_are_refused() {
    let now = NOW.secs();
    for (key, value, what) in [
        ("iss", json!("pump-8"), "iss or sub"),
        ("sub", json!("pump-8"), "iss or sub"),
        ("aud", json!("spiffe://fleet.example/"), "aud"),
        ("aud", json!("spiffe://other.example"), "aud"),
        ("exp", json!(now + 61), "iat, nbf or exp"),
        ("exp", json!(now + 10 * 365 * 86_400), "iat, nbf or exp"),
        ("exp", json!(now), "iat, nbf or exp"),
        ("exp", json!(i64::MIN), "iat, nbf or exp"),
        ("iat", json!(now + 31), "iat, nbf or exp"),
        ("iat", json!(i64::MIN), "iat, nbf or exp"),
        ("nbf", json!(now + 31), "iat, nbf or exp"),
        ("jti", json!(""), "jti"),
        ("jti", json!("x".repeat(129)), "jti"),
        ("binding", json!(""), "binding"),
        ("binding", json!(BASE64_URL_SAFE_NO_PAD.encode([0; 32])), "binding"),
    ] {
        assert_eq!(with(key, value.clone()), Err(AttestationError::Assertion(what)), "{key} {value}");
    }
    let bound = |method: &str, start: &[u8], challenge: &[u8]| {
        with("binding", json!(BASE64_URL_SAFE_NO_PAD.encode(binding(method, start, challenge))))
    };
    for stale in [
        bound("token", b"start", b"challenge"),
        bound("registered-key", b"other", b"challenge"),
        bound("registered-key", b"start", b"stale"),
    ] {
        assert_eq!(stale, Err(AttestationError::Assertion("binding")));
    }
}

#[test]
fn claims_of_another_type_or_left_out_are_refused() {
    for key in ["iss", "sub", "aud", "iat", "exp", "jti", "binding"] {
        assert_eq!(with(key, Value::Null), Err(AttestationError::Malformed), "{key}");
        assert_eq!(with(key, json!([body()[key]])), Err(AttestationError::Malformed), "{key}");
        let mut without = body();
        without.as_object_mut().unwrap().remove(key);
        assert_eq!(check(&signed(&header(), &without, 1)), Err(AttestationError::Malformed), "{key}");
    }
    assert_eq!(with("exp", json!((NOW.secs() + 60) as f64 + 0.5)), Err(AttestationError::Malformed));
}

#[test]
fn the_key_says_which_algorithm_it_is_and_the_header_chooses_nothing() {
    for (key, value) in [
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("alg", json!("ES256")),
        ("alg", json!("eddsa")),
        ("typ", json!("JWT")),
        ("typ", json!("at+jwt")),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
    ] {
        let mut header = header();
        header[key] = value.clone();
        let refused = check(&signed(&header, &body(), 1));
        assert_eq!(refused, Err(AttestationError::Assertion("type or algorithm")), "{key} {value}");
    }
}

#[test]
fn another_key_and_a_changed_octet_are_refused() {
    assert_eq!(check(&signed(&header(), &body(), 2)), Err(AttestationError::Signature));
    let honest = signed(&header(), &body(), 1);
    for at in 0..honest.len() {
        let mut changed = honest.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(check(std::str::from_utf8(&changed).unwrap()).is_err(), "{at}");
    }
}

/// Refuse 18: the same claims in other octets, with one that nobody knows, are as good; and signed is what was sent.
#[test]
fn what_is_verified_is_the_octets_that_were_sent() {
    let anew = body().to_string();
    let sent = anew.replacen("\"iss\":", " \"\\u0069ss\" : ", 1).replacen('{', "{\"note\":1,\n", 1);
    let part = |json: &str| format!("{}.{}", text(&header()), BASE64_URL_SAFE_NO_PAD.encode(json));
    let assertion = |signed: &str| {
        let signature = BASE64_URL_SAFE_NO_PAD.encode(pair(1).sign(part(signed).as_bytes()));
        check(&format!("{}.{signature}", part(&sent)))
    };
    assert!(assertion(&sent).is_ok());
    assert_eq!(assertion(&anew).err(), Some(AttestationError::Signature));
}

#[test]
fn what_is_no_compact_jws_is_refused() {
    let honest = signed(&header(), &body(), 1);
    let parts: Vec<&str> = honest.split('.').collect();
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    for wrong in ["", ".", "..", "...", &unsigned, &honest[1..], &format!("{honest}="), &format!("{honest}.")] {
        assert!(check(wrong).is_err(), "{wrong}");
    }
    assert_eq!(check(&"a".repeat(4097)), Err(AttestationError::Malformed));
    // Said twice: which one counts would be a matter of taste.
    let twice = body().to_string().replacen('{', r#"{"iss":"pump-8","#, 1);
    let signed = format!("{}.{}", text(&header()), BASE64_URL_SAFE_NO_PAD.encode(twice));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(pair(1).sign(signed.as_bytes()));
    assert_eq!(check(&format!("{signed}.{signature}")), Err(AttestationError::Malformed));
}

#[test]
fn a_header_or_claims_that_are_no_object_are_refused_and_so_is_null_where_nothing_may_be() {
    let whole = check(&signed(&header(), &body(), 1));
    assert!(whole.is_ok(), "{whole:?}");
    let claims = body();
    let values = |names: &[&str]| -> Value { names.iter().map(|name| claims[*name].clone()).collect() };
    for array in [
        values(&["iss", "sub", "aud", "iat", "exp", "nbf", "jti", "binding"]),
        values(&["iss", "sub", "aud", "iat", "exp", "jti", "binding"]),
        json!([claims]),
    ] {
        assert_eq!(check(&signed(&header(), &array, 1)), Err(AttestationError::Malformed), "{array}");
    }
    for array in [json!(["EdDSA", TYPE]), json!(["EdDSA", TYPE, null, null])] {
        assert_eq!(check(&signed(&array, &body(), 1)), Err(AttestationError::Malformed), "{array}");
    }
    for name in ["crit", "b64"] {
        for value in [Value::Null, json!([]), json!(false)] {
            let mut header = header();
            header[name] = value;
            let refused = check(&signed(&header, &body(), 1));
            assert_eq!(refused, Err(AttestationError::Assertion("type or algorithm")), "{header}");
        }
    }
    assert_eq!(with("nbf", Value::Null), Err(AttestationError::Malformed));
}

#[test]
fn members_that_nobody_reads_are_json_as_well() {
    let sign = |header: &[u8], body: &[u8]| {
        let signed = [header, body].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = BASE64_URL_SAFE_NO_PAD.encode(pair(1).sign(signed.as_bytes()));
        check(&format!("{signed}.{signature}")).map(|_| ())
    };
    let deep = ["[".repeat(200), "]".repeat(200)].concat();
    let others: [(&[u8], bool); 5] =
        [(b"\"k\"", true), (b"\"\xf8\"", false), (br#""\ud800""#, false), (b"1e999", false), (deep.as_bytes(), false)];
    for (other, is_json) in others {
        let with_it = |part: &Value| {
            let text = part.to_string();
            [text.trim_end_matches('}').as_bytes(), b",\"other\":", other, b"}"].concat()
        };
        let (head, claims) = (header().to_string(), body().to_string());
        let expected = if is_json { Ok(()) } else { Err(AttestationError::Malformed) };
        assert_eq!(sign(&with_it(&header()), claims.as_bytes()), expected, "{other:?}");
        assert_eq!(sign(head.as_bytes(), &with_it(&body())), expected, "{other:?}");
    }
}
