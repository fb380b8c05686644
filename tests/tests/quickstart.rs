//! The first of the README's two commands.

use std::process::Command;

use fleetca_tests::binaries;
use serde_json::Value;

#[test]
fn the_quickstart_tells_its_story_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let run = |folder: &str| {
        let mut command = Command::new(binaries::ca_server());
        command.current_dir(dir.path()).args(["quickstart", "--exit", "--dir", folder]).output().unwrap()
    };
    let output = run("story");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for part in ["pump-1 renewed", "revoked pump-2", "1 revoked", "pump-1 accepted, pump-2 refused", "pump-3 accepted"]
    {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    for file in
        ["ca/control-root.pem", "ca/operator/current/key.pem", "pump-1/current/credential.pem", "gateway/crls.pem"]
    {
        assert!(dir.path().join("story").join(file).exists(), "{file}");
    }

    let mut command = Command::new(binaries::ca_server());
    command.current_dir(dir.path()).args(["quickstart", "--exit", "--output", "json", "--dir", "told"]);
    let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (end, steps) = lines.split_last().unwrap();
    assert_eq!(*end, serde_json::json!({ "done": true, "dir": "told", "serving": null }));
    assert_eq!(steps.len(), text.lines().count() - 1, "a line a step, for people and for programs");
    for (index, step) in steps.iter().enumerate() {
        assert_eq!(step["step"], index + 1);
        assert!(step["what"].is_string());
    }

    let again = run("story");
    assert_eq!(again.status.code(), Some(1), "a second story in the same folder is refused");
    let error = String::from_utf8(again.stderr).unwrap();
    assert!(error.ends_with("choose another folder with --dir, or remove this one\n"), "{error}");
}
