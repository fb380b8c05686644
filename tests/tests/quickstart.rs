//! The first of the README's two commands.

use std::process::Command;

use fleetca_tests::binaries;

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

    let again = run("story");
    assert_eq!(again.status.code(), Some(1), "a second story in the same folder is refused");
}
