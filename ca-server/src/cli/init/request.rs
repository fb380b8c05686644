//! `ca-server init` under a root of somebody else's: first a request, then, with what that root has signed, the CA.
//!
//! Between the two, which may be weeks, there is nothing in the folder but the request: no half of a CA whose certificates
//! would expire meanwhile. What the request was made with is kept beside it, so that nothing is said twice.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::super::{CommandError, Session, foreign, local, requests::Request};
use super::place::{begin, discard, draft_of, is_only, move_into_place, why_not};
use super::{Init, Made};
use crate::{
    authority::{ForeignRoot, judge_root_crl},
    clock::{Clock, SystemClock},
    folder::{self, Folder},
    signer::{Passphrase, SoftwareSigner},
    step::{Step, reached},
};

/// What `init --csr-out` was told, for when its answer comes.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Asked {
    trust_domain: String,
    names: Vec<String>,
    public_url: Option<String>,
    operator: String,
    /// Its key has a passphrase.
    is_encrypted: bool,
}

impl Asked {
    fn into_args(self, dir: &Path, args: Init) -> Result<Init, CommandError> {
        let wrong = |error: &dyn ToString| local(format!("{}/init.json: {}", dir.display(), error.to_string()));
        let names = self.names.iter().map(|name| name.parse()).collect::<Result<_, _>>();
        Ok(Init {
            trust_domain: Some(self.trust_domain.parse().map_err(|error| wrong(&error))?),
            names: names.map_err(|error| wrong(&error))?,
            public_url: self.public_url,
            operator: self.operator.parse().map_err(|error| wrong(&error))?,
            ..args
        })
    }
}

/// All is made and only to be moved into place; the root keys go there.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    root_dir: PathBuf,
}

/// A request that was made, for programs.
#[derive(Debug, Serialize)]
struct Requested {
    dir: PathBuf,
    csr: PathBuf,
}

/// The hierarchy of devices that somebody else's root begins.
pub struct Foreign {
    /// What it has signed.
    pub root: ForeignRoot,
    /// The issuing CA's key.
    pub signer: Arc<SoftwareSigner>,
}

/// Makes the request.
pub fn ask(args: &Init, csr_out: &Path, session: &Session) -> Result<(), CommandError> {
    let dir = std::path::absolute(&args.dir)?;
    let trust_domain =
        args.trust_domain.as_ref().ok_or_else(|| CommandError::Usage("--trust-domain is needed".into()))?;
    let asked = Asked {
        trust_domain: trust_domain.to_string(),
        names: args.names.iter().map(ToString::to_string).collect(),
        public_url: args.public_url.clone(),
        operator: args.operator.to_string(),
        is_encrypted: args.key_passphrase_file.is_some(),
    };
    let locations = super::locations(args)?;
    let request = match waiting(&dir)? {
        Some((before, request)) if before == asked => request,
        Some(_) => {
            let why =
                "a request waits here already that was made with other settings: go on with it, or remove the folder";
            return Err(foreign::wrong(&dir, why));
        }
        None => {
            let vacant = folder::is_vacant(&dir).map_err(CommandError::file(&dir))?;
            if !vacant && !is_only(&dir, &[]) {
                return Err(CommandError::Content { path: dir.clone(), reason: why_not(&dir, &dir, &dir) });
            }
            let passphrase = args.key_passphrase_file.as_deref().map(Passphrase::read).transpose().map_err(local)?;
            let draft = draft_of(&dir)?;
            let made = begin(&draft).and_then(|()| {
                let requests = Folder::new(&draft).requests();
                Request::make(&requests, trust_domain, passphrase.as_ref())?;
                write_json(&requests.join("init.json"), &asked)?;
                move_into_place(&draft, &dir)
            });
            if let Err(error) = made {
                // No key is left behind where nobody looks for it. The first fault is the one to tell.
                let _ = discard(&draft);
                return Err(error);
            }
            waiting(&dir)?.ok_or_else(|| local("the request that was made is not there"))?.1
        }
    };
    request.hand_out(csr_out)?;
    let requested = Requested { dir, csr: csr_out.to_owned() };
    session.output().told(&requested, |_| {
        format!(
            "a request for the certificate of the issuing CA: {}\nits key stays in {}, where nothing serves yet\n\
             CRLs will be at {}, as every certificate says for good{}\nnext: have the root sign it, and with its answer: ca-server init --dir {} --issuer-cert FILE --root-cert FILE \
             --root-crl FILE",
            csr_out.display(),
            requested.dir.display(),
            locations.base(),
            if args.public_url.is_none() { ": for trials only, as --public-url was not given" } else { "" },
            args.dir.display(),
        )
    })
}

/// Takes the answer: the settings of the request, and what the root has signed. `Made`: an attempt that was cut short had
/// all that it needed, and is at its end.
pub fn answered(args: Init) -> Result<Result<(Init, Foreign), Made>, CommandError> {
    let dir = std::path::absolute(&args.dir)?;
    let Some((asked, request)) = waiting(&dir)? else {
        if Folder::new(&dir).config().exists() {
            return made_already(&dir, args).map(Err);
        }
        return Err(foreign::wrong(&dir, "no request waits here: `ca-server init --csr-out FILE` makes one"));
    };
    let args = asked.into_args(&dir, args)?;
    let ready = ready_file(&dir);
    if ready.exists() {
        let Ready { root_dir } = read_json(&ready)?;
        move_all(&dir, &root_dir)?;
        return Ok(Err(Made::of(&args, &root_dir)?));
    }
    let (Some(issuer_cert), Some(root_cert), Some(root_crl)) = (&args.issuer_cert, &args.root_cert, &args.root_crl)
    else {
        return Err(CommandError::Usage("--issuer-cert, --root-cert and --root-crl belong together".into()));
    };
    let now = SystemClock.now();
    let root = foreign::root(root_cert, now)?;
    let passphrase = args.key_passphrase_file.as_deref().map(Passphrase::read).transpose().map_err(local)?;
    let signer = request.load(passphrase.as_ref())?.ok_or_else(|| foreign::wrong(&request.key(), "the key is gone"))?;
    let issuing = foreign::issuing(issuer_cert, &root, crate::signer::Signer::public_key(&signer), now)?;
    let crl = foreign::root_crl(root_crl)?;
    let head = foreign::judged(root_crl, judge_root_crl(&root, &crl, None, |_| true, now))?;
    foreign::lets_live(root_crl, &crl, &issuing)?;
    Ok(Ok((args, Foreign { root: ForeignRoot { root, issuing, crl: head }, signer: Arc::new(signer) })))
}

/// The CA is there, and its request is not: an attempt was cut short in its very last step, or long ago.
fn made_already(dir: &Path, args: Init) -> Result<Made, CommandError> {
    let answered = draft_of(dir)?;
    let [asked, ready] = ["init.json", "ready.json"].map(|name| answered.join(name));
    if !asked.exists() || !ready.exists() {
        discard(&answered)?;
        return Err(foreign::wrong(dir, "there is a CA already, made of its request: `ca-server serve` serves it"));
    }
    let args = read_json::<Asked>(&asked)?.into_args(dir, args)?;
    let made = Made::of(&args, &read_json::<Ready>(&ready)?.root_dir)?;
    discard(&answered)?;
    Ok(made)
}

/// All is made: from here on the same command goes on, whatever it is given.
pub fn mark_ready(dir: &Path, root_dir: &Path) -> Result<(), CommandError> {
    write_json(&ready_file(dir), &Ready { root_dir: root_dir.to_owned() })
}

/// Whether an attempt has come so far.
pub fn is_ready(dir: &Path) -> bool {
    ready_file(dir).exists()
}

/// Moves what is made into place, as far as it isn't there yet; the request is answered then.
pub fn move_all(dir: &Path, root_dir: &Path) -> Result<(), CommandError> {
    let draft = draft_of(dir)?;
    if root_dir.strip_prefix(dir).is_err() {
        let root_draft = draft_of(root_dir)?;
        // Beside it, where the attempt found no folder.
        let beside = super::place::beside(root_dir);
        for root_draft in [Some(root_draft), beside].into_iter().flatten().filter(|draft| draft.exists()) {
            move_into_place(&root_draft, root_dir)?;
        }
    }
    if draft.exists() {
        move_into_place(&draft, dir)?;
    }
    // At one stroke: half a request would be taken for one that still waits.
    let (requests, answered) = (Folder::new(dir).requests(), draft_of(dir)?);
    let gone = fs::rename(&requests, &answered).and_then(|()| folder::sync(dir));
    reached(Step::PartMoved);
    gone.and_then(|()| fs::remove_dir_all(&answered)).map_err(CommandError::file(&requests))
}

/// The request that waits in a folder for which there is no CA yet, and what it was made with.
pub(super) fn waiting(dir: &Path) -> Result<Option<(Asked, Request)>, CommandError> {
    let requests = Folder::new(dir).requests();
    let path = requests.join("init.json");
    if !path.exists() {
        return Ok(None);
    }
    let request = Request::all(&requests)?.pop();
    let request =
        request.ok_or_else(|| foreign::wrong(&requests, "the request is gone: remove the folder, and ask again"))?;
    Ok(Some((read_json(&path)?, request)))
}

fn ready_file(dir: &Path) -> PathBuf {
    Folder::new(dir).requests().join("ready.json")
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(value).map_err(local)?;
    folder::write(path, text.as_bytes(), 0o644).map_err(CommandError::file(path))
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, CommandError> {
    let text = fs::read_to_string(path).map_err(CommandError::file(path))?;
    foreign::judged(path, serde_json::from_str(&text))
}
