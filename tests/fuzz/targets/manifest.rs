//! Backups: whatever a manifest says, nothing is written outside of the folder that is made, and what is made holds
//! exactly the files that the manifest names, each as it says.

#![no_main]

use std::{collections::BTreeSet, fs, path::Path, sync::LazyLock};

use ca_server::{
    backup::{self, Manifest},
    folder::Folder,
};
use fleetca_fuzz::{folder, variant};
use libfuzzer_sys::fuzz_target;
use ring::digest::{SHA256, digest};

/// The files of a backup that is as good as any: nobody opens the database here.
const FILES: [(&str, &str); 3] =
    [("ca.db", "a database"), ("config.toml", "[listen]\n"), ("keys/0123456789abcdef.pem", "a key")];

struct Backup {
    folder: tempfile::TempDir,
    manifest: Vec<u8>,
}

static BACKUP: LazyLock<Backup> = LazyLock::new(|| {
    let folder = folder();
    let from = folder.path().join("backup");
    fs::create_dir_all(from.join("keys")).expect("a folder");
    let files = FILES.map(|(name, content)| {
        fs::write(from.join(name), content).expect("a file");
        format!("{name:?}:{:?}", hex(content.as_bytes()))
    });
    let manifest = format!(
        r#"{{"format":1,"made_at_millis":1800000000000,"trust_domain":"fleet.example","keys":"encrypted","files":{{{}}}}}"#,
        files.join(",")
    );
    Backup { folder, manifest: manifest.into_bytes() }
});

fn hex(content: &[u8]) -> String {
    digest(&SHA256, content).as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Every file below a folder, by its path.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path.display().to_string())),
        }
    }
    found
}

fuzz_target!(|input: &[u8]| {
    let (base, from) = (BACKUP.folder.path(), BACKUP.folder.path().join("backup"));
    fs::write(from.join("manifest.json"), variant(&BACKUP.manifest, input)).expect("a file");
    let before = files(base);
    let draft = base.join("ca.new");
    let unpacked = backup::unpack(&from, &Folder::new(&draft));
    let made = if draft.exists() { files(&draft) } else { BTreeSet::new() };
    let others: BTreeSet<_> = files(base).difference(&made).cloned().collect();
    assert_eq!(others, before, "what is not in the folder is as it was");
    if let Ok(manifest) = unpacked {
        let again = serde_json::to_vec(&manifest).expect("it is written");
        assert_eq!(serde_json::from_slice::<Manifest>(&again).expect("it is read"), manifest);
        assert!(manifest.files.contains_key("ca.db"));
        for (name, sha256) in &manifest.files {
            assert_eq!(hex(&fs::read(draft.join(name)).expect("it was unpacked")), *sha256, "{name}");
        }
        assert_eq!(made.len(), manifest.files.len());
    }
    if draft.exists() {
        fs::remove_dir_all(draft).expect("it is ours");
    }
});
