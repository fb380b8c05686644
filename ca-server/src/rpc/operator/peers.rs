//! Calls about gateways and operators.

use fleetca_proto::v1;

use super::{next_page, page_size, proof, tokens::public_key};
use crate::{
    authority::{Authority, NewToken, Refusal, TokenFor},
    identity::{Kind, Subject},
    rpc::convert,
};

pub async fn create_gateway(
    authority: &Authority,
    request: v1::CreateGatewayRequest,
    actor: &str,
) -> Result<v1::Token, Refusal> {
    let id = request.id.parse().map_err(Refusal::name("id"))?;
    let new = NewToken {
        public_key: public_key(&request.public_key)?,
        target: TokenFor::Gateway(id),
        lifetime: convert::duration("lifetime", request.lifetime)?,
    };
    Ok(convert::token(authority.create_token(new, actor).await?, authority.now()))
}

pub async fn create_operator(
    authority: &Authority,
    request: v1::CreateOperatorRequest,
    actor: &str,
) -> Result<v1::Token, Refusal> {
    let id = request.name.parse().map_err(Refusal::name("name"))?;
    let new = NewToken {
        public_key: public_key(&request.public_key)?,
        target: TokenFor::Operator(id, convert::role_from_wire(request.role)?),
        lifetime: convert::duration("lifetime", request.lifetime)?,
    };
    Ok(convert::token(authority.create_token(new, actor).await?, authority.now()))
}

pub async fn list_gateways(
    authority: &Authority,
    request: v1::ListGatewaysRequest,
    _: &str,
) -> Result<v1::ListGatewaysResponse, Refusal> {
    let (mut gateways, next_page_token) =
        list(authority, Kind::Gateway, request.page_size, &request.page_token).await?;
    let said = authority.loaded().await?;
    for gateway in &mut gateways {
        if let Some(said) = said.iter().find(|said| said.gateway.id.as_str() == gateway.id) {
            proof::add(gateway, said);
        }
    }
    Ok(v1::ListGatewaysResponse { gateways, next_page_token })
}

pub async fn list_operators(
    authority: &Authority,
    request: v1::ListOperatorsRequest,
    _: &str,
) -> Result<v1::ListOperatorsResponse, Refusal> {
    let (operators, next_page_token) = list(authority, Kind::Operator, request.page_size, &request.page_token).await?;
    Ok(v1::ListOperatorsResponse { operators, next_page_token })
}

async fn list(authority: &Authority, kind: Kind, size: u32, after: &str) -> Result<(Vec<v1::Peer>, String), Refusal> {
    let limit = page_size(size);
    let rows = authority.store.holders(kind, after, limit).await?;
    let next = next_page(&rows, limit, |row| row.subject.id.to_string());
    Ok((rows.into_iter().map(convert::peer).collect(), next))
}

pub async fn revoke_gateway(
    authority: &Authority,
    request: v1::RevokeGatewayRequest,
    actor: &str,
) -> Result<v1::RevocationReceipt, Refusal> {
    let subject = Subject::new(Kind::Gateway, request.id.parse().map_err(Refusal::name("id"))?);
    authority.revoke(&subject, convert::reason(request.reason)?, actor).await.map(convert::receipt)
}

pub async fn revoke_operator(
    authority: &Authority,
    request: v1::RevokeOperatorRequest,
    actor: &str,
) -> Result<v1::RevocationReceipt, Refusal> {
    let subject = Subject::new(Kind::Operator, request.name.parse().map_err(Refusal::name("name"))?);
    authority.revoke(&subject, convert::reason(request.reason)?, actor).await.map(convert::receipt)
}
