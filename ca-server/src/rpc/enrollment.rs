//! `Enrollment`: one challenge, one attempt a stream.

use std::{pin::Pin, sync::Arc, time::Duration};

use fleetca_proto::v1::{
    EnrollRequest, EnrollResponse, GetTimeRequest, GetTimeResponse, GetTrustBundleRequest, PendingApproval,
    SignedTrustBundle, enroll_request, enroll_response, enrollment_server::Enrollment,
};
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    convert::{issued, timestamp},
    status::RETRY_AFTER_PEOPLE,
};
use crate::authority::{Authority, EnrollmentRequest, Outcome, Refusal, Refused};

/// How long an enrollment may take, from the first message to the last.
const DEADLINE: Duration = Duration::from_secs(30);

/// The service.
pub struct Service {
    authority: Arc<Authority>,
}

impl Service {
    /// Over this CA.
    pub fn new(authority: Arc<Authority>) -> Self {
        Self { authority }
    }
}

type Responses = mpsc::Sender<Result<EnrollResponse, Status>>;

#[tonic::async_trait]
impl Enrollment for Service {
    type EnrollStream = Pin<Box<dyn Stream<Item = Result<EnrollResponse, Status>> + Send>>;

    async fn get_trust_bundle(&self, _: Request<GetTrustBundleRequest>) -> Result<Response<SignedTrustBundle>, Status> {
        let bundle = self.authority.trust_bundle().await.map_err(|refusal| self.authority.status(refusal))?;
        Ok(Response::new(bundle.signed.clone()))
    }

    async fn get_time(&self, _: Request<GetTimeRequest>) -> Result<Response<GetTimeResponse>, Status> {
        Ok(Response::new(GetTimeResponse { server_time: Some(timestamp(self.authority.now())) }))
    }

    async fn enroll(&self, request: Request<Streaming<EnrollRequest>>) -> Result<Response<Self::EnrollStream>, Status> {
        let authority = self.authority.clone();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let attempt = tokio::time::timeout(DEADLINE, attempt(&authority, request.into_inner(), &sender));
            let outcome = tokio::select! {
                attempt = attempt => attempt.unwrap_or(Err(Refusal::TimedOut.into())),
                // The peer has gone away, or lost its place. It gets the same answer when it asks again.
                () = sender.closed() => return,
            };
            let step = outcome.map(answer);
            let _ = sender.send(step.map_err(|refused| authority.status(refused))).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Start, Challenge, Proof.
async fn attempt(
    authority: &Authority,
    mut requests: Streaming<EnrollRequest>,
    responses: &Responses,
) -> Result<Outcome, Refused> {
    let enroll_request::Step::Start(start) = next(&mut requests).await? else {
        return Err(Refusal::Protocol("the first message must be Start").into());
    };
    let request = EnrollmentRequest::read(start, &authority.domain().trust_domain)?;
    let challenge = authority.challenge(&request).await?;
    let step = response(enroll_response::Step::Challenge(challenge.bytes().to_vec()));
    responses.send(Ok(step)).await.map_err(|_| Refusal::Protocol("the client went away"))?;
    let enroll_request::Step::Proof(proof) = next(&mut requests).await? else {
        return Err(Refusal::Protocol("the second message must be Proof").into());
    };
    authority.enroll(&request, &challenge, &proof).await
}

async fn next(requests: &mut Streaming<EnrollRequest>) -> Result<enroll_request::Step, Refused> {
    let message = requests.message().await.map_err(|_| Refusal::Protocol("a message can't be read"))?;
    let step = message.and_then(|message| message.step);
    Ok(step.ok_or(Refusal::Protocol("the stream ended before the enrollment did"))?)
}

fn answer(outcome: Outcome) -> EnrollResponse {
    response(match outcome {
        Outcome::Issued(grant) => enroll_response::Step::Issued(issued(grant, 0)),
        Outcome::Waits(asking) => enroll_response::Step::PendingApproval(PendingApproval {
            retry_after: RETRY_AFTER_PEOPLE.try_into().ok(),
            id: asking.id.to_string(),
            identity: format!("{}:{}", asking.hardware.kind(), asking.hardware),
        }),
    })
}

fn response(step: enroll_response::Step) -> EnrollResponse {
    EnrollResponse { step: Some(step) }
}
