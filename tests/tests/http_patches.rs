//! A gateway that fetches over plain HTTP gets what has changed, and not the whole list.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use fleetca_tests::{binaries, device::Device, http, process::run, server::Server};

/// Passes on what is asked of the server's HTTP port, one connection after the other, and writes down what that is.
fn eavesdrop(server: &Server) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (to, asked) = (server.addresses().http, Arc::new(Mutex::new(Vec::new())));
    let heard = asked.clone();
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let (mut request, mut octet) = (Vec::new(), [0]);
            while !request.ends_with(b"\r\n\r\n") && client.read_exact(&mut octet).is_ok() {
                request.push(octet[0]);
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let line = text.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
            heard.lock().expect("alone").push(line);
            let mut server = TcpStream::connect(to).expect("the server");
            let request = text.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            server.write_all(request.as_bytes()).expect("it is passed on");
            let mut answer = Vec::new();
            server.read_to_end(&mut answer).expect("an answer");
            // Whoever has gone away has heard enough.
            let _ = client.write_all(&answer);
        }
    });
    (url, asked)
}

#[test]
fn a_gateway_over_plain_http_fetches_patches_and_has_the_very_bundle_that_is_served() {
    let server = Server::start();
    let admin = server.admin();
    admin.create_fleet("sensors");
    for id in ["pump-1", "pump-2"] {
        Device::enroll(&server, "sensors", id);
    }
    let (url, asked) = eavesdrop(&server);
    for form in ["bundle", "full"] {
        let issuers = admin.run(&["issuer", "list"]);
        let devices = issuers.as_array().into_iter().flatten().find(|issuer| issuer["hierarchy"] == "device");
        let issuer = devices.and_then(|issuer| issuer["id"].as_str()).expect("an issuing CA").to_owned();
        let (form, path) = match form {
            "bundle" => ("bundle".to_owned(), "/crl/bundle.pem".to_owned()),
            _ => (format!("full:{issuer}"), format!("/crl/{issuer}/full.pem")),
        };
        let out = server.scratch().join(form.replace(':', "-"));
        let sync = || {
            let mut command = Command::new(binaries::enroll_client());
            command.args(["sync-crls", "--http-url", &url, "--trust"]).arg(server.device_root());
            run(command.args(["--form", &form, "--out"]).arg(&out)).succeeded();
            std::mem::take(&mut *asked.lock().expect("alone"))
        };
        assert!(sync().contains(&format!("GET {path}")), "{form}: at first the whole");
        assert!(sync().contains(&format!("HEAD {path}")), "{form}: then whether there is something new");
        admin.run(&["device", "revoke", if form == "bundle" { "pump-1" } else { "pump-2" }]);
        let asked = sync();
        let patch = format!("GET /crl/{issuer}/patch/");
        assert!(asked.iter().any(|line| line.starts_with(&patch) && line.ends_with("-current")), "{form}: {asked:?}");
        assert!(!asked.contains(&format!("GET {path}")), "{form}: the whole came again: {asked:?}");
        assert_eq!(fs::read(&out).expect("a file"), http::get(&server.http_url(&path)).ok(), "{form}");
    }
}
