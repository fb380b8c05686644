//! A server inside of this process, over its real ports, by a clock that is set by hand.

use std::{path::Path, sync::Arc};

use ca_server::{
    clock::ManualClock,
    config::Config,
    folder::Folder,
    server::{Server, Start},
};

/// Serves the CA in this folder, which no other server does, on free ports.
pub async fn serve(dir: &Path, clock: Arc<ManualClock>) -> Server {
    let folder = Folder::new(dir);
    let free = "127.0.0.1:0".parse().expect("an address");
    let config = Config::read(&folder.config()).expect("settings");
    let config = Config { listen: free, operator_listen: free, http_listen: free, metrics_listen: free, ..config };
    Server::start(&folder, &config, Start::default(), clock).await.expect("it starts")
}
