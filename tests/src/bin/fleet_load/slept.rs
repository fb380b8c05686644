//! Devices that have slept until their certificates had expired, for `--enrollments`: they come back by `previous`.
//!
//! Certificates live for five minutes at least, and the server that is measured has the machine's clock. So these devices
//! enroll before, at a server in this process whose clock is behind: what it gives them has expired already. The CA was
//! made a moment ago, and an issuing CA signs from when it is known: that alone is dated back in the store.

use std::{sync::Arc, time::Duration};

use ca_server::clock::{Clock, ManualClock, SystemClock};
use fleetca_tests::{
    inside,
    server::Server,
    simulator::{Device, Factory, Method},
    stranger,
};
use futures::StreamExt;

use super::STREAMS;

/// How far that clock is behind: longer than the shortest validity, and too little for a server to take it for wrong.
const BEHIND: Duration = Duration::from_secs(540);

/// Those among the first `count` devices that come back. The server is another process afterwards, on the same ports.
pub async fn devices(server: &mut Server, factory: &Factory, count: usize) -> Vec<Device> {
    server.admin().run(&["fleet", "set", "load", "--validity", "5m"]);
    server.stop();
    backdate_issuers(server);
    let behind = inside::serve(&server.dir(), Arc::new(ManualClock::new(SystemClock.now() - BEHIND))).await;
    let url = format!("https://localhost:{}", behind.addresses.devices.port());
    let slept = {
        let connection = &stranger::connect_to(&url, &server.control_root()).await;
        let sleep = |number| {
            let new = factory.device(format!("device-{number}"), Method::Token);
            let (device, _) = new.expect("it needs no TPM");
            async move { device.prepare().sleep(connection).await.expect("it enrolls") }
        };
        let sleepers = (0..count).filter(|number| Method::of(*number) == Method::Previous);
        futures::stream::iter(sleepers.map(sleep)).buffer_unordered(STREAMS).collect().await
    };
    behind.stop().await;
    server.start_again();
    // As new fleets have it, and as every other fleet that is measured.
    server.admin().run(&["fleet", "set", "load", "--validity", "24h"]);
    slept
}

/// The issuing CAs were known before the server whose clock is behind begins.
fn backdate_issuers(server: &Server) {
    let database = rusqlite::Connection::open(server.dir().join("ca.db")).expect("a database");
    let earlier = i64::try_from(2 * BEHIND.as_millis()).expect("minutes");
    database.execute("UPDATE issuers SET created_at = created_at - ?1", [earlier]).expect("issuers");
}
