//! Enrollment: the first certificate, by the evidence of an attester. Start, Challenge, Proof, Issued.
//!
//! The key is on disk before anything is asked, and kept for the same request: after a lost reply, or when all is done
//! and nobody was told, the same command gets the same certificate.

use std::time::Duration;

use fleetca_proto::{
    transcript::{self, Role},
    v1::{
        self, EnrollRequest, EnrollResponse, GetTimeRequest, Proof, Start, enroll_request,
        enroll_response::Step as Answer,
    },
};
use prost::Message;
use ring::digest::{SHA256, digest};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    adoption::{New, adopt},
    attester::{Attester, previous::Previous},
    certificate::hex,
    connect::{Connection, ServerUrl},
    credential::{Credential, LockedFolder},
    flow::{FlowError, Observer, Step},
    identity::{Id, Kind, TrustDomain},
    issued::{Expected, Issued},
    keys::Key,
    refusal::Refusal,
    renew,
    trust::Trust,
    wall_time::WallTime,
};

const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(40);
const NONCE_OCTETS: usize = 32;

/// What is asked for, and with what.
#[derive(Debug)]
pub struct Enrollment {
    /// Where to.
    pub server: ServerUrl,
    /// How the server is recognised.
    pub trust: Trust,
    /// Whom the certificate is for.
    pub kind: Kind,
    /// Its ID. May be left out where the evidence names it.
    pub id: Option<Id>,
    /// The evidence.
    pub attester: Attester,
}

/// Enrolls, and makes the certificate the folder's current credential.
///
/// ```no_run
/// use enroll_client::{attester::{Attester, token::JoinToken}, credential::LockedFolder, enroll::{Enrollment, enroll},
///     flow::Observer, identity::Kind, trust::{Roots, Trust}};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let enrollment = Enrollment {
///     server: "https://ca.example:7443".parse()?,
///     trust: Trust::Roots(Roots::from_pem(&std::fs::read("control-root.pem")?)?),
///     kind: Kind::Device,
///     id: Some("pump-7".parse()?),
///     attester: Attester::Token(JoinToken::parse(&std::fs::read_to_string("pump-7.token")?)?),
/// };
/// let folder = LockedFolder::open("/var/lib/fleetca".as_ref())?;
/// let credential = enroll(&folder, &enrollment, Observer::none()).await?;
/// println!("{} until {}", credential.id(), credential.leaf().not_after());
/// # Ok(()) }
/// ```
pub async fn enroll(
    folder: &LockedFolder,
    enrollment: &Enrollment,
    observer: Observer<'_>,
) -> Result<Credential, FlowError> {
    match enroll_once(folder, enrollment, false, observer).await {
        // What was issued for the key of this request has come to its end: a fresh key is a fresh question.
        Err(FlowError::Refused(refusal)) if refusal.reason.as_deref() == Some("KEY_REUSED") => {
            folder.drop_next_key()?;
            enroll_once(folder, enrollment, true, observer).await
        }
        outcome => outcome,
    }
}

/// Asks once. Asked with another key it is another request; so it is where such a key is waiting for its answer.
async fn enroll_once(
    folder: &LockedFolder,
    enrollment: &Enrollment,
    with_another_key: bool,
    observer: Observer<'_>,
) -> Result<Credential, FlowError> {
    // Step 1: whose folder is it? A credential that cannot be read does not stand in the way of a new one.
    let kept = folder.load().ok();
    if let Some(kept) = &kept {
        check_owner(kept, enrollment)?;
    }

    // Step 2: reach the server, and learn its trust domain.
    let kept = kept.as_ref().map(Credential::state);
    let connection = reach(enrollment, kept.map(|kept| &kept.trust_domain)).await?;
    let trust_domain = connection.trust_domain().clone();

    // Step 3: the key, durable before it is asked with.
    let asked_id = enrollment.id.as_ref().map_or("*", Id::as_str);
    let label = enrollment.attester.label();
    let first = format!("enroll {} {asked_id} in {trust_domain} by {label}", enrollment.kind);
    let second = format!("{first}, with another key");
    let is_current = kept.is_some_and(|kept| kept.obtained_by == second);
    let is_other = match with_another_key {
        // Not the one that the current key belongs to.
        true => !is_current,
        false => folder.keeps_next_key(&second)? || is_current && !folder.keeps_next_key(&first)?,
    };
    let purpose = if is_other { second } else { first };
    let next = folder.next_key(&purpose, || enrollment.attester.new_key())?;
    enrollment.attester.make_ready(&next.key)?;
    // No server keeps the connection of a stranger for as long as that may take.
    let connection = match enrollment.attester.may_take_long() {
        true => {
            drop(connection);
            reach(enrollment, Some(&trust_domain)).await?
        }
        false => connection,
    };
    observer.reached(Step::NextKeyDurable);

    // Step 4: ask and prove.
    let exchange = exchange(&connection, enrollment, &next.key);
    let answer = timeout(EXCHANGE_TIMEOUT, exchange).await.map_err(|_| FlowError::TimedOut)??;
    observer.reached(Step::Answered);

    // Step 5: take nothing but a certificate of our own.
    let expected = Expected {
        trust_domain: &trust_domain,
        kind: enrollment.kind,
        id: enrollment.id.as_ref(),
        spki: &next.key.spki(),
        trusted: connection.roots(),
        sequence: kept.map_or(0, |kept| kept.trust_sequence),
        device_roots: None,
    };
    let issued = Issued::verify(&answer, &expected, WallTime::now())?;

    // Step 6: on disk, current and in force.
    let new = New {
        issued: &issued,
        key: &next.key,
        server: &enrollment.server,
        trust_domain: &trust_domain,
        kind: enrollment.kind,
        purpose: &purpose,
        // Programs that use a credential that was there before are to be told.
        announced: kept.is_none(),
    };
    adopt(folder, &new, observer).await
}

/// Comes back with the folder's own credential, whose certificate has expired, or whose issuing CA was revoked: for so long as
/// the fleet's grace lasts.
pub async fn recover(folder: &LockedFolder, observer: Observer<'_>) -> Result<Credential, FlowError> {
    match renew::settle(folder, observer).await {
        // An earlier run left a certificate that only wanted to be confirmed.
        Ok(true) => return Ok(folder.load()?),
        Ok(false) => {}
        // That one has expired in its turn.
        Err(FlowError::Refused(refusal)) if refusal.may_come_back() => {}
        Err(error) => return Err(error),
    }
    let credential = folder.load()?;
    let state = credential.state();
    let enrollment = Enrollment {
        server: state.server.clone(),
        trust: Trust::Roots(credential.control_roots().clone()),
        kind: state.kind,
        id: Some(state.id.clone()),
        attester: Attester::Previous(Previous::of(&credential)?),
    };
    enroll(folder, &enrollment, observer).await
}

/// A connection to the server, of the trust domain that is known, if one is.
async fn reach(enrollment: &Enrollment, known: Option<&TrustDomain>) -> Result<Connection, FlowError> {
    let connection = Connection::open(&enrollment.server, &enrollment.trust, None).await?;
    let found = connection.trust_domain();
    match known.filter(|known| *known != found) {
        Some(kept) => Err(FlowError::OtherTrustDomain { kept: kept.clone(), found: found.clone() }),
        None => Ok(connection),
    }
}

fn check_owner(kept: &Credential, enrollment: &Enrollment) -> Result<(), FlowError> {
    let state = kept.state();
    let is_other = state.kind != enrollment.kind || enrollment.id.as_ref().is_some_and(|id| *id != state.id);
    if is_other {
        return Err(FlowError::OtherIdentity { kind: state.kind, id: state.id.clone() });
    }
    Ok(())
}

async fn exchange(connection: &Connection, enrollment: &Enrollment, key: &Key) -> Result<v1::Issued, FlowError> {
    let start = Start {
        trust_domain: connection.trust_domain().to_string(),
        kind: enrollment.kind.wire().into(),
        id: enrollment.id.as_ref().map(Id::to_string).unwrap_or_default(),
        csr: key.csr()?,
        evidence: Some(enrollment.attester.evidence()),
    }
    .encode_to_vec();
    // A device whose clock is wrong still proves itself: what its proof says of the time is the server's word.
    let now = match enrollment.attester.tells_time() {
        true => {
            let answer = connection.enrollment().get_time(GetTimeRequest {}).await.map_err(Refusal::from)?;
            answer.into_inner().server_time.map_or_else(WallTime::now, WallTime::from)
        }
        false => WallTime::now(),
    };
    let (requests, outgoing) = mpsc::channel(2);
    let send = |step| {
        // The channel holds both of our messages; if the call has ended, its answer says why.
        let _ = requests.try_send(EnrollRequest { step: Some(step) });
    };
    send(enroll_request::Step::Start(start.clone()));
    let call = connection.enrollment().enroll(ReceiverStream::new(outgoing)).await;
    let mut answers = call.map_err(Refusal::from)?.into_inner();
    let challenge = match next(&mut answers).await? {
        Answer::Challenge(challenge) => challenge,
        Answer::Issued(_) => return Err(FlowError::OutOfOrder("a certificate before the proof")),
        Answer::PendingApproval(pending) => return Err(pending_approval(&pending, key)),
    };
    check_challenge(&challenge)?;
    send(enroll_request::Step::Proof(prove(enrollment, key, &start, &challenge, now)?));
    match next(&mut answers).await? {
        Answer::Issued(issued) => Ok(issued),
        Answer::PendingApproval(pending) => Err(pending_approval(&pending, key)),
        Answer::Challenge(_) => Err(FlowError::OutOfOrder("a second challenge")),
    }
}

/// A proof over less than a whole nonce might be one that somebody has seen before.
fn check_challenge(challenge: &[u8]) -> Result<(), FlowError> {
    match v1::Challenge::decode(challenge) {
        Ok(challenge) if challenge.nonce.len() == NONCE_OCTETS => Ok(()),
        _ => Err(FlowError::OutOfOrder("a challenge without a nonce of 32 octets")),
    }
}

fn prove(
    enrollment: &Enrollment,
    key: &Key,
    start: &[u8],
    challenge: &[u8],
    now: WallTime,
) -> Result<Proof, FlowError> {
    let attester = &enrollment.attester;
    let subject = transcript::enrollment(attester.method(), Role::Subject, start, challenge);
    Ok(Proof { subject_signature: key.sign(&subject)?, ..attester.prove(start, challenge, now)? })
}

async fn next(answers: &mut Streaming<EnrollResponse>) -> Result<Answer, FlowError> {
    let answer = answers.message().await.map_err(Refusal::from)?;
    answer.and_then(|answer| answer.step).ok_or(FlowError::OutOfOrder("the stream ended"))
}

/// What the operator compares is made here; what the server says of it is taken only where it could be that.
fn pending_approval(pending: &v1::PendingApproval, key: &Key) -> FlowError {
    let wire = pending.retry_after.unwrap_or_default();
    let hash = hex(digest(&SHA256, &key.spki()).as_ref());
    let id = Id::try_from(pending.id.clone()).map_or_else(|_| "ID".to_owned(), |id| id.to_string());
    let printable = pending.identity.len() <= 256 && pending.identity.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let identity = if printable { pending.identity.as_str() } else { "" };
    FlowError::PendingApproval {
        waits: format!(
            "he sees it by `ca-server device approve {id}`, and compares identity {identity} and key {hash}"
        ),
        retry_after: Duration::from_secs(wire.seconds.clamp(1, 86_400).unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_without_a_whole_nonce_is_not_answered() {
        let challenge = |octets| v1::Challenge { nonce: vec![7; octets], tpm: None }.encode_to_vec();
        assert!(check_challenge(&challenge(32)).is_ok());
        for octets in [0, 31, 33] {
            assert!(matches!(check_challenge(&challenge(octets)), Err(FlowError::OutOfOrder(_))), "{octets}");
        }
        assert!(matches!(check_challenge(&[0xff]), Err(FlowError::OutOfOrder(_))));
    }
}
