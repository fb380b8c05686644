//! Hostile requests and names, each sent over the wire to a real server: refused with the right reason, or what they ask
//! for is ignored. Nothing of them is copied anywhere, nothing panics, and the server goes on.

use std::path::Path;

use der::{Decode, Encode};
use enroll_client::{attester::token::JoinToken, connect::Connection};
use fleetca_proto::{
    transcript::{Role, enrollment},
    v1::{Issued, Kind, Proof, RenewRequest, Start, TokenEvidence, enroll_request::Step, start::Evidence},
};
use fleetca_tests::{
    admin::Admin,
    csr::{
        ED25519, Parts, RSA_SHA256, compressed, ed25519_spki, neutral_point, openssl_key, openssl_request,
        rsa_signature_for_exponent_one, rsa_spki, signature_under_neutral_point, tlv,
    },
    device::Device,
    holder::Holder,
    http,
    pem::write_key,
    server::{Server, TRUST_DOMAIN},
    stranger::{self, Exchange, Refusal, SubjectKey, reason},
    wait::{SOON, until_true},
};
use prost::Message;
use tonic::Status;
use x509_cert::{Certificate, ext::pkix::name::GeneralName};

/// In the subject of every request here, and nowhere else.
const MARK: &str = "Copied-From-A-Request";

const MALFORMED: &str = "is not the DER of a PKCS#10 request";
const UNPROVEN: &str = "does not verify under its own key";

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A request that somebody sends, with the key that can sign for it, if there is one.
struct Case {
    name: &'static str,
    csr: Vec<u8>,
    /// A part of the refusal's text.
    says: &'static str,
    sign: Sign,
}

impl Case {
    /// Without a private key that could prove anything later: it must be refused before that.
    fn unsigned(name: &'static str, says: &'static str, csr: Vec<u8>) -> Case {
        Case { name, csr, says, sign: Box::new(|_| Vec::new()) }
    }

    /// A new P-256 key's own request, made from these parts.
    fn made(name: &'static str, says: &'static str, change: impl FnOnce(&mut Parts)) -> Case {
        let key = SubjectKey::generate();
        let mut parts = Parts::of(&key.spki(), MARK);
        change(&mut parts);
        let csr = parts.signed(|info| key.sign(info));
        Case { name, csr, says, sign: Box::new(move |message| key.sign(message)) }
    }

    /// A new P-256 key's honest request, changed after it was signed.
    fn mangled(name: &'static str, says: &'static str, mangle: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Case {
        let honest = Case::made(name, says, |_| ());
        Case { csr: mangle(honest.csr), ..honest }
    }

    /// Enrolls with it, honest in everything else.
    async fn enroll(&self, connection: &Connection, id: &str, token: &JoinToken) -> Result<Issued, Status> {
        let start = start(id, token, self.csr.clone()).encode_to_vec();
        let mut exchange = Exchange::start(connection, &start).await?;
        let challenge = exchange.challenge().await?;
        exchange.send(Step::Proof(Proof {
            evidence_signature: token.sign(&enrollment("token", Role::Evidence, &start, &challenge)),
            subject_signature: (self.sign)(&enrollment("token", Role::Subject, &start, &challenge)),
            ..Proof::default()
        }));
        exchange.issued().await
    }

    /// Renews with it.
    async fn renew(&self, server: &Server, holder: &Holder) -> Result<Issued, Status> {
        let request = RenewRequest { csr: self.csr.clone(), ..Default::default() };
        Ok(holder.renewal(server).renew(request).await?.into_inner())
    }
}

fn start(id: &str, token: &JoinToken, csr: Vec<u8>) -> Start {
    Start {
        trust_domain: TRUST_DOMAIN.to_owned(),
        kind: Kind::Device.into(),
        id: id.to_owned(),
        csr,
        evidence: Some(Evidence::Token(TokenEvidence { token_id: token.id().to_owned() })),
    }
}

/// Keys and requests by OpenSSL, each good in itself, none of them taken.
fn refused_of_openssl(folder: &Path) -> Vec<Case> {
    const RSA_PSS: &[&str] = &["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"];
    let kinds: [(&'static str, &'static str, &[&str], &[&str]); 10] = [
        ("RSA of 1024 bits", "has 1024 bits", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], &[]),
        ("RSA with exponent 3", "exponent must be odd", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_pubexp:3"], &[]),
        (
            "RSA signed with SHA-1",
            "signed with 1.2.840.113549.1.1.5,",
            &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            &["-sha1"],
        ),
        ("RSA-PSS", "algorithm 1.2.840.113549.1.1.10 ", RSA_PSS, &[]),
        ("P-224", "algorithm 1.3.132.0.33 ", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224"], &[]),
        ("P-521", "algorithm 1.3.132.0.35 ", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], &[]),
        ("secp256k1", "algorithm 1.3.132.0.10 ", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], &[]),
        (
            "P-256 by parameters of its own",
            "algorithm 1.2.840.10045.2.1 ",
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"],
            &[],
        ),
        (
            "P-256 signed with SHA-1",
            "signed with 1.2.840.10045.4.1,",
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            &["-sha1"],
        ),
        ("Ed448", "algorithm 1.3.101.113 ", &["-algorithm", "ED448"], &[]),
    ];
    let mut cases = Vec::new();
    for (at, (name, says, key, request)) in kinds.into_iter().enumerate() {
        let Some(key) = openssl_key(folder, &format!("refused-{at}"), key) else { break };
        let subject = format!("/CN={MARK}");
        cases.extend(
            openssl_request(&key, &[&["-subj", &subject], request].concat()).map(|csr| Case::unsigned(name, says, csr)),
        );
    }
    cases
}

/// Requests that are refused with `CSR_REFUSED`.
fn refused() -> Vec<Case> {
    let modulus = [0xc5; 256];
    let exponent_one = Parts { algorithm: RSA_SHA256, ..Parts::of(&rsa_spki(&modulus, &[1]), MARK) };
    let weak = Parts { algorithm: ED25519, ..Parts::of(&ed25519_spki(&neutral_point()), MARK) };
    let key = SubjectKey::generate();
    let squeezed = Parts::of(&compressed(&key), MARK).signed(|info| key.sign(info));
    vec![
        Case::unsigned("nothing", MALFORMED, Vec::new()),
        Case::unsigned("text", MALFORMED, b"-----BEGIN CERTIFICATE REQUEST-----".to_vec()),
        Case::unsigned("zeros", MALFORMED, vec![0; 300]),
        Case::unsigned("sequences in sequences", MALFORMED, [0x30, 0x80].repeat(8000)),
        Case::unsigned("a length that is not there", MALFORMED, vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0]),
        Case {
            name: "RSA with exponent 1, for which anybody signs",
            csr: exponent_one.signed(rsa_signature_for_exponent_one),
            says: "exponent must be odd",
            sign: Box::new(rsa_signature_for_exponent_one),
        },
        Case {
            name: "the neutral point of Ed25519, for which anybody signs",
            csr: weak.signed(|_| signature_under_neutral_point()),
            says: "the public key is weak",
            sign: Box::new(|_| signature_under_neutral_point()),
        },
        Case {
            name: "a compressed point",
            csr: squeezed,
            says: "the public key is malformed",
            sign: Box::new(move |message| key.sign(message)),
        },
        Case::made("version 2", MALFORMED, |parts| parts.version = 1),
        Case::made("more than 16 KiB", "at most 16384 are taken", |parts| parts.attributes = vec![0; 16 * 1024]),
        Case::made("a subject of more than 16 KiB", "at most 16384 are taken", |parts| {
            parts.common_name = MARK.repeat(1000).into()
        }),
        Case::mangled("an octet behind", MALFORMED, |csr| [&csr[..], &[0]].concat()),
        Case::mangled("another request behind", MALFORMED, |csr| csr.repeat(2)),
        Case::mangled("an octet less", MALFORMED, |csr| csr[..csr.len() - 1].to_vec()),
        Case::mangled("BER: a length in more octets than it takes", MALFORMED, |csr| {
            [&[0x30, 0x82, 0, csr[2]], &csr[3..]].concat()
        }),
        Case::mangled("BER: a length that is left open", MALFORMED, |csr| [&[0x30, 0x80], &csr[3..], &[0, 0]].concat()),
        Case::mangled("BER: a signature in pieces", MALFORMED, |csr| {
            let at = signature_at(&csr);
            tlv(0x30, &[&csr[3..at], &tlv(0x23, &csr[at..])].concat())
        }),
    ]
}

/// Where the BIT STRING at the end of a request begins.
fn signature_at(csr: &[u8]) -> usize {
    let fits = |&at: &usize| csr[at] == 3 && at + 2 + usize::from(csr[at + 1]) == csr.len();
    (csr.len() - 76..csr.len() - 66).find(fits).expect("an ECDSA signature is at the end")
}

/// Requests whose signature proves nothing: `CSR_POP_FAILED`.
fn unproven() -> Vec<Case> {
    let (owner, thief) = (SubjectKey::generate(), SubjectKey::generate());
    let stolen = Parts::of(&owner.spki(), MARK).signed(|info| thief.sign(info));
    let point = |point: [u8; 65]| {
        let mut spki = SubjectKey::generate().spki();
        spki.splice(26.., point);
        Parts::of(&spki, MARK)
    };
    let off = point(std::array::from_fn(|at| if at == 0 { 4 } else { 7 }));
    let zero = point(std::array::from_fn(|at| if at == 0 { 4 } else { 0 }));
    let beyond = point(std::array::from_fn(|at| if at == 0 { 4 } else { 0xff }));
    // r = s = 0, and r = s = 1: what broken verifiers took.
    let (null, one) = (vec![0x30, 6, 2, 1, 0, 2, 1, 0], vec![0x30, 6, 2, 1, 1, 2, 1, 1]);
    vec![
        Case { name: "another's key", csr: stolen, says: UNPROVEN, sign: Box::new(move |message| thief.sign(message)) },
        Case::unsigned("no signature", UNPROVEN, Parts::of(&owner.spki(), MARK).signed(|_| Vec::new())),
        Case::unsigned("a signature of zeros", UNPROVEN, Parts::of(&owner.spki(), MARK).signed(|_| null.clone())),
        Case::unsigned("a point off the curve", UNPROVEN, off.signed(|_| one.clone())),
        Case::unsigned("a point of zeros", UNPROVEN, zero.signed(|_| null.clone())),
        Case::unsigned("coordinates beyond the field", UNPROVEN, beyond.signed(|_| one.clone())),
        Case::mangled("a subject changed afterwards", UNPROVEN, |mut csr| {
            let at = csr.windows(MARK.len()).position(|window| window == MARK.as_bytes()).expect("the subject");
            csr[at] ^= 1;
            csr
        }),
    ]
}

/// Requests that ask for what only the CA decides: they get a certificate, and nothing of that.
fn ignored(folder: &Path) -> Vec<Case> {
    let mut cases = vec![
        Case::made("a NUL in the CN", "", |parts| parts.common_name = format!("admin\0{MARK}").into()),
        Case::made("a CN that is no UTF-8", "", |parts| {
            parts.common_name = [MARK.as_bytes(), &[0xff, 0xc3, 0x28]].concat()
        }),
        Case::made("a CN with lines and quotes", "", |parts| {
            parts.common_name = format!("a\"'\n\r{MARK}\x1b[2J").into()
        }),
        Case::made("a CN of 8 KiB", "", |parts| parts.common_name = MARK.repeat(380).into()),
        Case::made("attributes that are none", "", |parts| {
            parts.attributes = [&[0xde, 0xad], MARK.as_bytes()].concat()
        }),
    ];
    let wishes = [
        "basicConstraints=critical,CA:TRUE",
        "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
        "extendedKeyUsage=serverAuth,anyExtendedKeyUsage",
        "subjectAltName=DNS:evil.example,IP:127.0.0.1,email:root@evil.example,URI:spiffe://fleet.test/server/evil",
        "subjectKeyIdentifier=0123456789abcdef",
        "certificatePolicies=1.2.3.4",
        "crlDistributionPoints=URI:http://evil.example/crl",
        "1.2.3.4.5=critical,ASN1:UTF8String:evil",
    ];
    let subject = format!("/O=evil/CN=admin/CN={MARK}/emailAddress=root@evil.example");
    let options: Vec<_> = wishes.iter().flat_map(|wish| ["-addext", wish]).chain(["-subj", &subject]).collect();
    let key = SubjectKey::generate();
    let file = write_key(folder, "wishes", key.to_der().secret_der());
    cases.extend(openssl_request(&file, &options).map(|csr| {
        let sign: Sign = Box::new(move |message| key.sign(message));
        Case { name: "CA:TRUE, usages, names and policies", csr, says: "", sign }
    }));
    cases
}

/// A server with a fleet that takes every kind of key, whose log says all that it can say.
fn server() -> Server {
    let server = Server::start_logging("trace");
    server.admin().run(&["fleet", "create", "sensors", "--key-types", "p256,p384,ed25519,rsa"]);
    server
}

/// After everything: it serves, it has not panicked, and nothing of any request is anywhere.
fn nothing_happened(server: &mut Server) {
    let admin = server.admin();
    let told = ["--security", "--newest-first"].map(|option| admin.run(&["audit", "list", option]).to_string());
    let metrics = String::from_utf8(http::get(&server.metrics_url("/metrics")).ok()).expect("metrics are text");
    assert_eq!(http::get(&server.metrics_url("/readyz")).status, 200);
    let log = server.process().stderr();
    assert!(log.contains("TRACE"), "the log says all");
    assert!(!log.contains("panicked"), "{log}");
    for text in told.iter().chain([&metrics, &log]) {
        assert!(!text.contains(MARK) && !text.contains("evil"), "{text}");
    }
}

/// Everything about a certificate that the CA decides for all of a fleet's devices alike.
fn decided(leaf: &[u8]) -> Vec<(String, bool, Vec<u8>)> {
    let certificate = Certificate::from_der(leaf).expect("a certificate");
    let extensions = certificate.tbs_certificate().extensions().expect("extensions");
    let shared = |id: &str| id != "2.5.29.17" && id != "2.5.29.14";
    let all = extensions.iter().map(|extension| {
        let (id, value) = (extension.extn_id.to_string(), extension.extn_value.as_bytes());
        let value = if shared(&id) { value.to_vec() } else { Vec::new() };
        (id, extension.critical, value)
    });
    all.collect()
}

/// Holds a certificate against an honest one of the same fleet: nothing in it is the request's, but the key.
fn has_nothing_of_the_request(case: &Case, leaf: &[u8], id: &str, honest: &[u8]) {
    let certificate = Certificate::from_der(leaf).expect("a certificate");
    let tbs = certificate.tbs_certificate();
    assert_eq!(tbs.subject().to_string(), format!("CN={id},O=sensors"), "{}", case.name);
    let (_, names) =
        tbs.get_extension::<x509_cert::ext::pkix::SubjectAltName>().expect("it reads").expect("it is there");
    let [GeneralName::UniformResourceIdentifier(uri)] = &names.0[..] else { panic!("{}: {names:?}", case.name) };
    assert_eq!(uri.as_str(), format!("spiffe://{TRUST_DOMAIN}/device/{id}"), "{}", case.name);
    assert_eq!(decided(leaf), decided(honest), "{}", case.name);
    let spki = tbs.subject_public_key_info().to_der().expect("it encodes");
    assert!(case.csr.windows(spki.len()).any(|window| window == spki), "{}: the key is the request's", case.name);
    for foreign in [MARK, "evil", "admin"] {
        assert!(!leaf.windows(foreign.len()).any(|window| window == foreign.as_bytes()), "{}: {foreign}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_are_refused_with_their_reason_and_change_nothing() {
    let mut server = server();
    let (admin, connection) = (Admin::of(&server), stranger::connect(&server).await);
    let renewing = Holder::copy(&Device::enroll(&server, "sensors", "pump-7"));
    let before = server.admin().run(&["device", "show", "pump-7"]);
    let token = admin.token("sensors", "pump-8").await;

    let openssl = refused_of_openssl(server.scratch());
    let expected = [("CSR_REFUSED", openssl), ("CSR_REFUSED", refused()), ("CSR_POP_FAILED", unproven())];
    for (expected, cases) in &expected {
        for case in cases {
            let name = case.name;
            for answer in [case.enroll(&connection, "pump-8", &token).await, case.renew(&server, &renewing).await] {
                let refused = answer.expect_err(name);
                assert_eq!(Refusal::of(&refused).reason, *expected, "{name}: {refused:?}");
                assert!(refused.message().contains(case.says), "{name}: {refused:?}");
            }
        }
    }
    let megabyte = Case::unsigned("a megabyte", "", vec![0x30; 1 << 20]);
    assert_eq!(reason(megabyte.enroll(&connection, "pump-8", &token).await), "PROTOCOL_ERROR");
    // Refused by its frame's length, before it was read.
    assert_eq!(reason(megabyte.renew(&server, &renewing).await), "PROTOCOL_ERROR");
    let token_key = Parts { algorithm: ED25519, ..Parts::of(&ed25519_spki(&token.public_key()[..]), MARK) };
    let csr = token_key.signed(|info| token.sign(info));
    assert_eq!(
        reason(Case::unsigned("the token's own key", "", csr).enroll(&connection, "pump-8", &token).await),
        "CSR_REFUSED"
    );

    assert_eq!(server.admin().run(&["device", "show", "pump-7"]), before);
    stranger::enroll(&connection, "pump-8", &token, &SubjectKey::generate()).await.expect("the token still works");
    renewing.renew_and_confirm(&server).await;
    nothing_happened(&mut server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_request_asks_for_is_ignored() {
    let mut server = server();
    let (admin, connection) = (Admin::of(&server), stranger::connect(&server).await);
    let honest = Device::enroll(&server, "sensors", "pump-7");
    let honest_leaf = honest.chain()[0].to_vec();
    let cases = ignored(server.scratch());
    for (at, case) in cases.iter().enumerate() {
        let id = format!("pump-e{at}");
        let token = admin.token("sensors", &id).await;
        let issued =
            case.enroll(&connection, &id, &token).await.unwrap_or_else(|refused| panic!("{}: {refused}", case.name));
        has_nothing_of_the_request(case, &issued.chain[0], &id, &honest_leaf);
    }
    // The same again, with new keys: one that has a certificate is refused.
    for (at, case) in ignored(server.scratch()).iter().enumerate() {
        let id = format!("pump-r{at}");
        let holder = admin.enroll(&connection, "sensors", &id).await;
        let issued = case.renew(&server, &holder).await.unwrap_or_else(|refused| panic!("{}: {refused}", case.name));
        has_nothing_of_the_request(case, &issued.chain[0], &id, &honest_leaf);
    }
    honest.renew();
    nothing_happened(&mut server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_another_device_holds_is_refused() {
    let mut server = server();
    let (admin, connection) = (Admin::of(&server), stranger::connect(&server).await);
    let token = admin.token("sensors", "pump-7").await;
    let key = SubjectKey::generate();
    let issued = stranger::enroll(&connection, "pump-7", &token, &key).await.expect("a certificate");
    let holder = Holder::of(&issued, &key);

    // A copy of the device, private key and all, that goes by another name.
    let other = admin.token("sensors", "pump-8").await;
    assert_eq!(reason(stranger::enroll(&connection, "pump-8", &other, &key).await), "KEY_REUSED");
    stranger::enroll(&connection, "pump-8", &other, &SubjectKey::generate()).await.expect("the token still works");
    let another = admin.enroll(&connection, "sensors", "pump-9").await;
    assert_eq!(reason(another.renew(&server, &key).await), "KEY_REUSED");
    assert_eq!(reason(holder.renew(&server, &key).await), "KEY_REUSED");
    until_true(SOON, "each is an event", || {
        let events = server.admin().run(&["audit", "list", "--security"]);
        let reused = events.as_array().expect("a list").iter().filter(|event| event["kind"] == "key.reused");
        reused.filter_map(|event| event["count"].as_u64()).sum::<u64>() == 3
    });
    nothing_happened(&mut server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_captured_request_is_refused_under_another_id() {
    let mut server = server();
    let (admin, connection) = (Admin::of(&server), stranger::connect(&server).await);
    let (token, other) = (admin.token("sensors", "pump-7").await, admin.token("sensors", "pump-8").await);
    let (owner, thief) = (SubjectKey::generate(), SubjectKey::generate());
    let csr = owner.csr();
    let captured = Case { name: "captured", csr, says: "", sign: Box::new(move |message| thief.sign(message)) };

    // Before its owner has used it, and after.
    assert_eq!(reason(captured.enroll(&connection, "pump-8", &other).await), "CSR_POP_FAILED");
    stranger::enroll(&connection, "pump-7", &token, &owner).await.expect("its owner enrolls");
    assert_eq!(reason(captured.enroll(&connection, "pump-8", &other).await), "CSR_POP_FAILED");
    assert_eq!(reason(captured.enroll(&connection, "pump-7", &other).await), "CSR_POP_FAILED");
    let holder = admin.enroll(&connection, "sensors", "pump-9").await;
    assert_eq!(reason(captured.renew(&server, &holder).await), "KEY_REUSED");

    // A renewal asks for no proof but the request's own. Whoever renews with a request that its owner has not used yet
    // gets a certificate for which he has no key: he can't confirm it, and what he had stays in force.
    let unused = SubjectKey::generate();
    holder.renew(&server, &unused).await.expect("its signature holds");
    assert_eq!(server.admin().run(&["device", "show", "pump-9"])["head_serial"], holder.serial());
    nothing_happened(&mut server);
}
