//! The server's settings: read from `DIR/config.toml`, checked whole before anything starts.

mod limits;

use std::{
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use limits::Limits;

use crate::{
    folder::Folder,
    identity::HostName,
    pki::{NotAnArc, PolicyArc},
};

/// Why the settings can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No file.
    #[error("{path} does not exist: check --dir or --config, or make a CA with ca-server init")]
    Missing {
        /// Which.
        path: String,
    },
    /// A CA whose issuing CA has no certificate yet.
    #[error(
        "{dir} waits for the certificate of its issuing CA, and serves nothing before: give it with `ca-server init --dir {dir} \
         --issuer-cert FILE --root-cert FILE --root-crl FILE`"
    )]
    Waiting {
        /// Its folder.
        dir: String,
    },
    /// A file that can't be read.
    #[error("cannot read {path}: {source}; run this as the user whose CA it is")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{path}: {why}")]
    Format {
        /// Which file.
        path: String,
        /// What is wrong where.
        why: String,
    },
    /// A value out of its bounds.
    #[error("{key}: {why}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What it must be.
        why: String,
    },
}

/// As it is written in the file. Unknown keys are refused; every key has a default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    listen: SocketAddr,
    operator_listen: SocketAddr,
    http_listen: SocketAddr,
    metrics_listen: SocketAddr,
    names: Vec<String>,
    backdate_seconds: u64,
    issuer_wait_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_arc: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ocsp_in_certificates: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    delta_crls: bool,
    #[serde(skip_serializing_if = "RawKeys::is_default")]
    keys: RawKeys,
    limits: Limits,
}

/// How the CA's keys are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawKeys {
    #[serde(skip_serializing_if = "Option::is_none")]
    passphrase_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_dir: Option<PathBuf>,
}

impl RawKeys {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for RawConfig {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            listen: loopback(7443),
            operator_listen: loopback(7444),
            http_listen: loopback(7080),
            metrics_listen: loopback(7081),
            names: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
            backdate_seconds: 300,
            issuer_wait_seconds: 3600,
            policy_arc: None,
            ocsp_in_certificates: false,
            delta_crls: false,
            keys: RawKeys::default(),
            limits: Limits::default(),
        }
    }
}

/// Settings that have been checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// gRPC for devices and gateways.
    pub listen: SocketAddr,
    /// gRPC for operators.
    pub operator_listen: SocketAddr,
    /// CRLs and issuing certificates.
    pub http_listen: SocketAddr,
    /// Health and metrics.
    pub metrics_listen: SocketAddr,
    /// The names in the server's certificate.
    pub names: Vec<HostName>,
    /// How far notBefore lies before the moment of issuance.
    pub backdate: Duration,
    /// How long the CRL of a new issuing CA has to be out before it signs for devices.
    pub issuer_wait: Duration,
    /// The arc under which devices' certificates say what was proven, if they do.
    pub policy_arc: Option<PolicyArc>,
    /// Whether devices' certificates say who answers OCSP requests.
    pub ocsp_in_certificates: bool,
    /// Whether there are delta CRLs.
    pub delta_crls: bool,
    /// The file with the passphrase of the CA's keys, where they are encrypted.
    pub key_passphrase_file: Option<PathBuf>,
    /// Where `init` put the root keys, if not into `DIR/offline`: nobody needs them there while the server runs.
    pub root_dir: Option<PathBuf>,
    /// Bounds.
    pub limits: Limits,
}

impl Config {
    /// Reads and checks a file. One that is missing is an error: `init` writes it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => match path.parent().filter(|folder| Folder::new(*folder).requests().exists()) {
                Some(folder) => ConfigError::Waiting { dir: folder.display().to_string() },
                None => ConfigError::Missing { path: name.clone() },
            },
            _ => ConfigError::Read { path: name.clone(), source },
        })?;
        let mut config = Self::parse(&text).map_err(|error| match error {
            ConfigError::Format { why, .. } => ConfigError::Format { path: name, why },
            other => other,
        })?;
        // A path in the file means the same from wherever the server is started.
        let beside = |named: PathBuf| path.parent().map_or_else(|| named.clone(), |folder| folder.join(&named));
        config.key_passphrase_file = config.key_passphrase_file.map(&beside);
        config.root_dir = config.root_dir.map(&beside);
        Ok(config)
    }

    /// Checks the text of a file.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let raw: RawConfig = toml::from_str(text)
            .map_err(|error| ConfigError::Format { path: "config.toml".into(), why: on_one_line(&error, text) })?;
        raw.check()
    }

    /// The text of a file for a server with these names, whose root keys are elsewhere where that is said; everything else
    /// at its default.
    pub fn sample(names: &[HostName], root_dir: Option<PathBuf>) -> String {
        let names = names.iter().map(ToString::to_string).collect();
        let raw = RawConfig { names, keys: RawKeys { root_dir, ..RawKeys::default() }, ..RawConfig::default() };
        raw.to_toml()
    }

    /// What is in force, as a file would say it.
    pub fn to_toml(&self) -> String {
        self.raw().to_toml()
    }

    /// The same for programs: a JSON object with the file's keys.
    pub fn to_json(&self) -> serde_json::Value {
        // Plain values only: this serializes.
        serde_json::to_value(self.raw()).unwrap_or_default()
    }

    fn raw(&self) -> RawConfig {
        RawConfig {
            listen: self.listen,
            operator_listen: self.operator_listen,
            http_listen: self.http_listen,
            metrics_listen: self.metrics_listen,
            names: self.names.iter().map(ToString::to_string).collect(),
            backdate_seconds: self.backdate.as_secs(),
            issuer_wait_seconds: self.issuer_wait.as_secs(),
            policy_arc: self.policy_arc.map(|arc| arc.to_string()),
            ocsp_in_certificates: self.ocsp_in_certificates,
            delta_crls: self.delta_crls,
            keys: RawKeys { passphrase_file: self.key_passphrase_file.clone(), root_dir: self.root_dir.clone() },
            limits: self.limits,
        }
    }
}

/// `line 14: what is wrong there, in: the line`
fn on_one_line(error: &toml::de::Error, text: &str) -> String {
    let mut message = error.message().replace('\n', ", ");
    // What an old file may say is not offered for a new one.
    for old in limits::OLD_NAMES {
        message = message.replace(&format!("`{old}`, "), "");
    }
    // After the first [table] it is that table's.
    let top = ["policy_arc", "names", "backdate_seconds", "ocsp_in_certificates", "delta_crls"];
    if let Some(name) = top.iter().find(|name| message.starts_with(&format!("unknown field `{name}`"))) {
        message = format!("{name} stands above the first [table], and not in one");
    }
    let before = error.span().and_then(|span| text.get(..span.start));
    before.map_or_else(
        || message.clone(),
        |before| {
            let number = before.matches('\n').count();
            let line = text.lines().nth(number).unwrap_or_default().trim();
            format!("line {}: {message}, in: {line}", number + 1)
        },
    )
}

impl RawConfig {
    fn to_toml(&self) -> String {
        // Plain values only: this serializes.
        toml::to_string(self).unwrap_or_default()
    }

    fn check(self) -> Result<Config, ConfigError> {
        let value = |key, why: &str| ConfigError::Value { key, why: why.into() };
        if self.names.is_empty() {
            return Err(value("names", "at least one name or address under which clients reach the server"));
        }
        let names = self
            .names
            .iter()
            .map(|name| name.parse().map_err(|error| value("names", &format!("{name:?}: {error}"))))
            .collect::<Result<_, _>>()?;
        if self.backdate_seconds > 3600 {
            return Err(value("backdate_seconds", "must be at most 3600"));
        }
        if self.issuer_wait_seconds > 7 * 24 * 3600 {
            return Err(value("issuer_wait_seconds", "must be at most 604800"));
        }
        let arc = self.policy_arc.as_deref().map(str::parse).transpose();
        let policy_arc = arc.map_err(|error: NotAnArc| value("policy_arc", &error.to_string()))?;
        let limits = self.limits;
        limits.check()?;
        Ok(Config {
            listen: self.listen,
            operator_listen: self.operator_listen,
            http_listen: self.http_listen,
            metrics_listen: self.metrics_listen,
            names,
            backdate: Duration::from_secs(self.backdate_seconds),
            issuer_wait: Duration::from_secs(self.issuer_wait_seconds),
            policy_arc,
            ocsp_in_certificates: self.ocsp_in_certificates,
            delta_crls: self.delta_crls,
            key_passphrase_file: self.keys.passphrase_file,
            root_dir: self.keys.root_dir,
            limits,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_is_what_serve_reads() {
        let names = vec!["ca.example".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let config = Config::parse(&Config::sample(&names, Some("/media/roots".into()))).unwrap();
        assert_eq!(config.names, names);
        assert_eq!(Config::parse(&config.to_toml()).unwrap().limits, config.limits);
    }

    #[test]
    fn a_path_in_the_file_lies_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        for (named, found) in [("phrase", folder.path().join("phrase")), ("/etc/phrase", PathBuf::from("/etc/phrase"))]
        {
            std::fs::write(&path, format!("[keys]\npassphrase_file = {named:?}\n")).unwrap();
            let config = Config::read(&path).unwrap();
            assert_eq!(config.key_passphrase_file, Some(found));
            assert_eq!(Config::parse(&config.to_toml()).unwrap().key_passphrase_file, config.key_passphrase_file);
        }
    }

    #[test]
    fn an_arc_is_what_it_was_said_to_be() {
        let config = Config::parse("policy_arc = \"1.3.6.1.4.1.99999.1\"").unwrap();
        assert!(config.to_toml().contains("policy_arc = \"1.3.6.1.4.1.99999.1\"\n"), "{}", config.to_toml());
        assert_eq!(Config::parse("").unwrap().policy_arc, None);
    }

    #[test]
    fn what_is_off_unless_it_is_said_is_shown_when_it_is_on() {
        for key in ["ocsp_in_certificates", "delta_crls"] {
            assert!(!Config::parse("").unwrap().to_toml().contains(key));
            let shown = Config::parse(&format!("{key} = true")).unwrap().to_toml();
            assert!(shown.contains(&format!("{key} = true\n")), "{shown}");
            assert_eq!(Config::parse(&shown).unwrap().to_toml(), shown);
        }
    }

    #[test]
    fn an_old_name_of_a_limit_still_counts() {
        assert_eq!(Config::parse("[limits]\nenrollments = 7").unwrap().limits.stranger_requests, 7);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = Config::parse("backdate_seconds = 300\nlisen = \"127.0.0.1:1\"").unwrap_err().to_string();
        assert!(error.starts_with("config.toml: line 2: unknown field `lisen`"), "{error}");
        assert!(!error.contains('\n'), "{error}");
        let error = Config::parse("[limits]\nconections = 1").unwrap_err().to_string();
        assert!(
            error.contains("expected one of `connections`, ") && error.contains(" `stranger_requests`, "),
            "{error}"
        );
        assert!(!error.contains("enrollments"), "an old name is not offered: {error}");
    }

    #[test]
    fn a_key_that_stands_below_a_table_is_told_where_it_belongs() {
        let error = Config::parse("[limits]\nturn_seconds = 3\npolicy_arc = \"1.3.6.1.4.1.99999.1\"").unwrap_err();
        let says = "line 3: policy_arc stands above the first [table], and not in one, in: policy_arc";
        assert!(error.to_string().contains(says), "{error}");
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        for text in [
            "names = []",
            "names = [\"a b\"]",
            "backdate_seconds = 4000",
            "issuer_wait_seconds = 604801",
            "policy_arc = \"1.2\"",
            "[limits]\nconnections = 0",
        ] {
            assert!(matches!(Config::parse(text), Err(ConfigError::Value { .. })), "{text}");
        }
    }
}
