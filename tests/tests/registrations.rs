//! Devices that are registered ahead, one by one and by the thousand, with what they will prove.

use std::{fmt::Write, path::Path, time::Instant};

use fleetca_tests::{openssl, process::run, server::Server};

/// How many at once: with debug assertions, where each takes twenty times as long, fewer.
const MANY: u32 = if cfg!(debug_assertions) { 5_000 } else { 100_000 };

fn server() -> Server {
    let server = Server::start();
    server.admin().create_fleet("pumps");
    server
}

fn ek(number: u32) -> String {
    format!("{number:064x}")
}

fn count(server: &Server) -> usize {
    server.admin().run(&["device", "list", "--limit", "1000"]).as_array().map_or(0, Vec::len)
}

fn file(server: &Server, name: &str, content: &str) -> String {
    let path = server.scratch().join(name);
    std::fs::write(&path, content).expect("it is written");
    path.to_str().expect("temporary folders have names in UTF-8").to_owned()
}

/// The public half of a key in a file, in a file.
fn public(key: &Path) -> String {
    let out = key.with_extension("pub");
    run(openssl::command().expect("openssl").args(["pkey", "-pubout", "-in"]).arg(key).arg("-out").arg(&out))
        .succeeded();
    out.to_str().expect("a name").to_owned()
}

#[test]
fn many_devices_are_registered_at_once_or_not_at_all() {
    let server = server();
    let mut csv = "id,ek_sha256\n".to_owned();
    for number in 0..MANY {
        writeln!(csv, "pump-{number},{}", ek(number)).expect("it is written");
    }
    // The last row has the first one's TPM.
    let wrong = file(&server, "wrong.csv", &format!("{csv}pump-x,{}\n", ek(0)));
    let admin = server.admin();
    let refused = admin.refused(&["device", "register", "--fleet", "pumps", "--from", &wrong]);
    let says = format!("{wrong}: line {}: ek:{}, of pump-x, is in the same file, on line 2", MANY + 2, ek(0));
    assert!(refused.contains(&says), "{refused}");
    assert_eq!(count(&server), 0, "all or nothing");

    let right = file(&server, "right.csv", &csv);
    let begun = Instant::now();
    let registered = admin.run(&["device", "register", "--fleet", "pumps", "--from", &right]);
    println!("{MANY} devices took {:?}", begun.elapsed());
    assert_eq!(registered["registered"], MANY);
    let shown = admin.run(&["device", "show", &format!("pump-{}", MANY - 1)]);
    assert_eq!(
        (&shown["status"], &shown["hardware"][0]),
        (&"registered".into(), &format!("ek:{}", ek(MANY - 1)).into())
    );
    let records = admin.run(&["audit", "list", "--action", "device.registered"]);
    assert_eq!(records[0]["detail"]["devices"], MANY);
    assert_eq!(records.as_array().map(Vec::len), Some(1));
}

#[test]
fn what_is_wrong_with_a_row_is_told_with_its_line_and_nothing_is_registered() {
    let server = server();
    let admin = server.admin();
    admin.run(&["device", "register", "pump-0", "--fleet", "pumps", "--ek-hash", &ek(1)]);
    let (own, other) = (ek(1), ek(2));
    for (content, says) in [
        ("id\npump-1\nPUMP-0\n", "line 3: device PUMP-0 exists already, as pump-0"),
        ("id\npump-1\n\npump 2\n", "line 4: id: may have only"),
        ("id\npump-1\npump-0\n", "line 3: device pump-0 exists already"),
        ("id\npump-1\npump-1\n", "line 3: device pump-1 is in the same file, on line 2"),
        ("id\npump-1\nPump-1\n", "line 3: device Pump-1 is in the same file, on line 2, in another case"),
        (&format!("id;ek_sha256\npump-1;{own}\n"), "line 2: ek:{own}, of pump-1, is device pump-0's already"),
        (
            &format!("id,ek_sha256\npump-1,{other}\npump-2,{other}\n"),
            "line 3: ek:{other}, of pump-2, is in the same file, on line 2",
        ),
        ("id,fleet\npump-1,pumps\npump-2,valves\n", "line 3: no such fleet"),
        ("id,ek_sha256\npump-1,00\n", "line 2: ek_sha256: must be a SHA-256"),
        ("id,idevid\npump-1,maker:1\n", "line 2: idevid: must be"),
        ("{\"id\":\"pump-1\"}\n{\"id\":\"pump-2\",\"cn\":1}\n", "line 2: character 19: unknown field"),
        ("id,name\n", "line 1: no column is called"),
        ("id\n", "there are none"),
    ] {
        let path = file(&server, "rows", content);
        let refused = admin.refused(&["device", "register", "--fleet", "pumps", "--from", &path]);
        let says = says.replace("{own}", &own).replace("{other}", &other);
        assert!(refused.contains(&says), "{says}: {refused}");
        assert!(refused.contains(&format!("{path}: line ")) || says.starts_with("there"), "{says}: {refused}");
        assert_eq!(count(&server), 1, "{says}");
    }
    let rows = file(&server, "sheet.csv", &format!("\u{feff}ID;EK_SHA256\r\npump-1;{other}\r\n;\r\n"));
    assert_eq!(admin.run(&["device", "register", "--fleet", "pumps", "--from", &rows])["registered"], 1);
    let refused = admin.refused(&["device", "register", "pump-2", "--fleet", "pumps", "--ek-hash", &other]);
    assert!(refused.contains(&format!("ek:{other}, of pump-2, is device pump-1's already")), "{refused}");
}

#[test]
fn a_hardware_identity_and_a_key_are_one_devices_for_ever() {
    let server = server();
    let admin = server.admin();
    let idevid = format!("{}:SN 1", ek(7));
    let key = server.scratch().join("device.key");
    let options = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"];
    let Some(mut command) = openssl::command() else { return };
    run(command.args(options).arg(&key)).succeeded();
    let public = public(&key);
    let what = [["--ek-hash", &ek(1)], ["--idevid", &idevid], ["--key", &public]];
    let mut arguments = vec!["device", "register", "pump-1", "--fleet", "pumps"];
    arguments.extend(what.iter().flatten());
    let shown = admin.run(&arguments);
    assert_eq!(shown["keys"].as_array().map(Vec::len), Some(1));
    assert_eq!(shown["hardware"].as_array().map(Vec::len), Some(2));
    for [option, value] in what {
        let again = ["device", "register", "pump-2", "--fleet", "pumps", option, value];
        assert_eq!(admin.reason(&again), "ALREADY_EXISTS", "{option}");
    }
    assert_eq!(count(&server), 1);
    let private = key.to_str().expect("a name");
    let refused = admin.refused(&["device", "register", "pump-2", "--fleet", "pumps", "--key", private]);
    assert!(refused.contains("this is a private key"), "{refused}");

    let thumbprint = shown["keys"][0]["thumbprint"].as_str().expect("a thumbprint");
    assert_eq!(admin.reason(&["device", "key", "retire", "pump-1", &"A".repeat(43)]), "NOT_FOUND");
    let retired = admin.run(&["device", "key", "retire", "pump-1", thumbprint]);
    assert!(retired["keys"][0]["retires_at"].is_string(), "{retired}");
    assert_eq!(admin.reason(&["device", "key", "add", "pump-1", "--key", &public]), "ALREADY_EXISTS");
}
