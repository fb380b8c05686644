//! A fleet in motion, for hours if need be: devices that renew, are stolen from, held, revoked and replaced by others,
//! while the server is killed under them. What they were told is in a [`Ledger`].

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use enroll_client::connect::Connection;
use fleetca_proto::v1::{HoldDeviceRequest, ReleaseDeviceRequest, RevocationReason, RevokeDeviceRequest};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tonic::{Code, Status};

use crate::{
    admin::Admin,
    holder::Holder,
    ledger::Ledger,
    server::Server,
    stranger::{self, Refusal, SubjectKey},
};

/// Numbers that look random and are the same in every run with one seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below this one.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// A device, and where it is in its renewal: what it asks for again when the server was gone.
#[derive(Debug)]
pub struct Device {
    id: String,
    holder: Arc<Holder>,
    asked: Option<SubjectKey>,
    pending: Option<Arc<Holder>>,
    renewals: u32,
}

impl Device {
    /// Its certificate in force.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }
}

/// After how many renewals a device is taken out of service: it may hold 64 certificates that have not expired, and whoever
/// asks for more is told to wait.
const WORN_OUT: u32 = 40;

/// How often something was done, and acknowledged.
#[derive(Debug, Default)]
pub struct Counts {
    /// Devices enrolled.
    pub enrollments: AtomicUsize,
    /// Renewals, each with its Confirm.
    pub renewals: AtomicUsize,
    /// Devices revoked.
    pub revocations: AtomicUsize,
    /// Devices held and released.
    pub holds: AtomicUsize,
    /// Second holders that were found.
    pub forks: AtomicUsize,
    /// Connections that ended under somebody, kills aside: on a machine that stands still for a while, some do.
    pub cuts: AtomicUsize,
}

/// Whether the connection ended, and nobody has refused anything.
pub fn is_cut(status: &Status) -> bool {
    let lost = status.code() == Code::Unavailable || std::error::Error::source(status).is_some();
    lost && status.details().is_empty()
}

/// One more.
pub fn count(what: &AtomicUsize) {
    what.fetch_add(1, Ordering::Relaxed);
}

/// Everybody there is, whichever server serves them.
#[derive(Debug)]
pub struct Fleet {
    name: &'static str,
    size: usize,
    idle: Mutex<VecDeque<Device>>,
    /// Of these nobody knows what the server has made of the last request: they are revoked, whatever it was.
    doomed: Mutex<Vec<Device>>,
    revoked: Mutex<Vec<Device>>,
    made: AtomicUsize,
    ledger: Mutex<Ledger>,
    /// What was done.
    pub counts: Counts,
}

/// A poisoned lock is that of a task which has panicked, and says so itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// So many devices, which have to enroll yet.
    pub fn new(name: &'static str, size: usize) -> Fleet {
        Fleet {
            name,
            size,
            idle: Mutex::default(),
            doomed: Mutex::default(),
            revoked: Mutex::default(),
            made: AtomicUsize::new(0),
            ledger: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// What everybody was told.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// A connection has ended; because of a kill, if everything ends.
    pub fn cut(&self, ended: &watch::Receiver<bool>) {
        if !*ended.borrow() {
            count(&self.counts.cuts);
        }
    }

    /// Does one thing after another with one device after another, one at each beat, until `ended` says so. Connections may
    /// end; a refusal ends it.
    pub async fn work(
        self: Arc<Self>,
        server: Arc<Server>,
        mut dice: Dice,
        beat: Duration,
        ended: watch::Receiver<bool>,
    ) -> Result<(), Status> {
        let (admin, strangers) = (Admin::of(&server), stranger::connect(&server).await);
        let hands = Hands { fleet: &self, server: &server, admin, strangers };
        let mut beats = interval(beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*ended.borrow() {
            beats.tick().await;
            match hands.do_something(&mut dice).await {
                Err(status) if is_cut(&status) => self.cut(&ended),
                done => done?,
            }
        }
        Ok(())
    }

    /// At the end: whoever was revoked is refused, and everybody else goes on. Gives how many there are of each.
    pub async fn check(&self, server: &Server) -> (usize, usize) {
        let hands = Hands { fleet: self, server, admin: Admin::of(server), strangers: stranger::connect(server).await };
        let doomed = std::mem::take(&mut *lock(&self.doomed));
        for device in doomed {
            hands.revoke(device, RevocationReason::KeyCompromise).await.expect("it is revoked");
        }
        let revoked = std::mem::take(&mut *lock(&self.revoked));
        for device in &revoked {
            let refused = device.holder.renew(server, &SubjectKey::generate()).await;
            assert_eq!(stranger::reason(refused), "DEVICE_REVOKED", "{}", device.id);
        }
        let active = std::mem::take(&mut *lock(&self.idle));
        let honest = active.len();
        for mut device in active {
            let renewed = hands.renew(&mut device).await;
            renewed.unwrap_or_else(|status| panic!("{} does not go on: {status:?}", device.id));
        }
        (revoked.len(), honest)
    }
}

/// Who does it.
struct Hands<'a> {
    fleet: &'a Fleet,
    server: &'a Server,
    admin: Admin,
    strangers: Connection,
}

impl Hands<'_> {
    async fn do_something(&self, dice: &mut Dice) -> Result<(), Status> {
        let fleet = self.fleet;
        let doomed = lock(&fleet.doomed).pop();
        if let Some(device) = doomed {
            return self.revoke(device, RevocationReason::KeyCompromise).await;
        }
        let missing = fleet.size > lock(&fleet.idle).len() + lock(&fleet.doomed).len();
        let device = lock(&fleet.idle).pop_front();
        let Some(mut device) = device else { return self.enroll().await };
        if device.renewals >= WORN_OUT {
            return self.revoke(device, RevocationReason::CessationOfOperation).await;
        }
        // Others have some in their hands: the fleet may grow by as many as there are hands.
        let which = if missing { dice.roll(100) } else { 10 + dice.roll(90) };
        let done = match which {
            0..10 => self.enroll().await,
            10..12 => return self.revoke(device, RevocationReason::KeyCompromise).await,
            12..14 => return self.revoke(device, RevocationReason::CessationOfOperation).await,
            14..18 => self.hold_and_release(&device).await,
            18..20 => self.stolen(&mut device).await,
            _ => {
                let done = self.renew(&mut device).await;
                lock(&fleet.idle).push_back(device);
                return done;
            }
        };
        match done {
            Ok(()) => lock(&fleet.idle).push_back(device),
            Err(_) => lock(&fleet.doomed).push(device),
        }
        done
    }

    async fn enroll(&self) -> Result<(), Status> {
        let fleet = self.fleet;
        let id = format!("{}-{}", fleet.name, fleet.made.fetch_add(1, Ordering::Relaxed));
        let (token, key) = (self.admin.try_token(fleet.name, &id).await?, SubjectKey::generate());
        let issued = stranger::enroll(&self.strangers, &id, &token, &key).await?;
        let holder = Arc::new(Holder::of(&issued, &key));
        fleet.ledger().issued(&holder);
        lock(&fleet.idle).push_back(Device { id, holder, asked: None, pending: None, renewals: 0 });
        count(&fleet.counts.enrollments);
        Ok(())
    }

    /// What was asked before, and not answered, is asked again.
    async fn renew(&self, device: &mut Device) -> Result<(), Status> {
        let next = match device.pending.take() {
            Some(pending) => pending,
            None => {
                let key = device.asked.get_or_insert_with(SubjectKey::generate);
                let issued = device.holder.renew(self.server, key).await?;
                let next = Arc::new(Holder::of(&issued, key));
                self.fleet.ledger().issued(&next);
                device.asked = None;
                next
            }
        };
        if let Err(status) = next.confirm(self.server).await {
            device.pending = Some(next);
            return Err(status);
        }
        device.holder = next;
        device.renewals += 1;
        count(&self.fleet.counts.renewals);
        Ok(())
    }

    async fn revoke(&self, device: Device, reason: RevocationReason) -> Result<(), Status> {
        let request = RevokeDeviceRequest { id: device.id.clone(), reason: reason.into() };
        match self.admin.client().revoke_device(request).await {
            Ok(receipt) => {
                self.fleet.ledger().revoked(device.holder.serial(), receipt.get_ref());
                lock(&self.fleet.revoked).push(device);
                count(&self.fleet.counts.revocations);
                Ok(())
            }
            Err(status) => {
                lock(&self.fleet.doomed).push(device);
                Err(status)
            }
        }
    }

    async fn hold_and_release(&self, device: &Device) -> Result<(), Status> {
        let (id, serial) = (device.id.clone(), device.holder.serial());
        let held = self.admin.client().hold_device(HoldDeviceRequest { id }).await?;
        self.fleet.ledger().revoked(serial.clone(), held.get_ref());
        self.release(device, String::new()).await?;
        count(&self.fleet.counts.holds);
        Ok(())
    }

    /// From here on the device's certificate may be off the CRL, whether this is answered or not.
    async fn release(&self, device: &Device, keep_serial: String) -> Result<(), Status> {
        self.fleet.ledger().released(&device.holder.serial());
        let request = ReleaseDeviceRequest { id: device.id.clone(), keep_serial };
        let receipt = self.admin.client().release_device(request).await?;
        self.fleet.ledger().told(receipt.get_ref());
        Ok(())
    }

    /// Somebody has copied the device's key, and uses it after the device has renewed: both end on hold. An operator
    /// releases the honest one.
    async fn stolen(&self, device: &mut Device) -> Result<(), Status> {
        self.renew(device).await?;
        let thief = device.holder.clone();
        self.renew(device).await?;
        let caught = thief.renew(self.server, &SubjectKey::generate()).await.expect_err("a second holder");
        if is_cut(&caught) {
            return Err(caught);
        }
        assert_eq!(Refusal::of(&caught).reason, "LINEAGE_FORK", "{}", device.id);
        let keep_serial = device.holder.serial();
        self.release(device, keep_serial).await?;
        count(&self.fleet.counts.forks);
        self.renew(device).await
    }
}
