//! Tells the CA which CRLs are held here: before newer ones are taken, and after. One that the CA has signed and
//! forgotten tells it that its past was restored.

use std::time::Duration;

use fleetca_proto::v1::{AcknowledgeRequest, CrlHead};
use tokio::time::timeout;
use tonic::Code;

use super::{
    SyncError,
    state::{State, octets},
};
use crate::{connect::Connection, refusal::Refusal};

/// How many one call may name.
const MOST: usize = 100;
/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Acknowledges all that the file holds; as loaded, unless the gateway's program was not told yet, or has failed on it.
/// Refused with `RESTORED` where the CA stands still: then what is held stays.
pub(super) async fn acknowledge(connection: &Connection, state: &State) -> Result<(), SyncError> {
    let held = held(state);
    // Who holds nothing shows himself all the same: the CA may have forgotten him.
    let nothing = held.is_empty().then_some([].as_slice());
    for (held, at) in held.chunks(MOST).chain(nothing).zip(0..) {
        let request = AcknowledgeRequest { held: held.to_vec(), not_loaded: state.hook_pending, continues: at > 0 };
        let mut service = connection.revocation();
        let answer = timeout(PATIENCE, service.acknowledge(request)).await.map_err(|_| SyncError::TimedOut)?;
        match answer {
            // A server from before there was this call.
            Err(status) if status.code() == Code::Unimplemented => return Ok(()),
            answer => drop(answer.map_err(Refusal::from)?),
        }
    }
    Ok(())
}

/// What the file holds, as far as it came with a signature.
fn held(state: &State) -> Vec<CrlHead> {
    let heads = state.crls.iter().filter(|(_, crl)| crl.in_file).map(|(issuer, crl)| {
        Some(CrlHead {
            issuer: issuer.to_string(),
            number: u64::from_str_radix(&crl.number, 16).ok()?,
            this_update: Some(prost_types::Timestamp {
                seconds: i64::try_from(crl.this_update.unix()).ok()?,
                nanos: 0,
            }),
            sha256: octets(&crl.sha256)?,
            signature: crl.head_signature_octets().filter(|signature| !signature.is_empty())?,
        })
    });
    heads.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{certificate::hex, crl_sync::state::Kept, wall_time::WallTime};

    fn kept(number: &str, signature: &str, in_file: bool) -> Kept {
        Kept {
            number: number.into(),
            seen: None,
            sha256: hex(&[7; 32]),
            this_update: WallTime::from_unix(1_800_000_000),
            next_update: None,
            issuer_serial: "1".into(),
            issuer_not_after: WallTime::from_unix(1_900_000_000),
            in_file,
            is_root: false,
            head_signature: signature.into(),
        }
    }

    #[test]
    fn what_is_in_the_file_and_came_with_a_signature_is_acknowledged() {
        let crls = [
            ("0000000000000001", kept("1a2", "0102", true)),
            ("0000000000000002", kept("1a2", "", true)),
            ("0000000000000003", kept("1a2", "0102", false)),
            ("0000000000000004", kept("1a2", "01zz", true)),
            ("0000000000000005", kept(&"f".repeat(40), "0102", true)),
        ];
        let crls = crls.into_iter().map(|(issuer, kept)| (issuer.parse().unwrap(), kept)).collect();
        let heads = held(&State { crls, ..State::default() });
        let [head] = heads.as_slice() else { panic!("{heads:?}") };
        assert_eq!((head.issuer.as_str(), head.number), ("0000000000000001", 0x1a2));
        assert_eq!((head.sha256.as_slice(), head.signature.as_slice()), ([7; 32].as_slice(), [1, 2].as_slice()));
        assert_eq!(head.this_update.as_ref().map(|at| at.seconds), Some(1_800_000_000));
    }
}
