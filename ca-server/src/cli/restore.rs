//! `ca-server restore`: a folder from a backup, revocations from CRLs that gateways hold, and the decision to go on.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use serde::Serialize;

use super::{CommandError, Session, accept_clock::AcceptClock, duration, init::place, local, output::Instant};
use crate::{
    authority::{
        LONGEST_WINDOW, RestoreError, TakenBack, UnknownCrl, latest, look_at, notice_restored, resume, struck,
        take_back, undecided,
    },
    backup,
    folder::{self, Folder},
    identity::{IssuerId, Timestamp},
    pki::{PemLabel, from_pem},
    server,
    store::{ReadStore, Resumption, sqlite::SqliteStore},
};

/// Make a CA's folder from a backup, or decide upon one whose past was restored
///
/// A CA whose past was restored stands still: it issues and publishes nothing, until --resume says that it may go on.
#[derive(Args, Clone, Debug)]
pub struct Restore {
    /// The CA's folder: with --from it must not exist, or be empty; else no server may run on it
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The backup
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
    /// Where the issuing CAs' keys are, if they are not in the backup
    #[arg(long, value_name = "FOLDER", requires = "from")]
    keys: Option<PathBuf>,
    /// Take revocations back from what a gateway holds, PEM or DER; may be repeated
    #[arg(long = "crl", value_name = "FILE")]
    crls: Vec<PathBuf>,
    /// Go on: issue and publish again
    #[arg(long)]
    resume: bool,
    /// Go on without a CRL of this issuer: what it revoked in the lost time is valid again; may be repeated
    #[arg(long, value_name = "ISSUER", requires = "resume")]
    accept_loss: Vec<IssuerId>,
    /// How long certificates of the lost time are taken in from now on, at most 7d
    #[arg(long, value_name = "DURATION", requires = "resume", default_value = "7d", value_parser = duration::parse)]
    window: Duration,
    #[command(flatten)]
    clock: AcceptClock,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Restored {
    dir: PathBuf,
    lost_from: Instant,
    lost_until: Instant,
    closed_fleets: Vec<String>,
    crls: Vec<Crl>,
    /// Those of issuers that are not known here, which were passed over.
    unknown: Vec<Unknown>,
    /// In the lost time something was done with the root keys: there may be a newer trust bundle than the one here.
    ceremony_lost: bool,
    resumed: bool,
    window_until: Option<Instant>,
}

/// One CRL that was given.
#[derive(Debug, Serialize)]
struct Crl {
    issuer: String,
    number: u64,
    this_update: Instant,
    /// There was nothing new in it.
    known: bool,
    changes: u32,
    unknown: u32,
    cut_off: Vec<String>,
    released: Vec<String>,
}

/// One CRL that nobody here can tell whose it is.
#[derive(Debug, Serialize)]
struct Unknown {
    issuer: String,
    number: u64,
}

/// Runs the command.
pub async fn run(args: Restore, session: &Session) -> Result<(), CommandError> {
    if args.window > LONGEST_WINDOW {
        return Err(CommandError::Usage(
            "--window must be at most 7d: no certificate that it concerns lives longer".into(),
        ));
    }
    // Before anything is made: a file that can't be read stops nothing halfway.
    let mut crls = Shown::read(&args.crls)?;
    let restored = match &args.from {
        Some(from) => make(&args, from, &mut crls).await?,
        None => {
            let folder = Folder::new(&args.dir);
            // Opening may change the database's form: not beneath a server that runs.
            let _lock = server::lock(&folder).map_err(local)?;
            let store = SqliteStore::open_existing(&folder.database()).map_err(local)?;
            let now = now(&args, &store, &mut crls).await?;
            decide(&args, &store, &crls, now).await?
        }
    };
    session.output().told(&restored, |_| words(&restored))
}

/// Makes the folder, whole or not at all.
async fn make(args: &Restore, from: &Path, crls: &mut Shown) -> Result<Restored, CommandError> {
    if place::was_cut_short(&args.dir) {
        let reason = format!("a `restore` was cut short here: remove {}, and run it again", args.dir.display());
        return Err(CommandError::Content { path: args.dir.clone(), reason });
    }
    if !folder::is_vacant(&args.dir).map_err(CommandError::file(&args.dir))? {
        let reason = "there is something already; `restore` changes nothing that exists: choose another folder";
        return Err(CommandError::Content { path: args.dir.clone(), reason: reason.into() });
    }
    let dir = std::path::absolute(&args.dir)?;
    let draft = place::draft_of(&dir)?;
    place::begin(&draft)?;
    let made = async {
        let folder = Folder::new(&draft);
        let manifest = backup::unpack(from, &folder).map_err(local)?;
        let store = SqliteStore::open_existing(&folder.database()).map_err(local)?;
        let now = now(args, &store, crls).await?;
        notice_restored(&store, manifest.made_at(), now).await.map_err(local)?;
        let restored = decide(args, &store, crls, now).await?;
        // One that its root has ended in the lost time signs nothing here, and its key is gone.
        let ended: Vec<_> = struck(&store).await.map_err(local)?.iter().map(|one| one.issuer).collect();
        let issuers = store.issuers().await.map_err(local)?;
        let issuing = issuers.iter().filter(|row| row.is_online() && !ended.contains(&row.id)).map(|row| row.id);
        backup::complete(&folder, &issuing.collect::<Vec<_>>(), args.keys.as_deref()).map_err(local)?;
        // Closed before it is moved.
        drop(store);
        place::move_into_place(&draft, &dir)?;
        Ok(restored)
    };
    let made = made.await;
    if made.is_err() {
        // The first fault is the one to tell.
        let _ = place::discard(&draft);
    }
    made
}

/// What the clock says, if it can be right: by what the CA dated last, and by the CRLs that are given.
async fn now(args: &Restore, store: &SqliteStore, crls: &mut Shown) -> Result<Timestamp, CommandError> {
    let looked = look_at(store, &crls.ders).await.map_err(|error| match error {
        RestoreError::Given { index, why } => {
            CommandError::Content { path: crls.files[index].clone(), reason: why.to_string() }
        }
        other => local(other),
    })?;
    crls.unknown = looked.unknown;
    args.clock.now(store, looked.newest).await
}

/// Takes CRLs back, and goes on if that is asked for.
async fn decide(args: &Restore, store: &SqliteStore, crls: &Shown, now: Timestamp) -> Result<Restored, CommandError> {
    let restoration = match args.resume || crls.ders.is_empty() {
        true => undecided(store).await,
        // What comes to light after the decision is taken back as well.
        false => latest(store).await,
    };
    let restoration = restoration.map_err(local)?;
    let given = take_back(store, &crls.ders, now).await.map_err(local)?;
    let resumption = match args.resume {
        true => Some(resume(store, &given, &args.accept_loss, args.window, now).await.map_err(local)?),
        false => restoration.resumption,
    };
    let instant = |at: Timestamp| Instant::from_millis(at.millis());
    let ceremony_lost = !crls.unknown.is_empty() || given.iter().any(|back| back.is_root && back.taken.is_some());
    Ok(Restored {
        ceremony_lost,
        dir: args.dir.clone(),
        lost_from: instant(restoration.lost_from),
        lost_until: instant(restoration.lost_until),
        closed_fleets: restoration.closed_fleets.iter().map(ToString::to_string).collect(),
        crls: given.into_iter().map(Crl::of).collect(),
        unknown: crls.unknown.iter().map(Unknown::of).collect(),
        resumed: resumption.is_some(),
        window_until: resumption.map(|Resumption { window_until, .. }| instant(window_until)),
    })
}

impl Unknown {
    fn of(UnknownCrl { issuer, number }: &UnknownCrl) -> Self {
        Self { issuer: issuer.to_string(), number: *number }
    }
}

impl Crl {
    fn of(back: TakenBack) -> Self {
        let taken = back.taken.unwrap_or_default();
        Self {
            issuer: back.issuer.to_string(),
            number: back.number,
            this_update: Instant::from_millis(back.this_update.millis()),
            known: back.taken.is_none(),
            changes: taken.certificates,
            unknown: taken.orphans,
            cut_off: back.cut_off.iter().map(ToString::to_string).collect(),
            released: back.released.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The CRLs that are given.
#[derive(Default)]
struct Shown {
    ders: Vec<Vec<u8>>,
    /// The file that each of them is in.
    files: Vec<PathBuf>,
    /// Those that are passed over.
    unknown: Vec<UnknownCrl>,
}

impl Shown {
    fn read(paths: &[PathBuf]) -> Result<Self, CommandError> {
        let mut shown = Self::default();
        for path in paths {
            shown.ders.extend(read_crls(path)?);
            shown.files.resize(shown.ders.len(), path.clone());
        }
        Ok(shown)
    }
}

/// The CRLs of a file: PEM, one after another, or one in DER.
fn read_crls(path: &Path) -> Result<Vec<Vec<u8>>, CommandError> {
    let bytes = fs::read(path).map_err(CommandError::file(path))?;
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes]);
    }
    let empty = || CommandError::Content { path: path.to_owned(), reason: "there is no CRL in it".into() };
    let text = String::from_utf8(bytes).map_err(|_| empty())?;
    let crls = from_pem(PemLabel::Crl, &text)
        .map_err(|error| CommandError::Content { path: path.to_owned(), reason: error.to_string() })?;
    if crls.is_empty() { Err(empty()) } else { Ok(crls) }
}

fn words(restored: &Restored) -> String {
    let (dir, from, until) = (restored.dir.display(), restored.lost_from, restored.lost_until);
    let mut text = format!("{dir} has lost the time from {} to {}\n", from.second(), until.second());
    for crl in &restored.crls {
        let Crl { issuer, number, changes, unknown, .. } = crl;
        text += &match crl.known {
            true => format!("  CRL {number} of issuer {issuer}: nothing in it is new\n"),
            false => format!(
                "  CRL {number} of issuer {issuer}: {changes} revocations taken back, {unknown} of unknown certificates\n"
            ),
        };
        for (what, whom) in [("cut off", &crl.cut_off), ("ON HOLD HERE, BUT NOT ON THAT CRL: look at", &crl.released)] {
            if !whom.is_empty() {
                text += &format!("    {what} {}\n", whom.join(", "));
            }
        }
    }
    for Unknown { issuer, number } in &restored.unknown {
        text += &format!(
            "  CRL {number} of issuer {issuer}, WHICH IS NOT KNOWN HERE: passed over. An issuing CA that was made in the lost time \
             is gone: make another (`issuer create`, or `rotate`); its devices attest anew\n"
        );
    }
    if restored.ceremony_lost {
        text += "  A CEREMONY WAS LOST, as it seems: clients that took the trust bundle of then refuse the one of here, until the \
                 next `issuer create`, `rotate`, `end` or `revoke` makes a newer one\n";
    }
    text += "  unspent tokens and operators' certificates of before have ended\n";
    if !restored.closed_fleets.is_empty() {
        let fleets = restored.closed_fleets.join(", ");
        text +=
            &format!("  NO LONGER OPEN to devices that nobody registered: {fleets} (`fleet set --unknown-devices`)\n");
    }
    match restored.window_until {
        Some(until) => {
            text += &format!("it goes on; certificates of the lost time are taken in until {}\n", until.second());
            text += &format!(
                "next: ca-server serve --dir {dir}, then ca-server operator recover --dir {dir} --out NEW-FOLDER, and revoke \
                 again the operators and gateways that were revoked in the lost time"
            );
        }
        None => {
            text += &format!(
                "it stands still: nothing is issued or published\nnext: ca-server restore --dir {dir} --crl FILE --resume, \
                 with the newest CRLs that gateways hold"
            );
        }
    }
    text
}
