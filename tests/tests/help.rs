//! The help of both programs, as it was when somebody last looked at it: what is changed there is changed on purpose.
//!
//! `INSTA_UPDATE=always cargo test --test help` records a change.

use std::{path::Path, process::Command};

use fleetca_tests::{binaries, process::run};

/// The help of a program and of all its commands, at one width.
fn help(program: &Path, commands: &[&str]) -> String {
    let output = run(Command::new(program).args(commands).arg("--help").env("COLUMNS", "100")).succeeded();
    let program_name = program.file_name().expect("a name").to_string_lossy();
    let mut text = format!("=== {} {}\n{output}\n", program_name, commands.join(" "));
    for name in subcommands(&output) {
        text += &help(program, &[commands, &[name]].concat());
    }
    text
}

fn subcommands(help: &str) -> impl Iterator<Item = &str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help")
}

#[test]
fn the_help_of_ca_server_says_what_it_said() {
    insta::assert_snapshot!(help(&binaries::ca_server(), &[]));
}

#[test]
fn the_help_of_enroll_client_says_what_it_said() {
    insta::assert_snapshot!(help(&binaries::enroll_client(), &[]));
}
