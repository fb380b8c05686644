//! The certificates that a TPM keeps for an endorsement key, as they are sent: the key's own, and what leads from it to its
//! maker's root, which is left out. What else is there (other keys' chains, roots, empty flash) nobody asked for, and the
//! server takes four certificates at most.

use std::collections::BTreeSet;

use der::Decode;
use x509_cert::Certificate;

/// As many as the server takes.
const MOST: usize = 4;

/// The chain of the key whose certificate's index has these contents; empty where there is no certificate in it. `others` are
/// the contents of the indices for chains.
pub(super) fn chain(own: &[u8], others: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let Some(leaf) = all_ders(own).into_iter().next() else { return Vec::new() };
    let Ok(own) = Certificate::from_der(&leaf) else { return Vec::new() };
    let above: BTreeSet<_> = others.iter().flat_map(|contents| all_ders(contents)).collect();
    let above = above.into_iter();
    let mut above: Vec<_> = above.filter_map(|der| Certificate::from_der(&der).ok().map(|read| (der, read))).collect();
    above.retain(|(_, certificate)| certificate.tbs_certificate().issuer() != certificate.tbs_certificate().subject());
    let mut chain = vec![(leaf, own)];
    let mut below = 0;
    while let Some((_, certificate)) = chain.get(below) {
        // One name may have several certificates, each by another root: the server knows which one it trusts.
        let issuer = certificate.tbs_certificate().issuer().clone();
        let of_issuer = |(_, one): &mut (_, Certificate)| *one.tbs_certificate().subject() == issuer;
        chain.extend(above.extract_if(.., of_issuer));
        below += 1;
    }
    chain.truncate(MOST);
    chain.into_iter().map(|(der, _)| der).collect()
}

/// The values of DER, one after the other, up to what is none: an index may be larger than what was put there.
fn all_ders(mut contents: &[u8]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    // A certificate's length takes two octets: it is a SEQUENCE of 256 to 65535.
    while let [0x30, 0x82, high, low, ..] = *contents {
        let length = 4 + usize::from(u16::from_be_bytes([high, low]));
        let Some((value, rest)) = contents.split_at_checked(length) else { break };
        values.push(value.to_vec());
        contents = rest;
    }
    values
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn named(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// Certificates, each signed in the name of the one before it; the first is its own.
    fn line(names: &[&str]) -> Vec<Vec<u8>> {
        let key = KeyPair::generate().unwrap();
        let issued = names.iter().scan(names[0], |above, name| {
            let issuer = Issuer::new(named(above), &key);
            *above = name;
            Some(named(name).signed_by(&key, &issuer).unwrap().der().to_vec())
        });
        issued.collect()
    }

    #[test]
    fn padding_behind_a_certificate_is_cut_off() {
        let mut certificate = vec![0x30, 0x82, 1, 0];
        certificate.resize(4 + 256, 7);
        for padding in [&[][..], &[0xff; 100], &[0; 3], &[0x30, 0x82, 0xff]] {
            assert_eq!(all_ders(&[&certificate, padding].concat()), [certificate.clone()]);
        }
        assert_eq!(all_ders(&[&certificate[..], &certificate].concat()).len(), 2);
    }

    #[test]
    fn an_index_without_a_certificate_is_as_good_as_none() {
        let [_, issuing, _] = &line(&["Root", "Issuing", "EK"])[..] else { panic!("three") };
        let mut no_certificate = vec![0x30, 0x82, 1, 0];
        no_certificate.resize(4 + 256, 7);
        for own in [&[][..], &[0xff; 700], &[0x10, 1, 0, 5], &no_certificate] {
            assert!(chain(own, std::slice::from_ref(issuing)).is_empty());
        }
    }

    #[test]
    fn what_leads_to_the_root_is_sent_in_its_order_and_nothing_else() {
        let ours = line(&["Root", "One", "Two", "EK"]);
        let theirs = line(&["Other root", "Other", "Another EK"]);
        let others = [&ours[..3], &theirs[..]].concat();
        let [_, one, two, own] = &ours[..] else { panic!("four") };
        let expected = [own.clone(), two.clone(), one.clone()];
        for others in [others.clone(), others.iter().rev().cloned().collect(), vec![others.concat()]] {
            assert_eq!(chain(own, &others), expected);
        }
        assert_eq!(chain(own, &[]), std::slice::from_ref(own));
    }

    #[test]
    fn of_a_name_with_two_certificates_both_are_sent() {
        let one = line(&["Root", "Issuing", "EK"]);
        let other = line(&["Another root", "Issuing"]);
        let others = [other[1].clone(), one[1].clone(), one[1].clone()];
        let sent = chain(&one[2], &others);
        assert_eq!((&sent[0], sent.len()), (&one[2], 3), "each once");
        assert!(sent.contains(&others[0]) && sent.contains(&others[1]));
    }

    #[test]
    fn no_more_is_sent_than_is_taken_and_a_circle_ends() {
        let long = line(&["Root", "1", "2", "3", "4", "5", "EK"]);
        assert_eq!(chain(&long[6], &long[..6]).len(), MOST);
        let circle = [line(&["A", "B"])[1].clone(), line(&["B", "A"])[1].clone()];
        assert_eq!(chain(&circle[0], &circle).len(), 3);
    }
}
