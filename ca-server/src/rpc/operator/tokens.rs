//! Calls about join tokens for devices.

use fleetca_proto::v1;

use super::{next_page, page_refused, page_size};
use crate::{
    authority::{Authority, NewToken, Refusal, TokenFor},
    identity::{FleetName, TokenId},
    rpc::convert,
};

pub async fn create(authority: &Authority, request: v1::CreateTokenRequest, actor: &str) -> Result<v1::Token, Refusal> {
    let fleet: FleetName = request.fleet.parse().map_err(Refusal::name("fleet"))?;
    let target = match (request.device_id.as_str(), request.id_pattern.as_str()) {
        ("", "") => return Err(Refusal::invalid("device_id", "say which device, or a pattern for new ones")),
        (id, "") => {
            let id = id.parse().map_err(Refusal::name("device_id"))?;
            TokenFor::Device { fleet, id, reenroll: request.reenroll }
        }
        ("", pattern) if !request.reenroll => {
            TokenFor::NewDevices { fleet, pattern: pattern.into(), uses: request.uses }
        }
        ("", _) => return Err(Refusal::invalid("reenroll", "a fleet token is for new devices only")),
        _ => return Err(Refusal::invalid("id_pattern", "say one device or a pattern, not both")),
    };
    let new = NewToken {
        public_key: public_key(&request.public_key)?,
        target,
        lifetime: convert::duration("lifetime", request.lifetime)?,
    };
    Ok(convert::token(authority.create_token(new, actor).await?, authority.now()))
}

pub async fn list(
    authority: &Authority,
    request: v1::ListTokensRequest,
    _: &str,
) -> Result<v1::ListTokensResponse, Refusal> {
    let (now, limit) = (authority.now(), page_size(request.page_size));
    let fleet: Option<FleetName> = match request.fleet.as_str() {
        "" => None,
        name => Some(name.parse().map_err(Refusal::name("fleet"))?),
    };
    let before: Option<TokenId> = match request.page_token.as_str() {
        "" => None,
        id => Some(id.parse().map_err(Refusal::name("page_token"))?),
    };
    let rows = authority.store.tokens(fleet.as_ref(), before.as_ref(), limit).await.map_err(page_refused)?;
    let next_page_token = next_page(&rows, limit, |row| row.id.to_string());
    Ok(v1::ListTokensResponse {
        tokens: rows.into_iter().map(|row| convert::token(row, now)).collect(),
        next_page_token,
    })
}

pub async fn revoke(authority: &Authority, request: v1::RevokeTokenRequest, actor: &str) -> Result<v1::Token, Refusal> {
    let id: TokenId = request.id.parse().map_err(Refusal::name("id"))?;
    Ok(convert::token(authority.revoke_token(&id, actor).await?, authority.now()))
}

/// An Ed25519 public key: its length is all that can be told of it.
pub fn public_key(octets: &[u8]) -> Result<[u8; 32], Refusal> {
    octets.try_into().map_err(|_| Refusal::invalid("public_key", "must be an Ed25519 public key, 32 octets"))
}
