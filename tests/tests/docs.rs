//! The documents hold: links lead somewhere, tests that the threat model names exist, sample settings are settings, and
//! the table of errors is the one in the code.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use ca_server::{audit::ACTIONS, config::Config, telemetry::EVENTS};
use fleetca_tests::binaries::workspace;

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let code: String = rust_files().iter().map(|path| read(path)).collect();
    let named = test_names(&read(&workspace().join("docs/threat-model.md")));
    assert!(named.len() > 50, "the threat model names hardly any tests: {named:?}");
    let missing: Vec<&String> =
        named.iter().filter(|name| !["(", "<"].iter().any(|next| code.contains(&format!("fn {name}{next}")))).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn every_link_leads_to_something_that_is_there() {
    let mut dead = Vec::new();
    for page in pages() {
        let folder = page.parent().expect("a page lies in a folder");
        for target in links(&read(&page)) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") && !folder.join(path).exists() {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links: {dead:#?}");
}

#[test]
fn sample_settings_are_settings() {
    let mut found = 0;
    for page in pages() {
        for sample in fenced(&read(&page), "toml") {
            let parsed = Config::parse(&sample);
            assert!(parsed.is_ok(), "{}: {parsed:?}\n{sample}", page.display());
            found += 1;
        }
    }
    assert!(found > 0, "the documents show no settings");
}

#[test]
fn the_table_of_errors_is_the_one_in_the_code() {
    let in_code = rows_of(&read(&workspace().join("ca-server/src/rpc/status.rs")));
    assert!(in_code.len() > 30, "the rows were not found: {in_code:?}");
    let page = read(&workspace().join("docs/enrollment-protocol.md"));
    for (code, reason, action) in &in_code {
        let line = page.lines().find(|line| line.starts_with(&format!("| `{reason}` |")));
        let line = line.unwrap_or_else(|| panic!("docs/enrollment-protocol.md knows nothing of {reason}"));
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let codes = cells[2].split(" or ").collect::<BTreeSet<_>>();
        assert!(codes.contains(code.as_str()) && cells[3] == action, "{reason}: {code}, {action}, but: {line}");
    }
    let reasons: BTreeSet<&str> = in_code.iter().map(|(_, reason, _)| reason.as_str()).collect();
    for line in page.lines().filter(|line| line.starts_with("| `") && line.split('|').count() == 6) {
        let reason = line.trim_start_matches("| `").split('`').next().unwrap_or_default();
        assert!(reasons.contains(reason), "the code has no reason {reason}");
    }
}

/// The rows of the table of refusals: gRPC code, reason, action.
fn rows_of(source: &str) -> Vec<(String, String, String)> {
    let table = source.split("\nimpl ").next().unwrap_or(source);
    let mut rows = Vec::new();
    for row in table.split("Row(").skip(1) {
        let parts: Vec<&str> = row.split(',').map(str::trim).collect();
        if let [code, reason, action, ..] = parts[..]
            && let Some(reason) = reason.strip_prefix('"').and_then(|reason| reason.strip_suffix('"'))
        {
            rows.push((upper_snake(code), reason.to_owned(), action.to_lowercase()));
        }
    }
    rows
}

fn upper_snake(camel: &str) -> String {
    let mut text = String::new();
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

/// What stands in backticks and looks like the name of a test: a sentence of at least three words.
fn test_names(page: &str) -> BTreeSet<String> {
    let is_name = |text: &&str| {
        text.matches('_').count() >= 2 && text.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    page.split('`').skip(1).step_by(2).filter(is_name).map(str::to_owned).collect()
}

/// Targets of links in the form `[text](target)`, code aside.
fn links(page: &str) -> Vec<String> {
    let prose: String = page.split("```").step_by(2).collect();
    let mut targets = Vec::new();
    for after in prose.split("](").skip(1) {
        targets.extend(after.split(')').next().map(str::to_owned));
    }
    targets
}

/// The contents of all fenced blocks of a language.
fn fenced(page: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    page.split(&opening).skip(1).filter_map(|after| after.split("```").next().map(str::to_owned)).collect()
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![workspace().join("README.md")];
    collect(&workspace().join("docs"), "md", &mut pages);
    pages
}

fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["ca-server", "enroll-client", "proto", "tests"] {
        collect(&workspace().join(folder), "rs", &mut files);
    }
    files
}

fn collect(folder: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() {
            collect(&path, extension, into);
        } else if path.extension().is_some_and(|found| found == extension) {
            into.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn what_can_be_asked_of_the_audit_log_is_what_is_written_and_documented() {
    let known: BTreeSet<&str> = ACTIONS.into_iter().chain(EVENTS).collect();
    let page = read(&workspace().join("docs/audit.md"));
    for name in &known {
        assert!(page.contains(&format!("`{name}`")), "docs/audit.md knows nothing of {name}");
    }
    let kinds: BTreeSet<&str> = known.iter().filter_map(|name| name.split('.').next()).collect();
    let mut sources = Vec::new();
    collect(&workspace().join("ca-server/src"), "rs", &mut sources);
    sources.retain(|path| !path.to_string_lossy().contains("tests") && !path.to_string_lossy().contains("contract"));
    let mut written = BTreeSet::new();
    for source in sources {
        let code = read(&source);
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        for text in code.split('"').skip(1).step_by(2) {
            let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c == '_' || c.is_ascii_lowercase());
            if let Some((kind, what)) = text.split_once('.')
                && kinds.contains(kind)
                && is_word(what)
                && !["pem", "db", "crl", "cer", "example", "toml", "lock"].contains(&what)
            {
                assert!(known.contains(text), "{}: {text} is written, and can't be asked for", source.display());
                written.insert(text.to_owned());
            }
        }
    }
    for name in known {
        assert!(written.contains(name), "{name} is written nowhere");
    }
}
