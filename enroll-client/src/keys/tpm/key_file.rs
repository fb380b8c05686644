//! `TSS2 PRIVATE KEY`: the PEM in which software of TPMs keeps wrapped keys (ASN.1 Specification for TPM 2.0 Key Files).

use der::{
    Decode, Encode, Sequence,
    asn1::{ObjectIdentifier, OctetStringRef},
    pem::{self, LineEnding},
};

use super::{
    TpmError, Wrapped,
    codec::{Answer, sized},
};

const LABEL: &str = "TSS2 PRIVATE KEY";
/// id-loadablekey.
const LOADABLE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.10.1.3");
/// TPM_RH_OWNER: below the storage root key that everybody makes of the owner hierarchy.
const OWNER: u32 = 0x4000_0001;

/// TPMKey, without the fields for policies, secrets and descriptions.
#[derive(Sequence)]
struct KeyFile<'a> {
    kind: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    empty_auth: Option<bool>,
    parent: u32,
    public: &'a OctetStringRef,
    private: &'a OctetStringRef,
}

pub(super) fn write(key: &Wrapped) -> Result<String, TpmError> {
    let (public, private) = (sized(&key.public), sized(&key.private));
    let encode = || -> der::Result<String> {
        let file = KeyFile {
            kind: LOADABLE,
            empty_auth: Some(true),
            parent: OWNER,
            public: OctetStringRef::new(&public)?,
            private: OctetStringRef::new(&private)?,
        };
        Ok(pem::encode_string(LABEL, LineEnding::LF, &file.to_der()?)?)
    };
    encode().map_err(|_| TpmError::KeyFile)
}

pub(super) fn read(text: &[u8]) -> Result<Wrapped, TpmError> {
    let bad = |_| TpmError::KeyFile;
    let (label, der) = pem::decode_vec(text).map_err(|_| TpmError::KeyFile)?;
    let file = KeyFile::from_der(&der).map_err(bad)?;
    if (label, file.kind, file.empty_auth, file.parent) != (LABEL, LOADABLE, Some(true), OWNER) {
        return Err(TpmError::KeyFile);
    }
    let contents = |octets: &[u8]| -> Result<Vec<u8>, TpmError> {
        let mut reader = Answer::new("", octets);
        let contents = reader.sized().map_err(|_| TpmError::KeyFile)?.to_vec();
        if reader.rest().is_empty() { Ok(contents) } else { Err(TpmError::KeyFile) }
    };
    Ok(Wrapped { public: contents(file.public.as_bytes())?, private: contents(file.private.as_bytes())? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_read_as_it_is_written() {
        let key = Wrapped { public: vec![1; 88], private: vec![2; 126] };
        let pem = write(&key).unwrap();
        assert!(pem.starts_with("-----BEGIN TSS2 PRIVATE KEY-----\n"), "{pem}");
        assert_eq!(read(pem.as_bytes()).unwrap(), key);
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        let good = write(&Wrapped { public: vec![1; 88], private: vec![2; 126] }).unwrap();
        // id-importablekey instead of id-loadablekey.
        let importable = good.replace("UKAQOg", "UKAQSg");
        assert_ne!(importable, good);
        for text in [String::new(), good.replace("TSS2 ", ""), importable, good[..80].into()] {
            assert!(matches!(read(text.as_bytes()), Err(TpmError::KeyFile)), "{text}");
        }
    }
}
