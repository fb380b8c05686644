//! The frame that certificates, CRLs and requests share: what is signed, with which algorithm, the signature.

use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, BitStringRef};
use der::{Decode, Reader, SliceReader, Tag, TagMode, TagNumber};
use spki::AlgorithmIdentifierRef;
use x509_cert::time::Time;

use super::encode::{BIT_STRING, SEQUENCE, header};
use super::key::{BadSignature, PublicKey};
use super::signature::SignatureAlgorithm;
use crate::identity::Timestamp;

/// The parts of something signed, as slices of it. Strict DER, nothing behind it.
pub(super) struct Signed<'a> {
    /// What is signed (DER, tag and length included).
    pub(super) content: &'a [u8],
    pub(super) algorithm: AlgorithmIdentifierRef<'a>,
    pub(super) signature: BitStringRef<'a>,
}

impl<'a> Signed<'a> {
    pub(super) fn read(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let signed = reader.sequence(|fields| -> der::Result<Self> {
            Ok(Self { content: fields.tlv_bytes()?, algorithm: fields.decode()?, signature: fields.decode()? })
        })?;
        reader.finish()?;
        Ok(signed)
    }

    /// Verifies the signature under `key`, with the algorithm that is named, if it is one of ours.
    pub(super) fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        let algorithm = SignatureAlgorithm::read(&self.algorithm).map_err(|_| BadSignature)?;
        key.verify_as(algorithm, self.content, self.signature.as_bytes().ok_or(BadSignature)?)
    }
}

/// Puts a signature to what it signs.
pub(super) fn assemble(content: &[u8], algorithm: SignatureAlgorithm, signature: &[u8]) -> Vec<u8> {
    let mut fields = Vec::with_capacity(content.len() + signature.len() + 32);
    fields.extend_from_slice(content);
    append_signature(&mut fields, algorithm, signature);
    let (header, length) = header(SEQUENCE, fields.len());
    [&header[..length], &fields].concat()
}

/// Writes the algorithm and the signature behind what is signed.
pub(super) fn append_signature(content: &mut Vec<u8>, algorithm: SignatureAlgorithm, signature: &[u8]) {
    content.extend_from_slice(algorithm.identifier());
    let (header, length) = header(BIT_STRING, signature.len() + 1);
    content.extend_from_slice(&header[..length]);
    content.push(0);
    content.extend_from_slice(signature);
}

/// The fields of a TBSCertificate, as slices of it.
pub(super) struct TbsCertificate<'a> {
    /// The serial's INTEGER, without tag and length.
    pub(super) serial: &'a [u8],
    pub(super) algorithm: AlgorithmIdentifierRef<'a>,
    /// Issuer's Name (DER).
    pub(super) issuer: &'a [u8],
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// Subject's Name (DER).
    pub(super) subject: &'a [u8],
    /// SubjectPublicKeyInfo (DER).
    pub(super) spki: &'a [u8],
    extensions: Vec<Extension<'a>>,
}

/// One extension of a certificate.
pub(super) struct Extension<'a> {
    pub(super) oid: ObjectIdentifier,
    pub(super) critical: bool,
    value: &'a [u8],
}

impl<'a> TbsCertificate<'a> {
    /// Reads a TBSCertificate of version 3, without unique identifiers.
    pub(super) fn read(tbs: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(tbs)?;
        let certificate = reader.sequence(|fields| -> der::Result<Self> {
            let version = fields.context_specific::<u8>(TagNumber(0), TagMode::Explicit)?;
            if version != Some(2) {
                return Err(Tag::Integer.value_error().into());
            }
            let serial = AnyRef::decode(fields)?;
            serial.header().tag().assert_eq(Tag::Integer)?;
            let algorithm = fields.decode()?;
            let issuer = fields.tlv_bytes()?;
            let (not_before, not_after) =
                fields.sequence(|dates| Ok::<_, der::Error>((Time::decode(dates)?, Time::decode(dates)?)))?;
            let (subject, spki) = (fields.tlv_bytes()?, fields.tlv_bytes()?);
            let extensions = AnyRef::decode(fields)?;
            extensions.header().tag().assert_eq(Tag::ContextSpecific { constructed: true, number: TagNumber(3) })?;
            Ok(Self {
                serial: serial.value(),
                algorithm,
                issuer,
                not_before: timestamp(not_before),
                not_after: timestamp(not_after),
                subject,
                spki,
                extensions: read_extensions(extensions.value())?,
            })
        })?;
        reader.finish()?;
        Ok(certificate)
    }

    /// The value of an extension, decoded; none where it is missing.
    pub(super) fn extension<T: Decode<'a, Error = der::Error>>(&self, oid: ObjectIdentifier) -> der::Result<Option<T>> {
        let found = self.extensions.iter().find(|extension| extension.oid == oid);
        found.map(|extension| T::from_der(extension.value)).transpose()
    }

    /// Its extensions, in their order.
    pub(super) fn extensions(&self) -> &[Extension<'a>] {
        &self.extensions
    }
}

/// Reads Extensions; one that is there twice is refused, and so is a default that is written down.
fn read_extensions(der: &[u8]) -> der::Result<Vec<Extension<'_>>> {
    let mut reader = SliceReader::new(der)?;
    let extensions = reader.sequence(|list| -> der::Result<_> {
        let mut extensions: Vec<Extension<'_>> = Vec::with_capacity(8);
        while !list.is_finished() {
            let extension = list.sequence(|fields| -> der::Result<_> {
                let oid: ObjectIdentifier = fields.decode()?;
                let critical: Option<bool> = fields.decode()?;
                if critical == Some(false) {
                    return Err(Tag::Boolean.value_error().into());
                }
                let value = AnyRef::decode(fields)?;
                value.header().tag().assert_eq(Tag::OctetString)?;
                Ok(Extension { oid, critical: critical.is_some(), value: value.value() })
            })?;
            if extensions.iter().any(|other| other.oid == extension.oid) {
                return Err(Tag::Sequence.value_error().into());
            }
            extensions.push(extension);
        }
        Ok(extensions)
    })?;
    reader.finish()?;
    Ok(extensions)
}

/// A Time as a point in time.
pub(super) fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_secs(time.to_unix_duration().as_secs() as i64)
}
