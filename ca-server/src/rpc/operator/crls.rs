//! Calls about CRLs and issuers.

use fleetca_proto::v1;

use super::proof;
use crate::{
    audit::Draft,
    authority::{Authority, Refusal},
    pki::Locations,
    rpc::convert,
};

pub async fn list(authority: &Authority, _: v1::ListCrlsRequest, _: &str) -> Result<v1::ListCrlsResponse, Refusal> {
    let locations =
        Locations::new(&authority.domain().public_url).map_err(|_| Refusal::Internal("public URL unreadable"))?;
    let name = |id| authority.issuers().certificate(id).map(|issuer| issuer.subject_text().to_owned());
    let crls = authority.publisher.all();
    let gateways = authority.loaded().await?;
    let rows = crls.iter().map(|crl| {
        let row = convert::crl(crl, name(&crl.issuer).unwrap_or_default(), crl.role.as_str(), &locations);
        let loaded = authority.loaded_at(&gateways, &[(crl.issuer, crl.number)]);
        v1::CrlStatus { loaded: loaded.as_ref().map(proof::loaded_at), ..row }
    });
    Ok(v1::ListCrlsResponse { crls: rows.collect() })
}

pub async fn publish(
    authority: &Authority,
    request: v1::PublishCrlRequest,
    actor: &str,
) -> Result<v1::ListCrlsResponse, Refusal> {
    if request.root_crl.is_empty() {
        authority.publisher.publish_now(request.accept_clock).await?;
        if request.accept_clock {
            let audit = Draft::done(authority.now(), actor, "clock.accepted", "crl".into());
            authority.store.record_audit(audit).await?;
        }
    } else {
        let audit = Draft::done(authority.now(), actor, "crl.root_taken_in", "crl".into());
        authority.publisher.take_root_crl(request.root_crl, audit).await?;
    }
    list(authority, v1::ListCrlsRequest {}, actor).await
}

pub async fn issuers(
    authority: &Authority,
    request: v1::ListIssuersRequest,
    _: &str,
) -> Result<v1::ListIssuersResponse, Refusal> {
    let mut issuers: Vec<_> = authority
        .issuers()
        .certificates()
        .map(|(id, role, certificate)| convert::issuer(*id, role.as_str(), certificate))
        .collect();
    let (now, wait) = (authority.publisher.now(), authority.issuers().wait());
    for place in authority.issuers().places().iter() {
        let id = place.id.to_string();
        if let Some(issuer) = issuers.iter_mut().find(|issuer| issuer.id == id) {
            convert::place(issuer, place, wait, now);
        }
    }
    if request.with_use {
        let all = authority.store.issuers_in_use(authority.now()).await?;
        let total = all.iter().map(|one| one.live).sum();
        for one in all {
            let id = one.issuer.to_string();
            if let Some(issuer) = issuers.iter_mut().find(|issuer| issuer.id == id) {
                (issuer.live, issuer.live_of_all) = (one.live, total);
                issuer.last_not_after = one.last_not_after.map(convert::timestamp);
                issuer.fleets = one.fleets.iter().map(|(name, _)| name.to_string()).collect();
            }
        }
    }
    issuers.sort_by(|left, right| (&left.hierarchy, &left.id).cmp(&(&right.hierarchy, &right.id)));
    Ok(v1::ListIssuersResponse { issuers })
}

pub async fn retire_issuer(
    authority: &Authority,
    request: v1::RetireIssuerRequest,
    actor: &str,
) -> Result<v1::ListIssuersResponse, Refusal> {
    authority.retire_issuer(request.id.parse().map_err(Refusal::name("id"))?, actor).await?;
    issuers(authority, v1::ListIssuersRequest::default(), actor).await
}
