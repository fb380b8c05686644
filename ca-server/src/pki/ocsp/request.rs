//! Reads what a stranger asks: bounded, strict DER, and never more than is needed.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::{ID_SHA_1, ID_SHA_256};
use const_oid::db::rfc6960::ID_PKIX_OCSP_NONCE;
use der::asn1::{AnyRef, OctetStringRef};
use der::{Decode, Reader, SliceReader, Tag};
use spki::AlgorithmIdentifierRef;

use super::IdHash;
use crate::identity::SerialNumber;
use crate::pki::encode::context_constructed;

/// The longest request that is read, in octets.
pub const LONGEST_OCSP_REQUEST: usize = 4096;
/// How many certificates may be asked for at once.
pub const MOST_CERT_IDS: usize = 16;
/// The longest nonce (RFC 9654, section 2.1).
const LONGEST_NONCE: usize = 128;

/// Not a request that is answered: to be told as malformedRequest, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an OCSP request of version 1 in DER, or one beyond its bounds")]
pub struct BadOcspRequest;

/// For whom is asked: CertID (section 4.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertId {
    der: Vec<u8>,
    /// `None`: a hash function that nobody is named by here.
    pub(super) hash: Option<IdHash>,
    pub(super) name_hash: Vec<u8>,
    pub(super) key_hash: Vec<u8>,
    serial: Option<SerialNumber>,
}

impl CertId {
    fn read<'a>(fields: &mut SliceReader<'a>) -> der::Result<Self> {
        let der = fields.tlv_bytes()?;
        let mut reader = SliceReader::new(der)?;
        reader.sequence(|fields| -> der::Result<Self> {
            let algorithm: AlgorithmIdentifierRef<'a> = fields.decode()?;
            let name_hash: &OctetStringRef = fields.decode()?;
            let key_hash: &OctetStringRef = fields.decode()?;
            let serial = AnyRef::decode(fields)?;
            serial.header().tag().assert_eq(Tag::Integer)?;
            let parameters_fit = algorithm.parameters.is_none_or(AnyRef::is_null);
            let hash = match algorithm.oid {
                ID_SHA_1 if parameters_fit => Some(IdHash::Sha1),
                ID_SHA_256 if parameters_fit => Some(IdHash::Sha256),
                _ => None,
            };
            Ok(Self {
                der: der.to_vec(),
                hash,
                name_hash: name_hash.as_bytes().to_vec(),
                key_hash: key_hash.as_bytes().to_vec(),
                serial: read_serial(serial.value())?,
            })
        })
    }

    /// The whole (DER), as the response repeats it.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The serial number; `None` where it is negative or has more octets than any of ours.
    pub fn serial(&self) -> Option<SerialNumber> {
        self.serial
    }
}

/// The content of an INTEGER in its shortest form.
fn read_serial(octets: &[u8]) -> der::Result<Option<SerialNumber>> {
    let padded = match octets {
        [] => true,
        [0, next, ..] => *next < 0x80,
        [0xff, next, ..] => *next >= 0x80,
        _ => false,
    };
    if padded {
        return Err(Tag::Integer.non_canonical_error().into());
    }
    if octets[0] >= 0x80 {
        return Ok(None);
    }
    let octets = octets.strip_prefix(&[0]).unwrap_or(octets);
    let mut serial = [0; 16];
    let Some(skip) = serial.len().checked_sub(octets.len()) else { return Ok(None) };
    serial[skip..].copy_from_slice(octets);
    Ok(Some(SerialNumber::from_bytes(serial)))
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspRequest {
    ids: Vec<CertId>,
    nonce: Option<Vec<u8>>,
}

impl OcspRequest {
    /// Reads an OCSPRequest: up to [`LONGEST_OCSP_REQUEST`] octets, for 1 to [`MOST_CERT_IDS`] certificates.
    ///
    /// Not checked: the requestor's name and signature.
    pub fn read(der: &[u8]) -> Result<Self, BadOcspRequest> {
        if der.len() > LONGEST_OCSP_REQUEST {
            return Err(BadOcspRequest);
        }
        let mut reader = SliceReader::new(der).map_err(|_| BadOcspRequest)?;
        let request = reader.sequence(|fields| {
            let request = fields.sequence(Self::read_tbs)?;
            tagged(fields, 0)?;
            Ok::<_, der::Error>(request)
        });
        let request = request.map_err(|_| BadOcspRequest)?;
        reader.finish().map_err(|_| BadOcspRequest)?;
        let lengths_fit = request.nonce.as_ref().is_none_or(|nonce| (1..=LONGEST_NONCE).contains(&nonce.len()));
        let count_fits = (1..=MOST_CERT_IDS).contains(&request.ids.len());
        if lengths_fit && count_fits { Ok(request) } else { Err(BadOcspRequest) }
    }

    fn read_tbs(fields: &mut SliceReader<'_>) -> der::Result<Self> {
        // Version 1 is the default, which DER leaves out; some write it all the same.
        if let Some(version) = tagged(fields, 0)?
            && version != [2, 1, 0]
        {
            return Err(Tag::Integer.value_error().into());
        }
        tagged(fields, 1)?;
        let mut ids = Vec::new();
        fields.sequence(|list| {
            while !list.is_finished() {
                ids.push(list.sequence(|single| {
                    let id = CertId::read(single)?;
                    if let Some(extensions) = tagged(single, 0)? {
                        read_extensions(extensions)?;
                    }
                    Ok::<_, der::Error>(id)
                })?);
            }
            Ok::<_, der::Error>(())
        })?;
        let nonce = match tagged(fields, 2)? {
            Some(extensions) => read_extensions(extensions)?,
            None => None,
        };
        Ok(Self { ids, nonce })
    }

    /// For whom is asked: at least one.
    pub fn ids(&self) -> &[CertId] {
        &self.ids
    }

    /// What the response is to repeat, so that it answers this request and no other. 1 to 128 octets.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }
}

/// The content of an optional field with an explicit tag.
fn tagged<'a>(fields: &mut SliceReader<'a>, number: u8) -> der::Result<Option<&'a [u8]>> {
    if fields.peek_byte() != Some(context_constructed(number)) {
        return Ok(None);
    }
    Ok(Some(AnyRef::decode(fields)?.value()))
}

/// Reads Extensions; gives the nonce, if there is one. What else is asked for in a way that must not be passed over is
/// refused.
fn read_extensions(der: &[u8]) -> der::Result<Option<Vec<u8>>> {
    let mut reader = SliceReader::new(der)?;
    let mut nonce = None;
    reader.sequence(|list| {
        while !list.is_finished() {
            list.sequence(|fields| -> der::Result<()> {
                let oid: ObjectIdentifier = fields.decode()?;
                let critical: Option<bool> = fields.decode()?;
                let value: &OctetStringRef = fields.decode()?;
                match oid {
                    ID_PKIX_OCSP_NONCE if nonce.is_none() => {
                        nonce = Some(<&OctetStringRef>::from_der(value.as_bytes())?.as_bytes().to_vec());
                        Ok(())
                    }
                    ID_PKIX_OCSP_NONCE => Err(Tag::Sequence.value_error().into()),
                    _ if critical == Some(true) => Err(Tag::Boolean.value_error().into()),
                    _ => Ok(()),
                }
            })?;
        }
        Ok::<_, der::Error>(())
    })?;
    reader.finish()?;
    Ok(nonce)
}
