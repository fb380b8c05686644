//! What a thief of the CA's own keys can't do: call the CA. Its server knows every certificate that it has issued, and
//! takes no other, whoever signed it.

use ca_server::{
    authority::OnlineIssuer,
    clock::{Clock, SystemClock},
    folder::Folder,
    identity::SerialNumber,
    pki::{CrlScope, Csr, Holder as LeafHolder, LeafRequest},
    server,
};
use fleetca_proto::v1::{Issued, ListFleetsRequest, operator_client::OperatorClient};
use fleetca_tests::{
    holder::Holder,
    server::Server,
    stranger::{Refusal, SubjectKey},
};

/// A credential that was signed with the CA's key, and never recorded.
fn forged(issuer: &OnlineIssuer, holder: LeafHolder<'_>) -> Holder {
    let key = SubjectKey::generate();
    let request = Csr::parse(&key.csr()).expect("a request");
    let now = SystemClock.now();
    let hour = std::time::Duration::from_secs(3600);
    let leaf = issuer.sign_leaf(&LeafRequest {
        holder,
        key: request.public_key(),
        serial: SerialNumber::new(now, [7; 10]),
        not_before: now - hour / 2,
        not_after: now + hour,
        crl: CrlScope::Full,
        policy: None,
        ocsp: false,
    });
    let chain = vec![leaf.expect("the thief signs").der, issuer.issuer.certificate().der().to_vec()];
    Holder::of(&Issued { chain, ..Issued::default() }, &key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_was_never_recorded_is_refused() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    fleetca_tests::device::Device::enroll(&server, "sensors", "pump-7");
    let stolen =
        server::open(&Folder::new(server.dir()), None, SystemClock.now()).await.expect("the thief reads the folder");
    let (pump, fleet) = ("pump-7".parse().expect("an ID"), "sensors".parse().expect("a name"));
    let admin = "admin".parse().expect("an ID");
    let device_ca = stolen.issuers.online().nth(1).expect("a CA for devices");

    let device = forged(device_ca, LeafHolder::Device { id: &pump, fleet: &fleet });
    let refused = device.renew(&server, &SubjectKey::generate()).await.expect_err("no such certificate");
    // As if the CA had forgotten it, which an honest device could not help: `certificate.forgotten` is raised.
    assert_eq!(Refusal::of(&refused).reason, "CERTIFICATE_FORGOTTEN");

    let operator = forged(stolen.issuers.control(), LeafHolder::Operator(&admin));
    let channel = operator.connect(&server, server.addresses().operators.port());
    let refused = OperatorClient::new(channel).list_fleets(ListFleetsRequest::default()).await;
    assert_eq!(Refusal::of(&refused.expect_err("no such certificate")).reason, "CERTIFICATE_UNKNOWN");
}
