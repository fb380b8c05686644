//! The first operator over gRPC itself, without a process a command: for tests that need much of something, or many
//! things at once.

use std::{path::Path, time::Duration};

use enroll_client::{attester::token::JoinToken, connect::Connection};
use fleetca_proto::v1::{CreateTokenRequest, operator_client::OperatorClient};
use tonic::{Status, transport::Channel};

use crate::{
    device::Device,
    holder::Holder,
    server::Server,
    stranger::{self, SubjectKey},
};

/// How long tokens that are made here live.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The first operator, on a connection that is kept.
#[derive(Clone, Debug)]
pub struct Admin(OperatorClient<Channel>);

impl Admin {
    /// The first operator of a server.
    pub fn of(server: &Server) -> Admin {
        Admin(Holder::copy(&Device::new(server.admin().credential().to_path_buf())).operator(server))
    }

    /// The service.
    pub fn client(&self) -> OperatorClient<Channel> {
        self.0.clone()
    }

    /// A join token for one device.
    pub async fn token(&self, fleet: &str, id: &str) -> JoinToken {
        self.try_token(fleet, id).await.expect("the token is recorded")
    }

    /// As [`Admin::token`], from a server that may be gone.
    pub async fn try_token(&self, fleet: &str, id: &str) -> Result<JoinToken, Status> {
        let request = CreateTokenRequest { fleet: fleet.into(), device_id: id.into(), uses: 1, ..Default::default() };
        self.try_make_token(request).await
    }

    /// A join token as the request says it, which lives for an hour.
    pub async fn make_token(&self, request: CreateTokenRequest) -> JoinToken {
        self.try_make_token(request).await.expect("the token is recorded")
    }

    async fn try_make_token(&self, request: CreateTokenRequest) -> Result<JoinToken, Status> {
        let token = JoinToken::generate().expect("a token is made");
        let lifetime = Some(LIFETIME.try_into().expect("an hour fits"));
        let request = CreateTokenRequest { public_key: token.public_key().to_vec(), lifetime, ..request };
        self.client().create_token(request).await?;
        Ok(token)
    }

    /// Enrolls a new device.
    pub async fn enroll(&self, strangers: &Connection, fleet: &str, id: &str) -> Holder {
        let (token, key) = (self.token(fleet, id).await, SubjectKey::generate());
        let issued = stranger::enroll(strangers, id, &token, &key).await.expect("a certificate");
        Holder::of(&issued, &key)
    }
}

/// Reads a join token from the file that a command wrote it into.
pub fn read_token(path: &Path) -> JoinToken {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    JoinToken::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
