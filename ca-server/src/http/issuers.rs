//! The issuers' certificates, as the certificates that they signed say where to find them.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{Path, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, Method};

use super::{
    conditions::Validators,
    crls::not_found,
    representation::{Content, Gzipped, Media, Representation},
};
use crate::{authority::Issuers, identity::IssuerId};

/// An issuer's key is in its name: under this name there is never another certificate of another key.
const CERTIFICATE: Media = Media { content_type: "application/pkix-cert", cache_control: "max-age=86400" };

/// Every issuer's certificate.
pub(super) struct Certificates(HashMap<IssuerId, Representation>);

impl Certificates {
    pub(super) fn new(issuers: &Issuers) -> Self {
        let representations = issuers.certificates().map(|(id, _, certificate)| {
            let validators = Validators {
                tag: certificate.hash().to_string(),
                last_modified: certificate.not_before(),
                dated_apart: true,
            };
            let content = Content::Bytes(Bytes::copy_from_slice(certificate.der()));
            (*id, Representation::new(CERTIFICATE, validators, content, Gzipped::default()))
        });
        Self(representations.collect())
    }
}

/// `/issuers/<issuer>.cer`.
pub(super) async fn certificate(
    State(certificates): State<Arc<Certificates>>,
    method: Method,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    let id = file.strip_suffix(".cer").and_then(|id| id.parse().ok());
    match id.and_then(|id: IssuerId| certificates.0.get(&id)) {
        Some(representation) => representation.answer(&headers, method == Method::GET).await,
        None => not_found(),
    }
}
