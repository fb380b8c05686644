//! Which pinned roots a chain leads to, by whatever way.
//!
//! Whoever sends a chain decides what is in it. So what depends on which roots it leads to, and to which it doesn't, must
//! not change with a certificate that was left out, one that was put in, a date, or a ban. Here a way is names and
//! signatures and nothing else, and what is pinned anywhere fills the gaps of what was sent. That is more than
//! [`verify`](super::verify) would take, and never less: it says who may be meant, and lets nobody in.

use std::collections::{BTreeMap, BTreeSet};

use der::asn1::BitStringRef;
use der::{Decode, Reader, SliceReader, Tag};
use rustls_pki_types::SignatureVerificationAlgorithm;

use super::{ALGORITHMS, ChainError, bounded};

/// A root, whatever certificate it stands in: its name, and its SubjectPublicKeyInfo (both DER).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Anchor {
    name: Vec<u8>,
    key: Vec<u8>,
}

/// All roots that somebody has pinned, as they are read once for many chains.
#[derive(Clone, Debug, Default)]
pub struct Pinned(Vec<Link>);

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The roots that the chain leads to.
    pub anchors: BTreeSet<Anchor>,
    /// How many signatures were looked at for it.
    pub signatures: usize,
}

impl Pinned {
    /// Takes root certificates (DER).
    pub fn read<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ChainError> {
        let once: BTreeSet<_> = certificates.into_iter().collect();
        once.into_iter().map(Link::read).collect::<Result<_, _>>().map(Self)
    }

    /// Each root.
    pub fn anchors(&self) -> impl Iterator<Item = &Anchor> {
        self.0.iter().map(|link| &link.anchor)
    }

    /// Follows a chain (DER, its leaf first) to every root that can be reached from its leaf. Each signature is looked at
    /// once, and only by keys of the name that it says.
    pub fn reached(&self, chain: &[Vec<u8>]) -> Result<Reached, ChainError> {
        bounded(chain)?;
        let sent = chain.iter().map(|der| Link::read(der)).collect::<Result<Vec<_>, _>>()?;
        let issuers: Vec<&Link> = sent.iter().chain(&self.0).collect();
        let mut reached = Reached::default();
        let mut visited = vec![false; issuers.len()];
        let mut known = BTreeMap::new();
        let mut open = vec![0];
        visited[0] = true;
        while let Some(at) = open.pop() {
            for (next, issuer) in issuers.iter().enumerate() {
                if visited[next] || issuer.anchor.name != issuers[at].issuer {
                    continue;
                }
                // Certificates of one key are ways of their own, but what the key has signed it has signed once.
                let holds = *known.entry((at, &issuer.anchor.key)).or_insert_with(|| {
                    reached.signatures += 1;
                    issuers[at].is_signed_by(issuer)
                });
                if holds {
                    visited[next] = true;
                    open.push(next);
                }
            }
        }
        let pinned = self.0.iter().zip(&visited[sent.len()..]).filter(|(_, visited)| **visited);
        reached.anchors = pinned.map(|(link, _)| link.anchor.clone()).collect();
        Ok(reached)
    }
}

/// A certificate, as far as it links others. Octets as they stand there: what is verified is what was read.
#[derive(Clone, Debug)]
struct Link {
    anchor: Anchor,
    issuer: Vec<u8>,
    signed: Vec<u8>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
}

impl Link {
    fn read(certificate: &[u8]) -> Result<Self, ChainError> {
        Self::parse(certificate).map_err(|_| ChainError::Malformed)
    }

    fn parse(certificate: &[u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(certificate)?;
        let (signed, algorithm, signature) = reader.sequence(|fields| -> der::Result<_> {
            let (signed, algorithm) = (fields.tlv_bytes()?, fields.tlv_bytes()?);
            Ok((signed, algorithm, <BitStringRef<'_>>::decode(fields)?))
        })?;
        reader.finish()?;
        let mut reader = SliceReader::new(signed)?;
        let (issuer, name, key) = reader.sequence(|fields| -> der::Result<_> {
            // The version, which the first one had not; the serial number; the signature's algorithm once more.
            if Tag::peek(fields)?.is_context_specific() {
                fields.tlv_bytes()?;
            }
            let _serial = (fields.tlv_bytes()?, fields.tlv_bytes()?);
            let issuer = fields.tlv_bytes()?;
            let _validity = fields.tlv_bytes()?;
            let found = (issuer, fields.tlv_bytes()?, fields.tlv_bytes()?);
            // What follows is extensions.
            while !fields.is_finished() {
                fields.tlv_bytes()?;
            }
            Ok(found)
        })?;
        Ok(Self {
            anchor: Anchor { name: name.to_vec(), key: key.to_vec() },
            issuer: issuer.to_vec(),
            signed: signed.to_vec(),
            algorithm: content(algorithm)?,
            signature: signature.as_bytes().ok_or(der::ErrorKind::Failed)?.to_vec(),
        })
    }

    fn is_signed_by(&self, issuer: &Link) -> bool {
        let Ok((kind, key)) = key_of(&issuer.anchor.key) else { return false };
        let fits = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm && algorithm.public_key_alg_id().as_ref() == kind
        };
        let algorithm = ALGORITHMS.iter().find(fits);
        algorithm.is_some_and(|algorithm| algorithm.verify_signature(&key, &self.signed, &self.signature).is_ok())
    }
}

/// The algorithm of a SubjectPublicKeyInfo, and its key.
fn key_of(spki: &[u8]) -> der::Result<(Vec<u8>, Vec<u8>)> {
    let mut reader = SliceReader::new(spki)?;
    let (kind, key) = reader
        .sequence(|fields| -> der::Result<_> { Ok((fields.tlv_bytes()?, <BitStringRef<'_>>::decode(fields)?)) })?;
    reader.finish()?;
    Ok((content(kind)?, key.as_bytes().ok_or(der::ErrorKind::Failed)?.to_vec()))
}

/// What is in a SEQUENCE.
fn content(sequence: &[u8]) -> der::Result<Vec<u8>> {
    let any = der::asn1::AnyRef::from_der(sequence)?;
    if der::Tagged::tag(&any) == Tag::Sequence { Ok(any.value().to_vec()) } else { Err(der::ErrorKind::Failed.into()) }
}
