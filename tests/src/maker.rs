//! A maker of devices: CAs and IDevIDs, made by the command `openssl` and not by our own code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{openssl, process::run};

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Made {
    /// PEM.
    pub certificate: PathBuf,
    /// PKCS#8 PEM.
    pub key: PathBuf,
}

impl Made {
    /// SHA-256 of its SubjectPublicKeyInfo: 64 hexadecimal digits.
    pub fn spki_sha256(&self) -> String {
        let der = self.key.with_extension("spki");
        let mut command = openssl::command().expect("it was there");
        run(command.args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(&self.key).arg("-out").arg(&der))
            .succeeded();
        let hash = ring::digest::digest(&ring::digest::SHA256, &fs::read(der).expect("it was written"));
        hash.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
    }
}

/// What a certificate is to be.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// `/CN=…/serialNumber=…`
    pub subject: &'a str,
    /// As in an extension file of `openssl`.
    pub extensions: &'a str,
    /// `YYYYMMDDHHMMSSZ`.
    pub from: &'a str,
    /// The same.
    pub until: &'a str,
    /// Options of `openssl genpkey`.
    pub key: &'a [&'a str],
}

/// What a CA of a maker is.
pub const CA: Wish<'static> = Wish {
    subject: "/O=Maker/CN=CA",
    extensions: "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n",
    from: "20200101000000Z",
    until: "20450101000000Z",
    key: &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
};

/// What an IDevID is: valid for ever.
pub const IDEVID: Wish<'static> = Wish {
    subject: "/O=Maker/CN=Board/serialNumber=SN-1",
    extensions: "basicConstraints=CA:false\nkeyUsage=critical,digitalSignature\n",
    until: "99991231235959Z",
    ..CA
};

/// A maker's workshop, in a folder.
#[derive(Clone, Debug)]
pub struct Maker {
    folder: PathBuf,
}

impl Maker {
    /// A workshop in a new folder, or `None` where there is no `openssl`.
    pub fn new(folder: PathBuf) -> Option<Maker> {
        openssl::command()?;
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("index.txt"), "").expect("an index");
        let config = "[ca]\ndefault_ca = maker\n[maker]\ndatabase = index.txt\nnew_certs_dir = .\nrand_serial = yes\n\
                      default_md = sha256\npolicy = any\nunique_subject = no\nemail_in_dn = no\n[any]\n\
                      organizationName = optional\ncommonName = optional\nserialNumber = optional\n\
                      [req]\ndistinguished_name = none\n[none]\n";
        fs::write(folder.join("maker.cnf"), config).expect("its settings");
        Some(Maker { folder })
    }

    /// Makes a certificate and its key; without an issuer it signs itself.
    pub fn make(&self, name: &str, wish: &Wish<'_>, issuer: Option<&Made>) -> Made {
        let key = self.folder.join(format!("{name}.key"));
        self.openssl(|command| command.arg("genpkey").args(wish.key).arg("-out").arg(&key));
        self.certify(name, wish, &key, issuer)
    }

    /// Makes a certificate for a key that is there.
    pub fn certify(&self, name: &str, wish: &Wish<'_>, key: &Path, issuer: Option<&Made>) -> Made {
        let path = |extension: &str| self.folder.join(format!("{name}.{extension}"));
        let (key, request, certificate) = (key.to_owned(), path("csr"), path("pem"));
        fs::write(path("ext"), wish.extensions).expect("extensions");
        self.openssl(|command| {
            command.args(["req", "-new", "-config", "maker.cnf", "-subj", wish.subject, "-key"]).arg(&key);
            command.arg("-out").arg(&request)
        });
        self.openssl(|command| {
            command.args(["ca", "-batch", "-notext", "-preserveDN", "-config", "maker.cnf"]);
            command.args(["-startdate", wish.from, "-enddate", wish.until, "-extfile"]).arg(path("ext"));
            match issuer {
                Some(issuer) => command.arg("-cert").arg(&issuer.certificate).arg("-keyfile").arg(&issuer.key),
                None => command.arg("-selfsign").arg("-keyfile").arg(&key),
            };
            command.arg("-in").arg(&request).arg("-out").arg(&certificate)
        });
        Made { certificate, key }
    }

    /// Certificates one after the other, in one file.
    pub fn chain(&self, name: &str, certificates: &[&Made]) -> PathBuf {
        let path = self.folder.join(format!("{name}.chain"));
        let read = |made: &&Made| fs::read_to_string(&made.certificate).expect("a certificate");
        fs::write(&path, certificates.iter().map(read).collect::<String>()).expect("it is written");
        path
    }

    fn openssl(&self, options: impl FnOnce(&mut std::process::Command) -> &mut std::process::Command) {
        let mut command = openssl::command().expect("it was there");
        command.current_dir(&self.folder);
        run(options(&mut command)).succeeded();
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}
