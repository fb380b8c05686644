//! Join tokens: a one-time Ed25519 private key as one line of text. The CA knows the public half only, so its store
//! holds nothing with which to enroll.
//!
//! `fleetca-join-<id>.<seed>.<checksum>`: the ID is the first 16 hexadecimal digits of SHA-256 of the public key, the
//! seed 32 bytes in unpadded base64url, the checksum the first 8 hexadecimal digits of SHA-256 of all before the last
//! dot. The checksum finds slips of the hand; it proves nothing.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair},
};
use zeroize::Zeroizing;

use crate::certificate::hex;

const PREFIX: &str = "fleetca-join-";

/// Why a text is no join token. Never holds the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It doesn't begin as a join token does.
    #[error("a join token begins with fleetca-join-")]
    Prefix,
    /// A part is missing, or is none of its alphabet or length.
    #[error("the join token is damaged or cut off: copy it again")]
    Shape,
    /// The checksum doesn't fit the rest.
    #[error("the join token was copied wrongly (its checksum differs): copy it again")]
    Checksum,
    /// The ID isn't that of the key.
    #[error("the join token's ID does not belong to its key")]
    Id,
    /// The system has no randomness to give.
    #[error("no randomness available")]
    Random,
}

/// A join token: whoever holds its text can enroll with it, once.
///
/// ```
/// use enroll_client::attester::token::JoinToken;
/// let token = JoinToken::generate()?;
/// let copy = JoinToken::parse(&token.text())?;
/// assert_eq!(copy.id(), token.id());
/// assert_eq!(copy.public_key(), token.public_key());
/// # Ok::<(), enroll_client::attester::token::TokenError>(())
/// ```
pub struct JoinToken {
    id: String,
    seed: Zeroizing<[u8; 32]>,
    key: Ed25519KeyPair,
}

impl JoinToken {
    /// A new token, from the system's randomness.
    pub fn generate() -> Result<Self, TokenError> {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(seed.as_mut()).map_err(|_| TokenError::Random)?;
        Self::from_seed(seed)
    }

    /// Reads a token's text. White space around it is no part of it.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let rest = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let (before, _) = text.rsplit_once('.').ok_or(TokenError::Shape)?;
        let mut parts = rest.split('.');
        let (Some(id), Some(seed_text), Some(checksum), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Shape);
        };
        if checksum != checksum_of(before) {
            return Err(TokenError::Checksum);
        }
        let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(seed_text).map_err(|_| TokenError::Shape)?);
        let mut seed = Zeroizing::new([0; 32]);
        if decoded.len() != seed.len() {
            return Err(TokenError::Shape);
        }
        seed.copy_from_slice(&decoded);
        let token = Self::from_seed(seed)?;
        if token.id == id { Ok(token) } else { Err(TokenError::Id) }
    }

    /// The token as one line of text: a secret.
    pub fn text(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.seed.as_ref()));
        let mut text = Zeroizing::new(format!("{PREFIX}{}.{}", self.id, seed.as_str()));
        let checksum = checksum_of(&text);
        text.push('.');
        text.push_str(&checksum);
        text
    }

    /// The public ID: 16 lower-case hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public half, which the CA keeps.
    pub fn public_key(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.key.public_key().as_ref());
        bytes
    }

    /// Ed25519 over `message`, 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).as_ref().to_vec()
    }

    fn from_seed(seed: Zeroizing<[u8; 32]>) -> Result<Self, TokenError> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|_| TokenError::Shape)?;
        let id = hex(&digest(&SHA256, key.public_key().as_ref()).as_ref()[..8]);
        Ok(Self { id, seed, key })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).finish_non_exhaustive()
    }
}

fn checksum_of(text: &str) -> String {
    hex(&digest(&SHA256, text.as_bytes()).as_ref()[..4])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_text_has_the_documented_form() {
        let token = JoinToken::from_seed(Zeroizing::new([7; 32])).unwrap();
        assert_eq!(
            token.text().as_str(),
            format!("fleetca-join-{}.BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc.{}", token.id(), {
                checksum_of(&format!("fleetca-join-{}.BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc", token.id()))
            })
        );
        assert_eq!(token.id(), hex(&digest(&SHA256, &token.public_key()).as_ref()[..8]));
    }

    #[test]
    fn its_signature_verifies_under_its_public_key() {
        let token = JoinToken::generate().unwrap();
        let signature = token.sign(b"transcript");
        assert!(UnparsedPublicKey::new(&ED25519, token.public_key()).verify(b"transcript", &signature).is_ok());
    }

    #[test]
    fn debug_tells_the_id_only() {
        let token = JoinToken::from_seed(Zeroizing::new([7; 32])).unwrap();
        assert_eq!(format!("{token:?}"), format!("JoinToken {{ id: \"{}\", .. }}", token.id()));
    }

    #[test]
    fn another_id_with_a_right_checksum_is_refused() {
        let token = JoinToken::from_seed(Zeroizing::new([7; 32])).unwrap();
        let text = token.text().replace(token.id(), "0123456789abcdef");
        let before = text.rsplit_once('.').unwrap().0;
        assert_eq!(JoinToken::parse(&format!("{before}.{}", checksum_of(before))).unwrap_err(), TokenError::Id);
    }

    #[test]
    fn a_part_more_or_less_is_refused_though_the_checksum_is_right() {
        let text = JoinToken::from_seed(Zeroizing::new([7; 32])).unwrap().text();
        let before = text.rsplit_once('.').unwrap().0;
        for before in [format!("{before}.more"), format!("{before}."), before.rsplit_once('.').unwrap().0.to_owned()] {
            let text = format!("{before}.{}", checksum_of(&before));
            assert_eq!(JoinToken::parse(&text).unwrap_err(), TokenError::Shape, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seed: [u8; 32]) {
            let token = JoinToken::from_seed(Zeroizing::new(seed)).unwrap();
            let read = JoinToken::parse(&format!(" {}\n", token.text().as_str())).unwrap();
            prop_assert_eq!(read.public_key(), token.public_key());
        }

        #[test]
        fn a_changed_character_is_noticed(at in 0usize..81, to in "[A-Za-z0-9_-]") {
            let mut text = JoinToken::from_seed(Zeroizing::new([7; 32])).unwrap().text().to_string();
            prop_assume!(at < text.len() && text[at..=at] != to);
            text.replace_range(at..=at, &to);
            prop_assert!(JoinToken::parse(&text).is_err());
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "(fleetca-join-)?.*") {
            let _ = JoinToken::parse(&text);
        }
    }
}
