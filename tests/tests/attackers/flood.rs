//! A thousand connections, each kind of them: renewals, operators and honest newcomers go on. Limits are small here, so
//! that every flood fills them.

use std::{io, net::Ipv4Addr, sync::Arc};

use enroll_client::attester::token::JoinToken;
use fleetca_proto::v1::{
    EnrollRequest, GetRenewalInfoRequest, GetTimeRequest, ListFleetsRequest, enroll_request::Step,
    enrollment_client::EnrollmentClient,
};
use fleetca_tests::{
    crowd::{self, ELSEWHERE},
    device::Device,
    holder::Holder,
    http,
    server::Server,
    stranger::{self, Exchange, SubjectKey},
    wait::{SOON, until_true},
};
use prost::Message;
use rustls::ClientConnection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

const LIMITS: [(&str, usize); 7] = [
    ("connections", 24),
    ("connections_per_holder", 4),
    ("stranger_connections", 16),
    ("handshakes", 32),
    ("requests", 16),
    ("stranger_requests", 16),
    ("http_connections", 16),
];

/// A server with small limits, a device, and what they all go on doing.
struct Site {
    server: Server,
    device: Device,
}

impl Site {
    fn new() -> Site {
        let server = Server::start_with_limits(&LIMITS);
        server.admin().create_fleet("sensors");
        let device = Device::enroll(&server, "sensors", "pump-7");
        Site { server, device }
    }

    /// Renewals, operators, an honest enrollment and readers of CRLs.
    async fn goes_on(&self, newcomer: &str) {
        // At the first attempt: the commands below would try again.
        let stranger = crowd::stranger(&self.server, Ipv4Addr::LOCALHOST).await.expect("a place");
        EnrollmentClient::new(stranger).get_time(GetTimeRequest {}).await.expect("an answer");
        let device = Holder::copy(&self.device);
        device.renewal(&self.server).get_renewal_info(GetRenewalInfoRequest {}).await.expect("an answer");
        let operator = Holder::copy(&Device::new(self.server.admin().credential().to_path_buf()));
        operator.operator(&self.server).list_fleets(ListFleetsRequest::default()).await.expect("an answer");
        self.device.renew();
        Device::enroll(&self.server, "sensors", newcomer);
        assert!(self.server.admin().run(&["device", "list"]).as_array().is_some_and(|devices| devices.len() >= 2));
        http::get(&self.server.http_url("/crl/bundle.pem")).ok();
        http::get(&self.server.metrics_url("/readyz")).ok();
    }

    /// Waits until all places of a kind were taken at least once.
    fn is_full(&self, places: &str) {
        let label = format!("fleetca_overload_total{{port=\"devices\",places=\"{places}\"");
        until_true(SOON, "the flood fills the places", || {
            let metrics = http::get(&self.server.metrics_url("/metrics")).ok();
            String::from_utf8_lossy(&metrics).contains(&label)
        });
    }
}

/// The first octets of a handshake, and no more.
async fn half_a_handshake(server: &Server) -> io::Result<TcpStream> {
    let name = "localhost".try_into().expect("a name");
    let config = Arc::new(fleetca_tests::tls::config(&server.control_root(), None));
    let mut hello = Vec::new();
    ClientConnection::new(config, name).expect("a client").write_tls(&mut hello)?;
    let mut stream = crowd::tcp(ELSEWHERE, server.addresses().devices).await?;
    stream.write_all(&hello[..hello.len() / 2]).await?;
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_silent_connections_keep_nobody_out() {
    let site = Site::new();
    let addresses = site.server.addresses();
    let mut silent = Vec::new();
    for round in 0..250 {
        for address in [addresses.devices, addresses.operators, addresses.http] {
            silent.push(crowd::tcp(ELSEWHERE, address).await.expect("a connection"));
        }
        // It may have been ended already.
        silent.extend(half_a_handshake(&site.server).await);
        if round == 100 {
            site.goes_on("pump-8").await;
        }
    }
    assert!(silent.len() > 900, "{}", silent.len());
    site.goes_on("pump-9").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_who_come_and_come_keep_nobody_out() {
    let site = Site::new();
    // Connections whose handshake is done, and which then say nothing: each as soon as another one has ended.
    let mut flood = JoinSet::new();
    for _ in 0..20 {
        let (address, root) = (site.server.addresses().devices, site.server.control_root());
        let config = fleetca_tests::tls::config(&root, None);
        flood.spawn(async move {
            loop {
                let Ok(mut stream) = crowd::tls(ELSEWHERE, address, config.clone()).await else { continue };
                while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
            }
        });
    }
    site.is_full("stranger_connections");
    site.goes_on("pump-8").await;
    site.goes_on("pump-9").await;
    flood.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enrollments_that_stop_at_the_challenge_keep_nobody_out() {
    let site = Site::new();
    let (token, key) = (JoinToken::generate().expect("a token"), SubjectKey::generate());
    let start = EnrollRequest { step: Some(Step::Start(stranger::start("pump-1", &token, &key).encode_to_vec())) };
    let (mut open, mut refused) = (Vec::new(), 0);
    for _ in 0..12 {
        let channel = crowd::stranger(&site.server, ELSEWHERE).await.expect("a connection");
        for _ in 0..4 {
            let exchange = async {
                let mut exchange = Exchange::over(EnrollmentClient::new(channel.clone()), start.clone()).await?;
                exchange.challenge().await?;
                Ok::<_, tonic::Status>(exchange)
            };
            match exchange.await {
                Ok(exchange) => open.push(exchange),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(open.len() >= 16 && open.len() + refused == 48, "{refused}");
    site.goes_on("pump-8").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_with_a_hundred_connections_keeps_no_other_out() {
    let site = Site::new();
    let thief = Holder::copy(&Device::enroll(&site.server, "sensors", "pump-6"));
    let mut open = Vec::new();
    for _ in 0..50 {
        // The first ones end, or the last ones are refused: nobody has more than his share.
        open.extend(crowd::channel(ELSEWHERE, site.server.addresses().devices, thief.tls(&site.server)).await);
    }
    let mut stalled = JoinSet::new();
    for channel in open.iter().flat_map(|channel| std::iter::repeat_n(channel.clone(), 10)) {
        stalled.spawn(async move { crowd::stalled(&channel, "/fleetca.v1.Renewal/Renew").await });
    }
    site.is_full("connections");
    site.is_full("requests");
    site.goes_on("pump-8").await;
    stalled.shutdown().await;
}
