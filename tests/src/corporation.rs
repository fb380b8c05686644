//! A corporation with a root of its own: made, and used, by the command `openssl` alone, as its people would.

pub mod asked;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    process::{Finished, run},
    require,
};

/// Extensions that an issuing CA's certificate gets where nothing else is said. The subject key identifier is OpenSSL's
/// own, by SHA-1.
pub const ISSUING: &str = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
                           subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always\n\
                           certificatePolicies=2.5.29.32.0\n";

/// Extensions of a root.
pub const ROOT: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";

/// A root, its key and its list of what it has signed.
#[derive(Clone, Debug)]
pub struct Corporation {
    folder: PathBuf,
}

impl Corporation {
    /// A root with a key of this kind (`rsa:2048`, `P-256`, `P-384`, `ed25519`) below this folder; `None` without OpenSSL.
    pub fn new(folder: &Path, kind: &str) -> Option<Corporation> {
        Self::with(folder, kind, ROOT, &["-days", "3650"])
    }

    /// The same, with these extensions and options of `openssl req -x509`.
    pub fn with(folder: &Path, kind: &str, extensions: &str, options: &[&str]) -> Option<Corporation> {
        require::program("openssl")?;
        fs::create_dir_all(folder).expect("a folder");
        let corporation = Corporation { folder: folder.to_owned() };
        for (name, content) in [("index.txt", ""), ("index.txt.attr", "unique_subject = no\n"), ("crlnumber", "1000\n")]
        {
            fs::write(folder.join(name), content).expect("a file");
        }
        corporation.configure("");
        fs::write(folder.join("req.cnf"), format!("[req]\ndistinguished_name=dn\n[dn]\n[v3]\n{extensions}"))
            .expect("a file");
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-nodes", "-subj", "/C=DE/O=Example Corp/CN=Example Corp Root G2"]);
        match kind.strip_prefix("P-") {
            Some(_) => command.args(["-newkey", "ec", "-pkeyopt", &format!("ec_paramgen_curve:{kind}")]),
            None => command.args(["-newkey", kind]),
        };
        command.args(["-extensions", "v3", "-config"]).arg(folder.join("req.cnf")).args(options);
        run(command.arg("-keyout").arg(folder.join("root.key")).arg("-out").arg(corporation.root())).succeeded();
        Some(corporation)
    }

    /// Settings of `openssl ca`, and these more.
    fn configure(&self, more: &str) {
        let folder = self.folder.display();
        let text = format!(
            "[ca]\ndefault_ca=corp\n[corp]\ndatabase={folder}/index.txt\nnew_certs_dir={folder}\n\
             certificate={folder}/root.pem\nprivate_key={folder}/root.key\ncrlnumber={folder}/crlnumber\nrand_serial=yes\n\
             default_md=sha256\ndefault_days=1000\ndefault_crl_days=30\npolicy=any\npreserve=yes\ncrl_extensions=crl\n{more}\
             [any]\norganizationName=optional\ncommonName=supplied\n[crl]\nauthorityKeyIdentifier=keyid:always\n"
        );
        fs::write(self.folder.join("ca.cnf"), text).expect("a file");
    }

    /// The root's certificate.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    /// Signs a request as an issuing CA's.
    pub fn sign(&self, csr: &Path) -> PathBuf {
        self.sign_with(csr, ISSUING, &[])
    }

    /// The same, with these extensions and options of `openssl ca`.
    pub fn sign_with(&self, csr: &Path, extensions: &str, options: &[&str]) -> PathBuf {
        let count = fs::read_dir(&self.folder).expect("a folder").count();
        let (out, extfile) = (self.folder.join(format!("signed-{count}.pem")), self.folder.join("extensions"));
        fs::write(&extfile, extensions).expect("a file");
        let mut command = self.ca();
        command.arg("-in").arg(csr).arg("-out").arg(&out).arg("-extfile").arg(extfile).args(options);
        run(&mut command).succeeded();
        out
    }

    /// Revokes what it has signed.
    pub fn revoke(&self, certificate: &Path, reason: &str) {
        run(self.ca().arg("-revoke").arg(certificate).args(["-crl_reason", reason])).succeeded();
    }

    /// Forgets all that it has revoked, as CAs do with what has expired.
    pub fn forget_revoked(&self) {
        let index = self.folder.join("index.txt");
        let text = fs::read_to_string(&index).expect("a file");
        let kept: String = text.split_inclusive('\n').filter(|line| !line.starts_with('R')).collect();
        fs::write(index, kept).expect("a file");
    }

    /// Its next CRL.
    pub fn crl(&self) -> PathBuf {
        self.crl_with(&[])
    }

    /// The same, with these options of `openssl ca -gencrl`.
    pub fn crl_with(&self, options: &[&str]) -> PathBuf {
        let count = fs::read_dir(&self.folder).expect("a folder").count();
        let out = self.folder.join(format!("root-{count}.crl"));
        run(self.ca().args(["-gencrl", "-out"]).arg(&out).args(options)).succeeded();
        out
    }

    /// A request of somebody's own, for this subject.
    pub fn request(&self, subject: &str) -> PathBuf {
        let (key, out) = (self.folder.join("other.key"), self.folder.join("other.csr"));
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-new",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-subj",
            subject,
        ]);
        command.arg("-config").arg(self.folder.join("req.cnf"));
        run(command.arg("-keyout").arg(key).arg("-out").arg(&out)).succeeded();
        out
    }

    /// A CA below the root that signs in its place: what it signs has two CAs above it.
    pub fn intermediate(&self) -> Corporation {
        let below = self.folder.join("below");
        fs::create_dir_all(&below).expect("a folder");
        let certificate = self.sign_with(&self.request("/O=Example Corp/CN=Policy CA"), ROOT, &[]);
        for name in ["index.txt.attr", "req.cnf"] {
            fs::copy(self.folder.join(name), below.join(name)).expect("a copy");
        }
        fs::write(below.join("index.txt"), "").expect("a file");
        fs::write(below.join("crlnumber"), "1000\n").expect("a file");
        fs::copy(self.folder.join("other.key"), below.join("root.key")).expect("a copy");
        fs::copy(certificate, below.join("root.pem")).expect("a copy");
        let corporation = Corporation { folder: below };
        corporation.configure("");
        corporation
    }

    fn ca(&self) -> Command {
        let mut command = Command::new("openssl");
        command.args(["ca", "-batch", "-config"]).arg(self.folder.join("ca.cnf"));
        command
    }
}

/// A request as OpenSSL reads it, its signature checked.
pub fn request_text(csr: &Path) -> Finished {
    run(Command::new("openssl").args(["req", "-verify", "-noout", "-text", "-in"]).arg(csr))
}
