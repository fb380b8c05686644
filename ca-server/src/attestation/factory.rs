//! Method `factory`: an IDevID (IEEE 802.1AR), the key and certificate that a device's maker put in.
//!
//! Freshness: the challenge's nonce, in the transcript that the IDevID's key signs. Key binding: the transcript covers
//! `Start`, and so the CSR. Who it is: the serial number, together with the key of whoever issued the IDevID by the path
//! that was verified. Never the common name, and never without the issuer: two makers number alike.

use std::collections::BTreeSet;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP, ID_KP_CLIENT_AUTH};
use der::asn1::{OctetStringRef, PrintableStringRef, Utf8StringRef};
use der::{Decode, Encode, Reader, SliceReader};
use fleetca_proto::transcript::{Role, enrollment};
use x509_cert::Certificate;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName, name::GeneralName};

use super::chain::{self, Leaf, Roots, Rules, Validity};
use super::{AttestationError, Claims};
use crate::identity::{HardwareId, KeyFingerprint, Timestamp, hex};
use crate::inventory::fleet::{Method, Tier};
use crate::pki::PublicKey;

/// Attribute serialNumber of a subject.
const SERIAL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.5");
/// otherName hardwareModuleName (RFC 4108, section 5).
const HARDWARE_MODULE_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.8.4");

/// What an IDevID's chain is held against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The makers' roots that are pinned.
    pub roots: &'a Roots,
    /// At which time the chain is judged.
    pub validity: Validity,
    /// Keys that are refused wherever they are in it.
    pub banned: &'a BTreeSet<KeyFingerprint>,
}

/// An IDevID that leads to a root.
#[derive(Debug)]
pub struct Identified {
    /// Which device it is, of which maker.
    pub id: HardwareId,
    /// The IDevID's key.
    pub key: PublicKey,
    /// Its certificate, or that of a CA above it, says that it is for something else than to speak for a device: it is a web
    /// server's, it signs code.
    pub is_for_something_else: bool,
}

/// Verifies a chain (DER: the IDevID, then what leads to a root), and says whose it is. Bounded before any signature is
/// looked at. That the device holds the key is not proven by it: see [`verify`].
pub fn identify(chain: &[Vec<u8>], expected: Expected<'_>, now: Timestamp) -> Result<Identified, AttestationError> {
    let Expected { roots, validity, banned } = expected;
    let rules = Rules { roots, leaf: Leaf::FactoryIdentity, validity, banned };
    let verified = chain::verify(chain, &rules, now).map_err(AttestationError::Chain)?;
    let malformed = AttestationError::Malformed;
    let serial = serial_of(verified.leaf()).ok_or(malformed)?;
    let id = HardwareId::of_idevid(*verified.issuer_key().as_bytes(), &serial).map_err(|_| malformed)?;
    let spki = verified.leaf().tbs_certificate().subject_public_key_info().to_der().map_err(|_| malformed)?;
    let key = PublicKey::from_spki_der(&spki).map_err(|_| malformed)?;
    let others = std::iter::once(verified.leaf()).chain(verified.issuers()).map(is_for_something_else);
    let others = others.collect::<Option<Vec<_>>>().ok_or(malformed)?;
    Ok(Identified { id, key, is_for_something_else: others.contains(&true) })
}

/// How many characters of a text that nobody has verified are told.
const MOST_TOLD: usize = 100;

/// What an IDevID says of itself, for people: nothing of it is verified. Bounded and printable.
pub fn claimed(chain: &[Vec<u8>]) -> String {
    let leaf = chain.first().filter(|der| der.len() <= chain::LONGEST_CERTIFICATE);
    let Some(leaf) = leaf.and_then(|der| Certificate::from_der(der).ok()) else { return "an unreadable IDevID".into() };
    let told = |text: &str| text.escape_default().take(MOST_TOLD).collect::<String>();
    let serial = serial_of(&leaf).map_or_else(|| "none".to_owned(), |serial| format!("\"{}\"", told(&serial)));
    let issuer = told(&leaf.tbs_certificate().issuer().to_string());
    format!("an IDevID with serial number {serial}, issued by \"{issuer}\"")
}

/// Whether a certificate's purposes are others, of those that everybody knows. An IDevID has none, or its maker's own; a CA
/// that has some makes certificates for these and nothing else.
fn is_for_something_else(certificate: &Certificate) -> Option<bool> {
    let Some((_, purposes)) = certificate.tbs_certificate().get_extension::<ExtendedKeyUsage>().ok()? else {
        return Some(false);
    };
    let fits = |purpose: &ObjectIdentifier| [ID_KP_CLIENT_AUTH, ANY_EXTENDED_KEY_USAGE].contains(purpose);
    let known = |purpose: &ObjectIdentifier| purpose.parent() == Some(ID_KP);
    Some(purposes.0.iter().any(known) && !purposes.0.iter().any(fits))
}

/// Verifies the evidence signature: by the IDevID's key over the enrollment transcript with role `evidence`. `start` and
/// `challenge` are the serialized messages as they travelled.
pub fn verify(
    start: &[u8],
    challenge: &[u8],
    signature: &[u8],
    identified: &Identified,
) -> Result<Claims, AttestationError> {
    let signed = enrollment(Method::Factory.as_str(), Role::Evidence, start, challenge);
    identified.key.verify(&signed, signature).map_err(|_| AttestationError::Signature)?;
    Ok(Claims { method: Method::Factory, tier: Tier::Factory, identity: identified.id.to_string() })
}

/// What a hardware module's name begins with, and no serial number: the two must never be one identity.
const MODULE: &str = "hw:";

/// The subject's serial number; else the hardware module's, as `hw:TYPE:SERIAL` with the serial in hexadecimal.
fn serial_of(leaf: &Certificate) -> Option<String> {
    let tbs = leaf.tbs_certificate();
    let attributes = tbs.subject().iter().filter(|attribute| attribute.oid == SERIAL_NUMBER);
    let mut serials = attributes.map(|attribute| {
        let value = attribute.value.to_der().ok()?;
        let printable = PrintableStringRef::from_der(&value).ok().map(|text| text.as_str().to_owned());
        printable.or_else(|| Utf8StringRef::from_der(&value).ok().map(|text| text.as_str().to_owned()))
    });
    match (serials.next(), serials.next()) {
        (None, _) => module_name(leaf),
        (Some(serial), None) => serial.filter(|serial| !serial.starts_with(MODULE)),
        // Two numbers: which one counts would be a matter of taste.
        (Some(_), Some(_)) => None,
    }
}

fn module_name(leaf: &Certificate) -> Option<String> {
    let (_, names) = leaf.tbs_certificate().get_extension::<SubjectAltName>().ok()??;
    let mut modules = names.0.iter().filter_map(|name| match name {
        GeneralName::OtherName(name) if name.type_id == HARDWARE_MODULE_NAME => Some(&name.value),
        _ => None,
    });
    let (Some(value), None) = (modules.next(), modules.next()) else { return None };
    let der = value.to_der().ok()?;
    let mut reader = SliceReader::new(&der).ok()?;
    let parts = reader.sequence(|fields| -> der::Result<(ObjectIdentifier, Vec<u8>)> {
        Ok((fields.decode()?, <&OctetStringRef>::decode(fields)?.as_bytes().to_vec()))
    });
    let (kind, serial) = parts.ok()?;
    reader.finish().ok()?;
    let serial = hex(&serial);
    Some(format!("{MODULE}{kind}:{serial}"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn what_an_unverified_certificate_says_is_told_bounded_and_escaped() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), "\u{1b}[31m\n\"ä".repeat(100));
        params.distinguished_name.push(DnType::CommonName, "\u{1b}]0;\u{7}".repeat(100));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        let told = claimed(&[certificate]);
        assert!(told.len() < 300 && told.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{told}");
        assert!(told.starts_with("an IDevID with serial number \"\\u{1b}[31m"), "{told}");
        for unreadable in [&[][..], &[vec![]], &[vec![0x30; 9000]]] {
            assert_eq!(claimed(unreadable), "an unreadable IDevID");
        }
    }
}
