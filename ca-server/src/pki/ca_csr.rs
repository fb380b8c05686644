//! The request (PKCS#10, RFC 2986) by which somebody else's root is asked for the certificate of an issuing CA.

use const_oid::{ObjectIdentifier, db::rfc5280::ANY_POLICY};

use super::encode::{Der, INTEGER, SEQUENCE, SET, context_constructed};
use super::extensions as write;
use super::key::PublicKey;
use super::names::authority_name;
use super::profile::{CaRole, Profile};
use super::signature::SignatureAlgorithm;
use super::signed;
use crate::identity::TrustDomain;

/// extensionRequest (RFC 2985, section 5.4.2).
const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");

/// A request built, not signed yet. It can be used once.
pub struct PreparedCsr {
    info: Vec<u8>,
    algorithm: SignatureAlgorithm,
}

/// Asks for the certificate of an issuing CA of devices with this key: its name, and the extensions without which it could
/// not be one. Where its CRLs and its issuer's certificate are is for whoever signs to say.
pub fn prepare_csr(trust_domain: &TrustDomain, key: &PublicKey) -> PreparedCsr {
    let (role, profile) = (CaRole::DeviceIssuing, Profile::Authority(CaRole::DeviceIssuing));
    let info = Der::build(SEQUENCE, |info| {
        info.primitive(INTEGER, &[0]);
        info.raw(&authority_name(role, trust_domain, key));
        info.raw(key.spki_der());
        info.nest(context_constructed(0), |attributes| {
            attributes.nest(SEQUENCE, |attribute| {
                attribute.oid(&EXTENSION_REQUEST);
                attribute.nest(SET, |values| {
                    values.nest(SEQUENCE, |list| {
                        write::basic_constraints(list, profile.path_length());
                        write::key_usage(list, profile.key_usage());
                        write::subject_key_identifier(list, &key.key_identifier());
                        write::certificate_policy(list, &ANY_POLICY);
                    });
                });
            });
        });
    });
    PreparedCsr { info, algorithm: SignatureAlgorithm::usual(key.kind()) }
}

impl PreparedCsr {
    /// What is to be signed with the key itself.
    pub fn tbs(&self) -> &[u8] {
        &self.info
    }

    /// Puts the signature in and gives the request (DER).
    pub fn assemble(self, signature: &[u8]) -> Vec<u8> {
        signed::assemble(&self.info, self.algorithm, signature)
    }
}

#[cfg(test)]
mod tests {
    use const_oid::db::rfc5280::{
        ID_CE_BASIC_CONSTRAINTS, ID_CE_CERTIFICATE_POLICIES, ID_CE_KEY_USAGE, ID_CE_SUBJECT_KEY_IDENTIFIER,
    };
    use der::Decode;
    use x509_cert::{ext::Extension, request::CertReq};

    use super::super::Csr;
    use super::super::fixture::{TestKey, trust_domain};
    use super::*;

    #[test]
    fn a_request_proves_possession_of_its_key_and_is_read_by_other_software() {
        let key = TestKey::generate();
        let prepared = prepare_csr(&trust_domain(), &key.public);
        let signature = key.sign(prepared.tbs());
        let der = prepared.assemble(&signature);
        assert_eq!(Csr::parse(&der).unwrap().public_key(), &key.public);
        let read = CertReq::from_der(&der).unwrap();
        assert!(read.info.subject.to_string().contains("Fleet CA device issuing "));
        let requested = read.info.attributes.iter().next().unwrap();
        assert_eq!(requested.oid, EXTENSION_REQUEST);
        let extensions: Vec<Extension> = requested.values.get(0).unwrap().decode_as().unwrap();
        let oids: Vec<_> = extensions.iter().map(|extension| (extension.extn_id, extension.critical)).collect();
        let wanted = [
            (ID_CE_BASIC_CONSTRAINTS, true),
            (ID_CE_KEY_USAGE, true),
            (ID_CE_SUBJECT_KEY_IDENTIFIER, false),
            (ID_CE_CERTIFICATE_POLICIES, false),
        ];
        assert_eq!(oids, wanted);
    }
}
