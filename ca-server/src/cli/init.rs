//! `ca-server init`: a new CA in a folder of its own. Everything is made beside it and moved into place at the end, so
//! that there is a whole CA or none.

pub(super) mod place;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use enroll_client::keys::Key;
use serde::Serialize;

use self::place::{begin, discard, draft_of, is_only_a_draft, move_into_place, why_not};
use super::{CommandError, Session, local, operator_folder};
use crate::{
    authority::{Initialized, Plan, initialize},
    clock::{Clock, SystemClock},
    config::Config,
    folder::{self, Folder},
    identity::{DeviceId, HostName, IssuerId, TrustDomain},
    pki::{CaRole, IssuerCertificate, Locations, PemLabel, PublicKey, to_pem},
    server::{save_credential, server_id},
    signer::{Passphrase, Signer, SoftwareSigner},
    store::{Domain, Store, sqlite::SqliteStore},
};

/// Make a new CA in a folder of its own
#[derive(Args, Clone, Debug)]
pub struct Init {
    /// The CA's folder: must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The environment, a DNS name in lower case: fleet.example
    #[arg(long, value_name = "NAME")]
    pub trust_domain: TrustDomain,
    /// A name or address under which clients reach the server; may be repeated
    #[arg(long = "name", value_name = "HOST-OR-IP", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub names: Vec<HostName>,
    /// Where CRLs are served: stands in every certificate and can't be changed later
    #[arg(long, value_name = "http://HOST:PORT")]
    pub public_url: Option<String>,
    /// Where the root keys go; keep them offline [default: DIR/offline]
    #[arg(long, value_name = "DIR")]
    pub root_dir: Option<PathBuf>,
    /// Encrypts the root keys
    #[arg(long, value_name = "FILE")]
    pub root_passphrase_file: Option<PathBuf>,
    /// Encrypts the keys that stay with the server: its issuing CAs', and its own
    #[arg(long, value_name = "FILE")]
    pub key_passphrase_file: Option<PathBuf>,
    /// The first operator's name
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub operator: DeviceId,
}

/// What was made, for programs.
#[derive(Debug, Serialize)]
pub struct Made {
    dir: PathBuf,
    root_dir: PathBuf,
    trust_domain: String,
    public_url: String,
    control_root: PathBuf,
    control_root_sha256: String,
    device_root: PathBuf,
    operator_credential: PathBuf,
}

/// Runs the command.
pub async fn run(args: Init, session: &Session) -> Result<(), CommandError> {
    let default_url = args.public_url.is_none();
    let key_passphrase = args.key_passphrase_file.clone();
    let made = make(args).await?;
    session.output().told(&made, |_| {
        let mut text = format!(
            "a new CA for {} in {}\n  control root   {} (SHA-256 {})\n  device root    {}\n  operator       {}\n  \
             root keys      {}: move them offline\n",
            made.trust_domain,
            made.dir.display(),
            made.control_root.display(),
            made.control_root_sha256,
            made.device_root.display(),
            made.operator_credential.display(),
            made.root_dir.display(),
        );
        if default_url {
            text += &format!("  public URL     {}, as --public-url was not given: for trials only\n", made.public_url);
        }
        text += &format!("next: ca-server serve --dir {}", made.dir.display());
        text + &key_passphrase.map(|path| format!(" --key-passphrase-file {}", path.display())).unwrap_or_default()
    })
}

/// Makes the CA.
pub async fn make(mut args: Init) -> Result<Made, CommandError> {
    // One spelling for one folder: whether the root keys lie inside is told by it.
    args.dir = std::path::absolute(&args.dir)?;
    let dir = Folder::new(&args.dir);
    let root_dir = match &args.root_dir {
        Some(path) => std::path::absolute(path)?,
        None => dir.default_root_dir(),
    };
    if root_dir == args.dir {
        return Err(CommandError::Usage("--root-dir must be another folder than --dir".into()));
    }
    for path in [&args.dir, &root_dir] {
        let vacant = folder::is_vacant(path).map_err(CommandError::file(path))?;
        if !vacant && !is_only_a_draft(path) {
            return Err(CommandError::Content { path: path.clone(), reason: why_not(path, &args.dir, &root_dir) });
        }
    }
    let read = |path: &Option<PathBuf>| path.as_deref().map(Passphrase::read).transpose().map_err(local);
    let passphrases = Passphrases { roots: read(&args.root_passphrase_file)?, keys: read(&args.key_passphrase_file)? };
    let public_url = args.public_url.clone().unwrap_or_else(|| format!("http://{}:7080", host(&args.names[0])));
    let public_url = Locations::new(&public_url).map_err(|error| CommandError::Usage(error.to_string()))?;
    let domain = Domain { trust_domain: args.trust_domain.clone(), public_url: public_url.base().to_owned() };
    let draft = draft_of(&args.dir)?;
    if args.root_dir.is_some() {
        args.root_dir = Some(root_dir.clone());
    }
    let inside = root_dir.strip_prefix(&args.dir).ok().map(Path::to_owned);
    let root_draft = match &inside {
        Some(below) => draft.join(below),
        None => draft_of(&root_dir)?,
    };
    let made = async {
        begin(&draft)?;
        if inside.is_none() {
            begin(&root_draft)?;
        }
        let control_root = write(&args, &domain, &draft, &root_draft, &passphrases).await?;
        if inside.is_none() {
            move_into_place(&root_draft, &root_dir)?;
        }
        move_into_place(&draft, &args.dir)?;
        Ok(control_root)
    };
    let control_root = match made.await {
        Ok(control_root) => control_root,
        Err(error) => {
            // No key is left behind where nobody looks for it. The first fault is the one to tell.
            let _ = discard(&draft).and_then(|()| discard(&root_draft));
            return Err(error);
        }
    };
    Ok(Made {
        control_root: dir.control_root(),
        control_root_sha256: control_root,
        device_root: dir.device_root(),
        operator_credential: dir.operator(),
        trust_domain: domain.trust_domain.to_string(),
        public_url: domain.public_url,
        dir: args.dir,
        root_dir,
    })
}

/// What the keys are encrypted with.
struct Passphrases {
    /// Those of the roots.
    roots: Option<Passphrase>,
    /// Those that stay with the server.
    keys: Option<Passphrase>,
}

/// Writes everything below the drafts and gives the control root's fingerprint.
async fn write(
    args: &Init,
    domain: &Domain,
    draft: &Path,
    root_draft: &Path,
    passphrases: &Passphrases,
) -> Result<String, CommandError> {
    let folder = Folder::new(draft);
    let signers: HashMap<CaRole, Arc<SoftwareSigner>> = CaRole::ALL
        .into_iter()
        .map(|role| Ok((role, Arc::new(SoftwareSigner::generate().map_err(local)?))))
        .collect::<Result<_, CommandError>>()?;
    let settings = Config::sample(&args.names, args.root_dir.clone());
    let config = Config::parse(&settings).map_err(|error| CommandError::Usage(error.to_string()))?;
    let server_key = SoftwareSigner::generate().map_err(local)?;
    let operator_key = Key::generate().map_err(local)?;
    let operator_public = PublicKey::from_spki_der(&operator_key.spki()).map_err(local)?;
    let made = initialize(Plan {
        domain: domain.clone(),
        signers: signers.iter().map(|(place, signer)| (*place, signer.clone() as Arc<dyn Signer>)).collect(),
        server: (server_id(), args.names.clone(), server_key.public_key().clone()),
        operator: (args.operator.clone(), operator_public),
        backdate: config.backdate,
        now: SystemClock.now(),
    })
    .map_err(local)?;
    for path in [draft, &draft.join("keys"), root_draft] {
        folder::create_private(path).map_err(CommandError::file(path))?;
    }
    for role in CaRole::ALL {
        let id = issuer_id(&made, role)?;
        if role.is_root() {
            let file = |extension| folder::root_file(root_draft, role, extension);
            signers[&role].save(&file("key.pem"), passphrases.roots.as_ref()).map_err(local)?;
            public_file(&file("pem"), &certificate_pem(&made, role))?;
            let crl = made.record.crls.iter().find(|head| head.issuer == id).and_then(|head| head.der.as_deref());
            public_file(&file("crl"), crl.unwrap_or_default())?;
        } else {
            signers[&role].save(&folder.issuer_key(id), passphrases.keys.as_ref()).map_err(local)?;
        }
    }
    public_file(&folder.control_root(), &certificate_pem(&made, CaRole::ControlRoot))?;
    public_file(&folder.device_root(), &certificate_pem(&made, CaRole::DeviceRoot))?;
    public_file(&folder.config(), settings.as_bytes())?;
    let control = &made.certificates[&CaRole::ControlCa];
    let control_root = &made.certificates[&CaRole::ControlRoot];
    let chain: [&[u8]; 3] = [&made.server, control, control_root];
    save_credential(&folder.server(), &server_key, passphrases.keys.as_ref(), &chain).map_err(local)?;
    operator_folder::install(&operator_folder::Material {
        taken: &operator_folder::take(&folder.operator())?,
        key: &operator_key,
        chain: &[&made.operator, control],
        control_root,
        device_root: &made.certificates[&CaRole::DeviceRoot],
        server: &format!("https://{}:{}", host(&args.names[0]), config.listen.port()),
        trust_domain: domain.trust_domain.as_str(),
        id: args.operator.as_str(),
    })?;
    let fingerprint = fingerprint(control_root);
    let store = SqliteStore::open(&folder.database()).map_err(local)?;
    store.record_initialization(made.record).await.map_err(local)?;
    Ok(fingerprint)
}

fn issuer_id(made: &Initialized, role: CaRole) -> Result<IssuerId, CommandError> {
    Ok(IssuerCertificate::parse(&made.certificates[&role]).map_err(local)?.id())
}

fn certificate_pem(made: &Initialized, role: CaRole) -> Vec<u8> {
    to_pem(PemLabel::Certificate, &made.certificates[&role]).into_bytes()
}

fn fingerprint(der: &[u8]) -> String {
    crate::identity::CertificateHash::of(der).to_string()
}

fn public_file(path: &Path, content: &[u8]) -> Result<(), CommandError> {
    folder::write(path, content, 0o644).map_err(CommandError::file(path))
}

/// A host as a URL has it.
pub fn host(name: &HostName) -> String {
    match name {
        HostName::Ip(std::net::IpAddr::V6(address)) => format!("[{address}]"),
        name => name.to_string(),
    }
}
