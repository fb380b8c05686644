//! Every call that there is, as the descriptors have it: a call that is added is tried, too.

use std::error::Error;

use fleetca_proto::DESCRIPTOR_SET;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{Request, Status, Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

/// A call of one of our services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Such as `Renewal`.
    pub service: String,
    /// Such as `Renew`.
    pub method: String,
}

impl Call {
    /// As it stands in a request, such as `/fleetca.v1.Renewal/Renew`.
    pub fn path(&self) -> String {
        format!("/fleetca.v1.{}/{}", self.service, self.method)
    }
}

/// Every call of every service.
pub fn all() -> Vec<Call> {
    let set = FileDescriptorSet::decode(DESCRIPTOR_SET).expect("the descriptors");
    let services = set.file.iter().flat_map(|file| &file.service);
    let calls = services.flat_map(|service| {
        let call = |method: &str| Call { service: service.name().to_owned(), method: method.to_owned() };
        service.method.iter().map(move |method| call(method.name()))
    });
    calls.collect()
}

/// What comes of a call with one message: `OK`, `SILENCE` where the answer is empty, the reason of the refusal, `CUT`
/// where the connection ended, or the code of any other refusal.
pub async fn outcome(channel: &Channel, path: &str, message: impl Message + 'static) -> String {
    match call(channel, path, message).await {
        Ok(0) => "SILENCE".into(),
        Ok(_) => "OK".into(),
        Err(status) if status.source().is_some() => "CUT".into(),
        Err(status) => {
            let reason = status.get_details_error_info().map(|info| info.reason);
            reason.unwrap_or_else(|| format!("{:?}", status.code()))
        }
    }
}

async fn call(channel: &Channel, path: &str, message: impl Message + 'static) -> Result<usize, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let path = PathAndQuery::try_from(path).expect("a path");
    // A call with one message is a stream of one; its answer, too.
    let request = Request::new(tokio_stream::once(message));
    let mut answers: Streaming<()> = client.streaming(request, path, ProstCodec::default()).await?.into_inner();
    let mut count = 0;
    while answers.message().await?.is_some() {
        count += 1;
    }
    Ok(count)
}
