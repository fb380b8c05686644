//! `Revocation`: CRLs for gateways, in chunks. The same bytes as over HTTP.

mod watch;

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use fleetca_proto::v1::{
    AcknowledgeRequest, AcknowledgeResponse, CrlChunk, CrlHead, GetCrlRequest, WatchCrlRequest, WatchCrlResponse,
    get_crl_request::Form, revocation_server::Revocation, watch_crl_request,
};
use futures::Stream;
use tonic::{Request, Response, Status};

use self::watch::Watch;
use super::Caller;
use crate::{
    authority::{Authority, HeldCrl, Published, Refusal, Refused, Shown, Takes},
    identity::{FleetName, Kind, Subject, Timestamp},
    store::ClaimedCrl,
};

/// How much of a CRL goes into one message.
const CHUNK: usize = 32 * 1024;
/// How many CRLs one call acknowledges at most.
const MOST_HELD: usize = 100;

/// The service.
#[derive(Clone)]
pub struct Service {
    authority: Arc<Authority>,
}

impl Service {
    /// Over this CA.
    pub fn new(authority: Arc<Authority>) -> Self {
        Self { authority }
    }

    /// The CRLs that a form asks for. Everybody may have the complete ones, as over HTTP; a device may ask for its own
    /// list only.
    async fn crls(&self, caller: &Subject, form: Option<Form>) -> Result<Vec<Arc<Published>>, Refused> {
        let publisher = &self.authority.publisher;
        if publisher.is_halted() {
            return Err(Refusal::Restored.into());
        }
        let takes = |what| self.authority.takes(caller, what);
        match form {
            Some(Form::Full(issuer)) => {
                let issuer = issuer.parse().map_err(Refusal::name("full"))?;
                takes(Takes::One(issuer));
                Ok(vec![publisher.current(&issuer).ok_or(Refusal::NotFound("issuer"))?])
            }
            Some(Form::Bundle(bundle)) => {
                let bundle = match bundle.fleet.as_str() {
                    "" => {
                        takes(Takes::All);
                        publisher.bundle()
                    }
                    name => {
                        let fleet: FleetName = name.parse().map_err(Refusal::name("fleet"))?;
                        let policy = self.authority.policy(&fleet).await?;
                        takes(Takes::Fleet(fleet.clone()));
                        publisher.fleet_bundle(&fleet, &policy).await.map_err(Refusal::from)?
                    }
                };
                Ok(bundle.ok_or(Refusal::Unpublished)?)
            }
            Some(Form::Device(id)) => {
                let device = Subject::new(Kind::Device, id.parse().map_err(Refusal::name("device"))?);
                if caller.kind == Kind::Device && *caller != device {
                    return Err(Refusal::KindRefused("device other than the one that it is about").into());
                }
                let holder = self.authority.store.holder(&device).await?.ok_or(Refusal::NotFound("device"))?;
                let mut lists = Vec::new();
                for issuer in self.authority.issuers_of(&holder).await? {
                    let list = publisher.device_list(&issuer, &device, &holder.handle).await;
                    lists.push(list.map_err(Refusal::from)?);
                }
                Ok(lists)
            }
            None => Err(Refusal::invalid("form", "say which CRL").into()),
        }
    }
}

#[tonic::async_trait]
impl Revocation for Service {
    type GetCrlStream = Pin<Box<dyn Stream<Item = Result<CrlChunk, Status>> + Send>>;

    async fn get_crl(&self, request: Request<GetCrlRequest>) -> Result<Response<Self::GetCrlStream>, Status> {
        let outcome = async {
            let peer = self.authority.caller(&request).await?;
            let subject = &peer.holder.subject;
            let crls = self.crls(subject, request.into_inner().form).await?;
            Ok::<_, Refused>((crls, subject.kind == Kind::Gateway))
        };
        let (crls, signed) = outcome.await.map_err(|refused| self.authority.status(refused))?;
        let total = u32::try_from(crls.len()).unwrap_or(u32::MAX);
        let chunks = crls.into_iter().zip(0u32..).flat_map(move |(crl, index)| chunks(&crl, index, total, signed));
        Ok(Response::new(Box::pin(futures::stream::iter(chunks.map(Ok)))))
    }

    type WatchCrlStream = Pin<Box<dyn Stream<Item = Result<WatchCrlResponse, Status>> + Send>>;

    async fn watch_crl(&self, request: Request<WatchCrlRequest>) -> Result<Response<Self::WatchCrlStream>, Status> {
        let refuse = |refused: Refused| self.authority.status(refused);
        let presented = Caller::certificate(&request).map_err(refuse)?;
        let WatchCrlRequest { form, held } = request.into_inner();
        let form = match form {
            Some(watch_crl_request::Form::Full(issuer)) => Form::Full(issuer),
            Some(watch_crl_request::Form::Bundle(bundle)) => Form::Bundle(bundle),
            None => return Err(refuse(Refusal::invalid("form", "say which CRLs").into())),
        };
        let watch = Watch::new(self.clone(), presented, form, held).map_err(|refusal| refuse(refusal.into()))?;
        Ok(Response::new(Box::pin(watch.stream())))
    }

    async fn acknowledge(&self, request: Request<AcknowledgeRequest>) -> Result<Response<AcknowledgeResponse>, Status> {
        let outcome = async {
            let presented = Caller::certificate(&request)?;
            let AcknowledgeRequest { held: heads, not_loaded, continues } = request.into_inner();
            if heads.len() > MOST_HELD {
                return Err(Refusal::invalid("held", format!("must be at most {MOST_HELD}")).into());
            }
            let held = heads.into_iter().map(held).collect::<Result<Vec<_>, _>>()?;
            let shown = match (not_loaded, continues) {
                (true, _) => Shown::InFile,
                (false, false) => Shown::Loaded,
                (false, true) => Shown::LoadedToo,
            };
            self.authority.acknowledge(&presented, &held, shown).await
        };
        outcome.await.map_err(|refused: Refused| self.authority.status(refused))?;
        Ok(Response::new(AcknowledgeResponse {}))
    }
}

/// Reads what a caller says it holds.
fn held(head: CrlHead) -> Result<HeldCrl, Refusal> {
    let issuer = head.issuer.parse().map_err(Refusal::name("issuer"))?;
    let sha256 = head.sha256.try_into().map_err(|_| Refusal::invalid("sha256", "must have 32 octets"))?;
    let this_update = head.this_update.ok_or_else(|| Refusal::invalid("this_update", "is missing"))?;
    let this_update = Timestamp::from_secs(this_update.seconds);
    let claimed = ClaimedCrl { issuer, number: head.number, this_update, sha256 };
    Ok(HeldCrl { claimed, signature: head.signature })
}

/// A CRL's chunks: made one at a time as they are sent. `signed`: with the signature over its head, which only gateways
/// may show.
fn chunks(crl: &Published, index: u32, total: u32, signed: bool) -> impl Iterator<Item = CrlChunk> + use<> {
    let (issuer, number, der): (String, u64, Bytes) = (crl.issuer.to_string(), crl.number, crl.der.clone());
    let signature = if signed { crl.head_signature.clone() } else { Bytes::new() };
    (0..der.len()).step_by(CHUNK).map(move |at| CrlChunk {
        index,
        issuer: if at == 0 { issuer.clone() } else { String::new() },
        number: if at == 0 { number } else { 0 },
        total: if at == 0 && index == 0 { total } else { 0 },
        head_signature: if at == 0 { signature.to_vec() } else { Vec::new() },
        data: der.slice(at..der.len().min(at + CHUNK)).to_vec(),
    })
}
