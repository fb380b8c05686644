//! What gateways run, against a hostile HTTP server on the loopback interface: whatever it answers, the file is not
//! there, or holds exactly the CRLs that the CA has signed.

#![no_main]

use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
};

use ca_server::pki::{CaRole, PemLabel, from_pem, to_pem};
use enroll_client::{
    crl_sync::{CrlSync, Form, Source},
    trust::Roots,
};
use fleetca_fuzz::{folder, split, variant, world::World};
use libfuzzer_sys::fuzz_target;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// What the server answers: to the first request, and to every other one.
type Answers = Arc<Mutex<[Vec<u8>; 2]>>;

struct Hostile {
    world: World,
    address: SocketAddr,
    answers: Answers,
    real: [Vec<u8>; 2],
    crls: Vec<Vec<u8>>,
    folder: tempfile::TempDir,
}

static HOSTILE: LazyLock<Hostile> = LazyLock::new(|| {
    let world = World::new();
    let crls = [CaRole::DeviceIssuing, CaRole::DeviceRoot].map(|role| world.crl(role)).to_vec();
    let bundle: String = crls.iter().map(|crl| to_pem(PemLabel::Crl, crl)).collect();
    let real = [bundle.as_bytes(), world.certificate(CaRole::DeviceIssuing)].map(ok);
    let answers: Answers = Arc::default();
    let given = answers.clone();
    let address = world.runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(serve(listener, given));
        address
    });
    Hostile { world, address, answers, real, crls, folder: folder() }
});

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"a\"\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn serve(listener: TcpListener, answers: Answers) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let mut request = vec![0; 4096];
        let Ok(length) = stream.read(&mut request).await else { continue };
        let first = request[..length].starts_with(b"GET /crl/");
        let answer = answers.lock().expect("nobody panics")[usize::from(!first)].clone();
        // Whoever goes away has heard enough.
        let _ = stream.write_all(&answer).await;
    }
}

fuzz_target!(|input: &[u8]| {
    let hostile = &*HOSTILE;
    let (first, second) = split(input);
    let answers = [variant(&hostile.real[0], first), variant(&hostile.real[1], second)];
    *hostile.answers.lock().expect("nobody panics") = answers;
    let out = hostile.folder.path().join("crls.pem");
    for file in [&out, &hostile.folder.path().join("crls.pem.state.json")] {
        // It need not be there.
        let _ = fs::remove_file(file);
    }
    let roots = Roots::from_ders(&[hostile.world.certificate(CaRole::DeviceRoot)]).expect("a root");
    let url = format!("http://{}", hostile.address).parse().expect("a URL");
    let source = Source::Http { url, roots };
    let sync = CrlSync { source, form: Form::Bundle, out: out.clone(), on_change: None, max_age: None };
    let synced = hostile.world.runtime.block_on(sync.run());
    assert_eq!(synced.is_ok(), out.exists());
    if let Ok(text) = fs::read_to_string(&out) {
        let mut written = from_pem(PemLabel::Crl, &text).expect("it is PEM");
        written.sort();
        let mut signed = hostile.crls.clone();
        signed.sort();
        assert_eq!(written, signed);
    }
});
