//! Whole synchronisations over HTTP, against a server of a few lines.

mod age;
mod probe;

use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex},
};

use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::test_pki::House;

/// Serves what is in `pages`, each with an ETag of its content as the CA makes it, and counts what was sent whole.
struct Site {
    url: HttpUrl,
    pages: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Site {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let site = Self { url, pages: Arc::default(), sent: Arc::default() };
        let (pages, sent) = (site.pages.clone(), site.sent.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &pages, &sent).await;
            }
        });
        site
    }

    fn put(&self, path: &str, body: impl Into<Vec<u8>>) {
        self.pages.lock().unwrap().insert(path.to_owned(), body.into());
    }

    fn put_bundle(&self, house: &House, crls: &[Vec<u8>]) {
        let pem: String = crls.iter().map(|crl| crate::certificate::pem("X509 CRL", crl)).collect();
        self.put("/crl/bundle.pem", pem);
        let issuer = &house.device_ca.certificate;
        self.put(&format!("/issuers/{}.cer", IssuerId::of(issuer)), issuer.der().to_vec());
    }
}

async fn serve(mut stream: TcpStream, pages: &Mutex<HashMap<String, Vec<u8>>>, sent: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let page = pages.lock().unwrap().get(&path).cloned();
    let etag = |body: &[u8]| {
        let crls = CertificateRevocationListDer::pem_slice_iter(body);
        let hashes: Vec<u8> = crls.filter_map(|crl| Some(sha256(&crl.ok()?))).flatten().collect();
        format!("\"{}\"", hex(&sha256(&hashes)))
    };
    let is_head = request.starts_with("HEAD ");
    let answer = match page {
        None => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        Some(body) if request.contains(&etag(&body)) => b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
        Some(body) if is_head => {
            format!("HTTP/1.1 200 OK\r\netag: {}\r\ncontent-length: {}\r\n\r\n", etag(&body), body.len()).into()
        }
        Some(body) => {
            sent.lock().unwrap().push(path);
            let head = format!("HTTP/1.1 200 OK\r\netag: {}\r\ncontent-length: {}\r\n\r\n", etag(&body), body.len());
            [head.as_bytes(), &body].concat()
        }
    };
    stream.write_all(&answer).await.unwrap();
}

struct Gateway {
    site: Site,
    house: House,
    /// The root's CRL, the same in each bundle.
    root_crl: Vec<u8>,
    folder: tempfile::TempDir,
    sync: CrlSync,
}

impl Gateway {
    async fn new() -> Self {
        let (site, house, folder) = (Site::open().await, House::new(), tempfile::tempdir().unwrap());
        let sync = CrlSync {
            source: Source::Http { url: site.url.clone(), roots: house.device_root.roots() },
            form: Form::Bundle,
            out: folder.path().join("crl.pem"),
            on_change: Some("echo >> \"$FLEETCA_FILE.reloads\"".into()),
            probe: None,
            max_age: None,
            on_stale: None,
        };
        let root_crl = house.device_root.crl(1, &[]);
        Self { site, house, root_crl, folder, sync }
    }

    fn bundle(&self, number: u64, serials: &[u64]) -> Vec<Vec<u8>> {
        vec![self.house.device_ca.crl(number, serials), self.root_crl.clone()]
    }

    fn publish(&self, crls: &[Vec<u8>]) {
        self.site.put_bundle(&self.house, crls);
    }

    fn file(&self) -> String {
        fs::read_to_string(&self.sync.out).unwrap()
    }

    fn reloads(&self) -> usize {
        self.lines("reloads")
    }

    /// How often a hook has written a line.
    fn lines(&self, extension: &str) -> usize {
        let path = self.folder.path().join(format!("crl.pem.{extension}"));
        fs::read_to_string(path).unwrap_or_default().lines().count()
    }
}

#[tokio::test]
async fn a_new_bundle_is_written_and_told_of_once() {
    let gateway = Gateway::new().await;
    let first = gateway.bundle(7, &[1]);
    gateway.publish(&first);
    assert!(gateway.sync.run().await.unwrap().changed);
    assert!(!gateway.sync.run().await.unwrap().changed);
    assert_eq!(gateway.reloads(), 1);
    assert_eq!(gateway.site.sent.lock().unwrap().iter().filter(|path| *path == "/crl/bundle.pem").count(), 1);

    gateway.publish(&[gateway.house.device_ca.crl(8, &[1, 2]), first[1].clone()]);
    let synced = gateway.sync.run().await.unwrap();
    assert!(synced.changed);
    assert_eq!(synced.crls[0].entries, 2);
    assert_eq!(gateway.reloads(), 2);
}

#[tokio::test]
async fn nothing_bad_ever_reaches_the_file() {
    let gateway = Gateway::new().await;
    let good = gateway.bundle(7, &[1]);
    gateway.publish(&good);
    gateway.sync.run().await.unwrap();
    let file = gateway.file();

    gateway.site.put("/crl/bundle.pem", "");
    assert!(matches!(gateway.sync.run().await, Err(SyncError::Empty)));
    gateway.site.put("/crl/bundle.pem", "-----BEGIN X509 CRL-----\nnonsense");
    assert!(gateway.sync.run().await.is_err());
    gateway.publish(&good[..1]);
    assert!(matches!(gateway.sync.run().await, Err(SyncError::Missing(_))));
    gateway.publish(&[gateway.house.device_ca.crl(6, &[]), good[1].clone()]);
    let refused = gateway.sync.run().await;
    assert!(matches!(refused, Err(SyncError::Crl { reason: CrlError::Lower { .. }, .. })));
    gateway.site.pages.lock().unwrap().clear();
    assert!(matches!(gateway.sync.run().await, Err(SyncError::Http(HttpError::Status { .. }))));

    assert_eq!(gateway.file(), file);
    assert_eq!(gateway.reloads(), 1);
}

#[tokio::test]
async fn a_file_that_somebody_emptied_is_written_again() {
    let gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    gateway.sync.run().await.unwrap();
    let file = gateway.file();
    fs::write(&gateway.sync.out, "").unwrap();
    assert!(gateway.sync.run().await.unwrap().changed);
    assert_eq!(gateway.file(), file);
    assert_eq!(gateway.reloads(), 2);
}

#[tokio::test]
async fn a_hook_that_failed_runs_again_although_nothing_changed() {
    let mut gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    let works = gateway.sync.on_change.replace("exit 1".into());
    assert!(matches!(gateway.sync.run().await, Err(SyncError::Hook(HookError::Failed(_)))));
    gateway.sync.on_change = works;
    assert!(!gateway.sync.run().await.unwrap().changed);
    assert_eq!(gateway.reloads(), 1);
    gateway.sync.run().await.unwrap();
    assert_eq!(gateway.reloads(), 1);
}

#[tokio::test]
async fn over_http_an_issuer_is_held_on_to_whatever_the_servers_url_and_not_once_it_has_expired() {
    let mut gateway = Gateway::new().await;
    let other = gateway.house.device_root.issuing("second CA");
    let id = IssuerId::of(&other.certificate);
    let (of_other, bundle) = (other.crl(3, &[]), gateway.bundle(7, &[1]));
    let elsewhere = Site::open().await;
    for site in [&gateway.site, &elsewhere] {
        site.put(&format!("/crl/{id}/full.pem"), crate::certificate::pem("X509 CRL", &of_other));
        site.put(&format!("/issuers/{id}.cer"), other.certificate.der().to_vec());
    }
    gateway.publish(&[bundle[0].clone(), of_other, bundle[1].clone()]);
    assert_eq!(gateway.sync.run().await.unwrap().crls.len(), 3);
    elsewhere.put_bundle(&gateway.house, &bundle);
    gateway.sync.source = Source::Http { url: elsewhere.url.clone(), roots: gateway.house.device_root.roots() };
    assert_eq!(gateway.sync.run().await.unwrap().crls.len(), 3, "nobody has said that it ended");

    let mut state = State::load(&gateway.sync.beside(".state.json")).unwrap();
    state.crls.get_mut(&id).unwrap().issuer_not_after = WallTime::from_unix(1);
    fs::write(gateway.sync.beside(".state.json"), state.to_json()).unwrap();
    assert_eq!(gateway.sync.run().await.unwrap().crls.len(), 2, "what it signed has expired, too");
}

#[tokio::test]
async fn two_at_once_do_not_write_one_file() {
    let gateway = Gateway::new().await;
    let _held = gateway.sync.lock().unwrap();
    assert!(matches!(gateway.sync.run().await, Err(SyncError::Locked(_))));
}

#[tokio::test]
async fn a_failure_tells_that_what_is_kept_has_grown_old_too() {
    let mut gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    gateway.sync.run().await.unwrap();
    gateway.site.pages.lock().unwrap().clear();
    let alone = gateway.sync.run().await.err().unwrap();
    gateway.sync.max_age = Some(Duration::from_secs(3600));
    let young = gateway.sync.run().await.err().unwrap();
    gateway.sync.max_age = Some(Duration::from_secs(10));
    let old = gateway.sync.run().await.err().unwrap();
    let SyncError::FailedAndTooOld { failure, issuer, .. } = &old else { panic!("{old}") };
    assert_eq!(*issuer, IssuerId::of(&gateway.house.device_ca.certificate), "a root's may be a year old");
    assert_eq!([young.to_string(), failure.to_string()], [alone.to_string(), alone.to_string()]);
    assert_eq!(old.action(), alone.action());
}

#[tokio::test]
async fn a_server_that_never_comes_to_an_end_does_not_keep_the_next_run_from_beginning() {
    let mut gateway = Gateway::new().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
    gateway.sync.source = Source::Http { url, roots: gateway.house.device_root.roots() };
    let given_up = gateway.sync.turn(&mut gateway.sync.open().unwrap(), Duration::from_millis(50)).await;
    assert!(matches!(given_up, Err(SyncError::TimedOut)), "{given_up:?}");
    assert!(gateway.sync.lock().is_ok(), "the next run may begin");
}

#[tokio::test]
async fn a_watch_ends_when_what_it_holds_is_too_old() {
    let mut gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    gateway.sync.run().await.unwrap();
    gateway.site.pages.lock().unwrap().clear();
    gateway.sync.max_age = Some(Duration::ZERO);
    let mut alarms = Vec::new();
    let tell = |outcome: Result<&Synced, &Alarm<'_>>| alarms.extend(outcome.err().map(ToString::to_string));
    let ended = gateway.sync.watch(tell, std::future::pending()).await.unwrap_err();
    assert!(matches!(ended, SyncError::FailedAndTooOld { .. }), "{ended}");
    // When it was, why, and what is held.
    let [alarm] = &alarms[..] else { panic!("{alarms:?}") };
    let issuer = IssuerId::of(&gateway.house.device_ca.certificate);
    let (at, rest) = alarm.split_once("Z: ").unwrap();
    assert!(at.starts_with("20") && at.contains('T'), "{alarm}");
    assert!(rest.starts_with(&ended.to_string()), "{alarm}");
    assert!(rest.contains(&format!("; held: issuer {issuer}: number 7, made 20")), "{alarm}");
}

#[tokio::test]
async fn a_watch_over_http_goes_on_through_failures_until_it_is_told_to_stop() {
    let gateway = Gateway::new().await;
    let (mut heard, told) = (Vec::new(), tokio::sync::Notify::new());
    let watch = gateway.sync.watch(
        |outcome| {
            heard.push(outcome.map(|synced| synced.changed).map_err(ToString::to_string));
            match heard.len() {
                // Nothing was there; now it is.
                1 => gateway.publish(&gateway.bundle(7, &[1])),
                2 => told.notify_one(),
                _ => {}
            }
        },
        told.notified(),
    );
    watch.await.unwrap();
    let nothing = heard[0].as_ref().unwrap_err();
    assert!(nothing.ends_with("; no CRL is held that was verified") && heard[1] == Ok(true), "{heard:?}");
}

/// The patch that leaves nothing of the old one.
fn patch_to(new: &[u8]) -> Vec<u8> {
    use fleetca_proto::v1::{CrlPatch, CrlPatchStep};
    use prost::Message;
    let steps = vec![CrlPatchStep { skip: 0, copy: 0, insert: new.to_vec() }];
    CrlPatch { length: new.len() as u64, sha256: sha256(new).to_vec(), steps, ..CrlPatch::default() }.encode_to_vec()
}

#[tokio::test]
async fn what_is_held_is_brought_up_to_date_by_patches_and_fetched_whole_where_they_do_not_make_what_is_served() {
    let gateway = Gateway::new().await;
    let (issuer, root) =
        (IssuerId::of(&gateway.house.device_ca.certificate), IssuerId::of(&gateway.house.device_root.certificate));
    let sent = |path: &str| gateway.site.sent.lock().unwrap().iter().filter(|sent| *sent == path).count();
    let wholes = || sent("/crl/bundle.pem");
    let first = gateway.bundle(7, &[1]);
    gateway.publish(&first);
    gateway.sync.run().await.unwrap();
    assert_eq!(wholes(), 1);

    // The root's is what it was: its patch is one to itself.
    gateway.site.put(&format!("/crl/{root}/patch/1-current"), patch_to(&first[1]));
    let second = gateway.bundle(8, &[1, 2]);
    gateway.site.put(&format!("/crl/{issuer}/patch/7-current"), patch_to(&second[0]));
    let second = [second[0].clone(), first[1].clone()];
    gateway.publish(&second);
    assert_eq!(gateway.sync.run().await.unwrap().crls[0].entries, 2);
    assert_eq!((wholes(), gateway.reloads()), (1, 2), "by a patch");
    assert!(!gateway.sync.run().await.unwrap().changed);

    // No patch; one that makes nothing; one that makes another CRL than is served; one to a CRL that somebody else signed.
    let stranger = crate::test_pki::House::new();
    let patches: [Option<Vec<u8>>; 4] = [
        None,
        Some(b"\xff".to_vec()),
        Some(patch_to(&gateway.house.device_ca.crl(90, &[]))),
        Some(patch_to(&stranger.device_ca.crl(91, &[]))),
    ];
    for (number, patch) in (9..).zip(patches) {
        if let Some(patch) = patch {
            gateway.site.put(&format!("/crl/{issuer}/patch/{}-current", number - 1), patch);
        }
        gateway.publish(&[gateway.house.device_ca.crl(number, &[1, 2, number]), first[1].clone()]);
        let synced = gateway.sync.run().await.unwrap();
        assert_eq!((synced.crls[0].number.clone(), synced.crls[0].entries), (number.to_string(), 3));
        assert_eq!(wholes() as u64, number - 7, "the whole, since the patch for {number} does not do");
    }

    // A middleman who has patch and ETag agree does not get past the judgement: an older CRL, and one that is not signed by its issuer.
    let before = gateway.file();
    for forged in [gateway.house.device_ca.crl(3, &[]), stranger.device_ca.crl(93, &[])] {
        gateway.site.put(&format!("/crl/{issuer}/patch/12-current"), patch_to(&forged));
        gateway.publish(&[forged, first[1].clone()]);
        assert!(gateway.sync.run().await.is_err());
        assert_eq!(gateway.file(), before);
    }

    // A new issuer's CRL in the bundle is no patch of anything: the whole is fetched.
    let next = gateway.house.device_root.issuing("another issuing CA");
    gateway.site.put(&format!("/issuers/{}.cer", IssuerId::of(&next.certificate)), next.certificate.der().to_vec());
    let last = gateway.house.device_ca.crl(13, &[1]);
    gateway.site.put(&format!("/crl/{issuer}/patch/12-current"), patch_to(&last));
    gateway.publish(&[last, next.crl(1, &[5]), first[1].clone()]);
    assert_eq!(gateway.sync.run().await.unwrap().crls.len(), 3);
}

#[test]
fn a_patch_is_taken_only_if_it_makes_what_it_announces() {
    use fleetca_proto::v1::{CrlPatch, CrlPatchStep};
    use prost::Message;
    let patch = |length, sha256: &[u8]| CrlPatch {
        length,
        sha256: sha256.to_vec(),
        steps: vec![CrlPatchStep { skip: 1, copy: 2, insert: b"x".to_vec() }],
        ..CrlPatch::default()
    };
    let patched = |patch: CrlPatch| watch::patched(&patch.encode_to_vec(), b"abcd");
    assert_eq!(patched(patch(3, &sha256(b"bcx"))).unwrap(), b"bcx");
    for wrong in [patch(3, &sha256(b"bcy")), patch(3, &[]), patch(4, &sha256(b"bcx")), patch(u64::MAX, &sha256(b"bcx"))]
    {
        assert!(matches!(patched(wrong), Err(SyncError::NotCrls(_))));
    }
    assert!(watch::patched(b"\xff", b"abcd").is_err());
}
