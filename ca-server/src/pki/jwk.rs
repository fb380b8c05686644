//! JSON Web Keys (RFC 7517, RFC 8037): public keys as operators get them from makers of devices, and their thumbprints
//! (RFC 7638).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use const_oid::db::rfc5912::{RSA_ENCRYPTION, SECP_384_R_1};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, de::IgnoredAny};

use super::encode::{BIT_STRING, Der, SEQUENCE};
use super::key::{KeyError, KeyKind, PublicKey};
use crate::identity::Thumbprint;

/// The id-ecPublicKey of RFC 5480.
const EC_PUBLIC_KEY: const_oid::ObjectIdentifier = const_oid::ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// Why a text is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwkError {
    /// Neither a JWK nor a JWK set.
    #[error("neither a JWK nor a JWK set in JSON")]
    Json,
    /// Private, symmetric or of a kind that is not taken.
    #[error("not a public key of a kind that is taken: EC with P-256 or P-384, OKP with Ed25519, RSA")]
    Kind,
    /// It has a private part, which belongs on the device.
    #[error("this is a private key: it belongs on the device, and its public half here")]
    Private,
    /// The key itself.
    #[error(transparent)]
    Key(#[from] KeyError),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    Set { keys: Vec<Jwk> },
    One(Jwk),
}

/// What matters of a JWK. What else it says (`use`, `kid`, …) is its owner's business.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    oth: Option<IgnoredAny>,
}

/// Reads a JWK or a JWK set.
pub fn from_jwk(json: &str) -> Result<Vec<PublicKey>, JwkError> {
    match serde_json::from_str(json).map_err(|_| JwkError::Json)? {
        File::Set { keys } => keys.iter().map(Jwk::key).collect(),
        File::One(key) => Ok(vec![key.key()?]),
    }
}

impl Jwk {
    fn key(&self) -> Result<PublicKey, JwkError> {
        let private = [&self.d, &self.k, &self.p, &self.q, &self.dp, &self.dq, &self.qi, &self.oth];
        if private.into_iter().any(Option::is_some) {
            return Err(JwkError::Private);
        }
        let octets = |text: &Option<String>| {
            let text = text.as_deref().ok_or(JwkError::Kind)?;
            BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| JwkError::Kind)
        };
        let sized =
            |text: &Option<String>, length| octets(text).ok().filter(|it| it.len() == length).ok_or(JwkError::Kind);
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some("P-256")) => {
                let point = [vec![4], sized(&self.x, 32)?, sized(&self.y, 32)?].concat();
                Ok(PublicKey::from_p256_point(&point)?)
            }
            ("EC", Some("P-384")) => {
                let point = [vec![4], sized(&self.x, 48)?, sized(&self.y, 48)?].concat();
                Ok(PublicKey::from_spki_der(&Der::build(SEQUENCE, |spki| {
                    spki.nest(SEQUENCE, |algorithm| {
                        algorithm.oid(&EC_PUBLIC_KEY);
                        algorithm.oid(&SECP_384_R_1);
                    });
                    spki.primitive(BIT_STRING, &[&[0][..], &point].concat());
                }))?)
            }
            ("OKP", Some("Ed25519")) => {
                let raw: [u8; 32] = sized(&self.x, 32)?.try_into().map_err(|_| JwkError::Kind)?;
                Ok(PublicKey::from_ed25519(&raw)?)
            }
            ("RSA", _) => {
                let (modulus, exponent) = (octets(&self.n)?, octets(&self.e)?);
                let key = Der::build(SEQUENCE, |key| {
                    key.unsigned(&modulus);
                    key.unsigned(&exponent);
                });
                Ok(PublicKey::from_spki_der(&Der::build(SEQUENCE, |spki| {
                    spki.nest(SEQUENCE, |algorithm| {
                        algorithm.oid(&RSA_ENCRYPTION);
                        algorithm.raw(&[5, 0]);
                    });
                    spki.primitive(BIT_STRING, &[&[0][..], &key].concat());
                }))?)
            }
            _ => Err(JwkError::Kind),
        }
    }
}

impl PublicKey {
    /// SHA-256 of its JWK form with the members that RFC 7638 asks for, in their order.
    pub fn thumbprint(&self) -> Thumbprint {
        let text = |octets: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(octets);
        let ec = |curve: &str| {
            let (x, y) = self.raw()[1..].split_at((self.raw().len() - 1) / 2);
            format!(r#"{{"crv":"{curve}","kty":"EC","x":"{}","y":"{}"}}"#, text(x), text(y))
        };
        let json = match self.kind() {
            KeyKind::P256 => ec("P-256"),
            KeyKind::P384 => ec("P-384"),
            KeyKind::Ed25519 => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, text(self.raw())),
            KeyKind::Rsa => {
                let (modulus, exponent) = self.rsa().unwrap_or_default();
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(&exponent), text(&modulus))
            }
        };
        let mut octets = [0; 32];
        octets.copy_from_slice(digest(&SHA256, json.as_bytes()).as_ref());
        Thumbprint::from_bytes(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7638, section 3.1.
    const RSA: &str = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
    /// RFC 8037, appendix A.
    const ED25519: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    /// RFC 7517, appendix A.1.
    const P256: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"}"#;

    #[test]
    fn thumbprints_are_those_of_the_rfcs() {
        for (json, expected) in [
            (RSA, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
            (ED25519, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
        ] {
            assert_eq!(from_jwk(json).unwrap()[0].thumbprint().to_string(), expected);
        }
    }

    #[test]
    fn a_set_is_read_in_its_order() {
        let keys = from_jwk(&format!(r#"{{"keys":[{P256},{ED25519}]}}"#)).unwrap();
        assert_eq!(keys.iter().map(PublicKey::kind).collect::<Vec<_>>(), [KeyKind::P256, KeyKind::Ed25519]);
    }

    #[test]
    fn private_and_symmetric_keys_are_refused_and_so_is_what_is_none() {
        let private = ED25519.replace("}", r#","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}"#);
        assert_eq!(from_jwk(&private), Err(JwkError::Private));
        assert_eq!(from_jwk(r#"{"kty":"oct","k":"AAAA"}"#), Err(JwkError::Private));
        // An RSA key is as good as told by one of its primes.
        for member in ["p", "q", "dp", "dq", "qi", "oth"] {
            let told = format!(r#"{{"kty":"RSA","n":"AQAB","e":"AQAB","{member}":"AQAB"}}"#);
            assert_eq!(from_jwk(&told), Err(JwkError::Private), "{member}");
        }
        assert_eq!(from_jwk(&P256.replace("P-256", "P-521")), Err(JwkError::Kind));
        assert_eq!(from_jwk(&P256.replace("MKBC", "")), Err(JwkError::Kind));
        assert_eq!(from_jwk("{}"), Err(JwkError::Json));
        assert_eq!(from_jwk(""), Err(JwkError::Json));
    }
}
