//! pkilint's opinion of what was issued: no finding of WARNING or above, its known false positives aside.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::{
    process::{Finished, run},
    python,
};

/// What to lint a file as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Any certificate, by RFC 5280.
    Certificate,
    /// A CRL for end entities, by RFC 5280.
    Crl,
    /// A CRL for CA certificates: a root's.
    Arl,
    /// An OCSP response.
    OcspResponse,
}

/// Lints one file (PEM or DER). `None` where pkilint is missing (a failure under `CI=true`).
pub fn findings(subject: Subject, file: &Path) -> Option<Vec<String>> {
    let (program, arguments): (&str, &[&str]) = match subject {
        Subject::Certificate => ("lint_pkix_cert", &["lint"]),
        Subject::Crl => ("lint_crl", &["lint", "-t", "CRL", "-p", "PKIX"]),
        Subject::Arl => ("lint_crl", &["lint", "-t", "ARL", "-p", "PKIX"]),
        Subject::OcspResponse => ("lint_ocsp_response", &["lint"]),
    };
    lint(program, arguments, &[file])
}

/// Lints a certificate against that of its issuer: names, key identifiers, dates.
pub fn pair_findings(issuer: &Path, certificate: &Path) -> Option<Vec<String>> {
    lint("lint_pkix_signer_signee_cert_chain", &["lint"], &[issuer, certificate])
}

fn lint(program: &str, arguments: &[&str], files: &[&Path]) -> Option<Vec<String>> {
    let mut command = Command::new(python::program(program)?);
    let output = run(command.args(arguments).args(["-s", "WARNING", "-f", "JSON"]).args(files));
    Some(read(&output).unwrap_or_else(|| panic!("{program} said no JSON: {output:?}")))
}

/// The findings in pkilint's report; `None` where it isn't one.
fn read(output: &Finished) -> Option<Vec<String>> {
    let report: Value = serde_json::from_str(output.stdout.trim()).ok()?;
    let mut findings = Vec::new();
    for result in report["results"].as_array()? {
        for finding in result["finding_descriptions"].as_array()? {
            if !is_false_positive(finding) {
                findings.push(format!("{}: {} ({})", result["node_path"], finding["code"], finding["message"]));
            }
        }
    }
    Some(findings)
}

/// pkilint holds every name without a dot to be malformed: the hosts of URIs and DNS names such as `localhost`; and SPIFFE
/// IDs in any case.
fn is_false_positive(finding: &Value) -> bool {
    let message = finding["message"].as_str().unwrap_or_default();
    let Some((_, rest)) = message.split_once('"') else { return false };
    let name = rest.trim_end_matches('"');
    match finding["code"].as_str() {
        Some("pkix.invalid_domain_name_syntax") => is_single_label(name),
        Some("pkix.invalid_uri_syntax") => {
            name.starts_with("spiffe://")
                || name
                    .strip_prefix("http://")
                    .is_some_and(|rest| is_single_label(rest.split([':', '/']).next().unwrap_or("")))
        }
        _ => false,
    }
}

fn is_single_label(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
