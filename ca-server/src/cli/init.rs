//! `ca-server init`: a new CA in a folder of its own. Everything is made beside it and moved into place at the end, so
//! that there is a whole CA or none.

pub(super) mod place;
mod request;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use enroll_client::keys::Key;
use serde::Serialize;

use self::{
    place::{begin, discard, draft_of, is_only, move_into_place, why_not},
    request::Foreign,
};
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
    #[arg(long, value_name = "NAME", required_unless_present = "issuer_cert")]
    pub trust_domain: Option<TrustDomain>,
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
    /// Under a root of somebody else's: make the issuing CA's key and this request (PKCS#10) only; then `--issuer-cert`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["root_dir", "root_passphrase_file"])]
    pub csr_out: Option<PathBuf>,
    /// What that root has signed for the request; the settings are those of the request
    #[arg(long, value_name = "FILE", requires_all = ["root_cert", "root_crl"],
        conflicts_with_all = ["csr_out", "trust_domain", "names", "public_url", "operator"])]
    pub issuer_cert: Option<PathBuf>,
    /// That root's certificate
    #[arg(long, value_name = "FILE", requires = "issuer_cert")]
    pub root_cert: Option<PathBuf>,
    /// That root's CRL
    #[arg(long, value_name = "FILE", requires = "issuer_cert")]
    pub root_crl: Option<PathBuf>,
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
    if let Some(csr_out) = &args.csr_out {
        return request::ask(&args, csr_out, session);
    }
    let (is_foreign, key_passphrase) = (args.issuer_cert.is_some(), args.key_passphrase_file.clone());
    let default_url = args.public_url.is_none() && !is_foreign;
    let made = match is_foreign.then(|| request::answered(args.clone())).transpose()? {
        Some(Ok((args, foreign))) => make(args, Some(foreign)).await?,
        Some(Err(made)) => made,
        None => make(args, None).await?,
    };
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
        if is_foreign {
            text += "  the device root's CRL is renewed by whoever has that root: `ca-server crl publish --root-crl FILE`\n";
        }
        if default_url {
            text += &format!("  public URL     {}, as --public-url was not given: for trials only\n", made.public_url);
        }
        text += &format!("next: ca-server serve --dir {}", made.dir.display());
        text + &key_passphrase.map(|path| format!(" --key-passphrase-file {}", path.display())).unwrap_or_default()
    })
}

impl Made {
    /// What there is when it is made.
    fn of(args: &Init, root_dir: &Path) -> Result<Self, CommandError> {
        let dir = Folder::new(std::path::absolute(&args.dir)?);
        let control_root = super::foreign::certificate(&dir.control_root())?;
        Ok(Self {
            control_root: dir.control_root(),
            control_root_sha256: control_root.hash().to_string(),
            device_root: dir.device_root(),
            operator_credential: dir.operator(),
            trust_domain: domain(args)?.trust_domain.to_string(),
            public_url: locations(args)?.base().to_owned(),
            dir: dir.path().to_owned(),
            root_dir: root_dir.to_owned(),
        })
    }
}

/// The environment and where its CRLs are.
fn domain(args: &Init) -> Result<Domain, CommandError> {
    let trust_domain = args.trust_domain.clone();
    let trust_domain = trust_domain.ok_or_else(|| CommandError::Usage("--trust-domain is needed".into()))?;
    Ok(Domain { trust_domain, public_url: locations(args)?.base().to_owned() })
}

fn locations(args: &Init) -> Result<Locations, CommandError> {
    let url = args.public_url.clone().unwrap_or_else(|| format!("http://{}:7080", host(&args.names[0])));
    Locations::new(&url).map_err(|error| CommandError::Usage(error.to_string()))
}

/// Makes the CA.
pub async fn make(mut args: Init, foreign: Option<Foreign>) -> Result<Made, CommandError> {
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
        let requests = foreign.is_some().then(|| dir.requests());
        let requests: Vec<&Path> = requests.iter().map(PathBuf::as_path).collect();
        if !vacant && !is_only(path, &requests) {
            return Err(CommandError::Content { path: path.clone(), reason: why_not(path, &args.dir, &root_dir) });
        }
    }
    let read = |path: &Option<PathBuf>| path.as_deref().map(Passphrase::read).transpose().map_err(local);
    let passphrases = Passphrases { roots: read(&args.root_passphrase_file)?, keys: read(&args.key_passphrase_file)? };
    let domain = domain(&args)?;
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
        write(&args, &domain, &draft, &root_draft, (&passphrases, foreign.as_ref())).await?;
        if foreign.is_some() {
            request::mark_ready(&args.dir, &root_dir)?;
            return request::move_all(&args.dir, &root_dir);
        }
        if inside.is_none() {
            move_into_place(&root_draft, &root_dir)?;
        }
        move_into_place(&draft, &args.dir)
    };
    if let Err(error) = made.await {
        // No key is left behind where nobody looks for it, but for one that the same command goes on with. The first fault
        // is the one to tell.
        if foreign.is_none() || !request::is_ready(&args.dir) {
            let _ = discard(&draft).and_then(|()| discard(&root_draft));
        }
        return Err(error);
    }
    Made::of(&args, &root_dir)
}

/// What the keys are encrypted with.
struct Passphrases {
    /// Those of the roots.
    roots: Option<Passphrase>,
    /// Those that stay with the server.
    keys: Option<Passphrase>,
}

/// Writes everything below the drafts.
async fn write(
    args: &Init,
    domain: &Domain,
    draft: &Path,
    root_draft: &Path,
    (passphrases, foreign): (&Passphrases, Option<&Foreign>),
) -> Result<(), CommandError> {
    let folder = Folder::new(draft);
    let mut signers: HashMap<CaRole, Arc<SoftwareSigner>> = HashMap::new();
    for role in CaRole::ALL {
        match foreign {
            Some(_) if role == CaRole::DeviceRoot => {}
            Some(foreign) if role == CaRole::DeviceIssuing => drop(signers.insert(role, foreign.signer.clone())),
            _ => drop(signers.insert(role, Arc::new(SoftwareSigner::generate().map_err(local)?))),
        }
    }
    let settings = Config::sample(&args.names, args.root_dir.clone());
    let config = Config::parse(&settings).map_err(|error| CommandError::Usage(error.to_string()))?;
    let server_key = SoftwareSigner::generate().map_err(local)?;
    let operator_key = Key::generate().map_err(local)?;
    let operator_public = PublicKey::from_spki_der(&operator_key.spki()).map_err(local)?;
    let made = initialize(Plan {
        domain: domain.clone(),
        signers: signers.iter().map(|(place, signer)| (*place, signer.clone() as Arc<dyn Signer>)).collect(),
        foreign: foreign.map(|foreign| foreign.root.clone()),
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
        let Some(signer) = signers.get(&role) else { continue };
        if role.is_root() {
            let file = |extension| folder::root_file(root_draft, role, extension);
            signer.save(&file("key.pem"), passphrases.roots.as_ref()).map_err(local)?;
            public_file(&file("pem"), &certificate_pem(&made, role))?;
            let crl = made.record.crls.iter().find(|head| head.issuer == id).and_then(|head| head.der.as_deref());
            public_file(&file("crl"), crl.unwrap_or_default())?;
        } else {
            signer.save(&folder.issuer_key(id), passphrases.keys.as_ref()).map_err(local)?;
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
    let store = SqliteStore::open(&folder.database()).map_err(local)?;
    store.record_initialization(made.record).await.map_err(local)
}

fn issuer_id(made: &Initialized, role: CaRole) -> Result<IssuerId, CommandError> {
    Ok(IssuerCertificate::parse(&made.certificates[&role]).map_err(local)?.id())
}

fn certificate_pem(made: &Initialized, role: CaRole) -> Vec<u8> {
    to_pem(PemLabel::Certificate, &made.certificates[&role]).into_bytes()
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
