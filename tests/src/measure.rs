//! What a load tool measures: processor time, memory and open files of a process, and the limit that a figure is held
//! against.
//!
//! Figures that stand beside each other are taken in one run: this machine, today, with the same other work on it.

use std::{fs, hint::black_box, thread, time::Duration};

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};

/// Octets of what is signed where a certificate is: its TBSCertificate has about as many.
const SIGNED: usize = 640;

/// Processor time that all threads of a process have used so far. Those that have ended are not counted.
///
/// From `/proc/PID/task/*/schedstat`, in nanoseconds; panics where there is none.
pub fn cpu_of(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs, and /proc is there");
    tasks.map(|task| cpu_in(&task.expect("a thread").path().join("schedstat").display().to_string())).sum()
}

fn cpu_in(schedstat: &str) -> Duration {
    // A thread may end while we look.
    let text = fs::read_to_string(schedstat).unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// The resident memory of a process, in KiB; 0 where it has ended.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// What a process has open: sockets, and all else. Nothing where it has ended.
pub fn open_files(pid: u32) -> (usize, usize) {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return (0, 0) };
    // One may be closed while we look.
    let open = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let (sockets, files): (Vec<_>, Vec<_>) = open.partition(|target| target.to_string_lossy().starts_with("socket:"));
    (sockets.len(), files.len())
}

/// Processor time of `work`, for each of `times` runs, with every processor of the machine at it: so are the servers that
/// it is compared with.
pub fn cpu_each(times: u32, work: impl Fn() + Sync) -> Duration {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let run = || {
        let before = cpu_in("/proc/thread-self/schedstat");
        (0..times).for_each(|_| work());
        (cpu_in("/proc/thread-self/schedstat") - before) / times
    };
    let total: Duration = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().map(|thread| thread.join().expect("the work does not panic")).sum()
    });
    total / u32::try_from(threads).expect("few processors")
}

/// The cost of one P-256 verification plus one P-256 signature: what a certificate costs at least.
pub fn verify_plus_sign() -> Duration {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key is made");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).expect("our own key");
    let message = [7; SIGNED];
    let signature = key.sign(&random, &message).expect("the key signs");
    cpu_each(2_000, || {
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
        public.verify(black_box(&message), signature.as_ref()).expect("our own signature");
        black_box(key.sign(&SystemRandom::new(), black_box(&message)).expect("the key signs"));
    })
}

/// The value that this part of all (0 to 1) does not exceed. Sorts them; panics where there are none.
pub fn percentile(values: &mut [Duration], part: f64) -> Duration {
    values.sort_unstable();
    let last = values.len() - 1;
    values[(last as f64 * part).round() as usize]
}
