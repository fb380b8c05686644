//! OpenSSL's own opinion of what was issued, by its command line.

use std::{path::Path, process::Command};

use crate::{
    process::{Finished, run},
    require,
};

/// The command `openssl`, or `None` where it is missing (a failure under `CI=true`).
pub fn command() -> Option<Command> {
    require::program("openssl").map(Command::new)
}

/// `openssl verify -x509_strict`: `leaf` under `root` (both PEM), by way of the PEM file `untrusted`; with `crls`, a PEM
/// file of CRLs, every certificate of the chain must be on no list, and its list must be there.
pub fn verify(leaf: &Path, root: &Path, untrusted: Option<&Path>, crls: Option<&Path>) -> Option<Finished> {
    let mut command = command()?;
    command.args(["verify", "-x509_strict", "-purpose", "any", "-CAfile"]).arg(root);
    if let Some(untrusted) = untrusted {
        command.arg("-untrusted").arg(untrusted);
    }
    if let Some(crls) = crls {
        command.args(["-crl_check_all", "-CRLfile"]).arg(crls);
    }
    Some(run(command.arg(leaf)))
}

/// The human-readable form of a certificate (PEM).
pub fn certificate_text(path: &Path) -> Option<String> {
    Some(run(command()?.args(["x509", "-noout", "-text", "-in"]).arg(path)).succeeded())
}

/// The human-readable form of a CRL (PEM or DER).
pub fn crl_text(path: &Path) -> Option<String> {
    Some(run(command()?.args(["crl", "-noout", "-text", "-in"]).arg(path)).succeeded())
}
