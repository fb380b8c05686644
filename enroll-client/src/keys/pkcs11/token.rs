//! A token, open and logged in to, by way of cryptoki and the module of the token's maker.

use std::{
    fs::File,
    io::Read,
    path::Path,
    sync::{Mutex, PoisonError},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::{Slot, TokenInfo},
    types::RawAuthPin,
};
use zeroize::Zeroizing;

use super::{Kind, Pkcs11Error, Uri};

/// Longer than any PIN.
const LONGEST_PIN: u64 = 1024;

/// A session that has found its key.
pub(super) struct Token {
    // One at a time may use a session.
    session: Mutex<Session>,
    key: ObjectHandle,
}

impl Token {
    /// Finds token and key. The PIN is tried at most once, and not where the next wrong one would lock the token.
    pub(super) fn open(uri: &Uri, kind: Kind) -> Result<Self, Pkcs11Error> {
        let pin = uri.pin.as_deref().map(read_pin).transpose()?;
        let module = load(&uri.module)?;
        let (slot, info) = find_token(&module, uri)?;
        let session = module.open_ro_session(slot).map_err(refused)?;
        if let Some(pin) = &pin {
            log_in(&session, &info, pin)?;
        }
        let key = find_key(&session, uri, pin.is_some())?;
        check(&session, key, kind)?;
        Ok(Self { session: Mutex::new(session), key })
    }

    /// The two numbers of an ECDSA signature over a digest, one after the other.
    pub(super) fn ecdsa(&self, digest: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        self.sign(&Mechanism::Ecdsa, digest)
    }

    /// RSA PKCS#1 v1.5 with SHA-256.
    pub(super) fn rsa_pkcs1_sha256(&self, message: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        self.sign(&Mechanism::Sha256RsaPkcs, message)
    }

    fn sign(&self, mechanism: &Mechanism<'_>, data: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.sign(mechanism, self.key, data).map_err(refused)
    }
}

fn load(path: &Path) -> Result<Pkcs11, Pkcs11Error> {
    let unusable = |error: Error| {
        let why = match error {
            Error::LibraryLoading(error) => error.to_string(),
            Error::MissingSymbol(_) => "it is no PKCS#11 module".to_owned(),
            error => text(&error),
        };
        Pkcs11Error::Module { module: path.to_owned(), why }
    };
    let module = Pkcs11::new(path).map_err(unusable)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        Err(error) => Err(unusable(error)),
    }
}

fn find_token(module: &Pkcs11, uri: &Uri) -> Result<(Slot, TokenInfo), Pkcs11Error> {
    let mut found = Vec::new();
    for slot in module.get_slots_with_initialized_token().map_err(refused)? {
        let info = module.get_token_info(slot).map_err(refused)?;
        let fits = [
            (&uri.token, info.label()),
            (&uri.manufacturer, info.manufacturer_id()),
            (&uri.model, info.model()),
            (&uri.serial, info.serial_number()),
        ];
        if fits.iter().all(|(wanted, there)| wanted.as_ref().is_none_or(|wanted| wanted == there)) {
            found.push((slot, info));
        }
    }
    let count = found.len();
    found.pop().filter(|_| count == 1).ok_or(Pkcs11Error::Tokens(count))
}

fn log_in(session: &Session, token: &TokenInfo, pin: &[u8]) -> Result<(), Pkcs11Error> {
    if token.user_pin_locked() {
        return Err(Pkcs11Error::Locked);
    }
    if token.user_pin_final_try() {
        return Err(Pkcs11Error::LastTry);
    }
    match session.login_with_raw(UserType::User, &RawAuthPin::new(Box::new(pin.to_vec()))) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid, _)) => {
            Err(Pkcs11Error::WrongPin)
        }
        Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(Pkcs11Error::Locked),
        Err(error) => Err(refused(error)),
    }
}

fn find_key(session: &Session, uri: &Uri, logged_in: bool) -> Result<ObjectHandle, Pkcs11Error> {
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
    template.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
    template.extend(uri.id.as_ref().map(|id| Attribute::Id(id.clone())));
    let found = session.find_objects(&template).map_err(refused)?;
    let [key] = found[..] else { return Err(Pkcs11Error::Keys { found: found.len(), logged_in }) };
    Ok(key)
}

/// Modules answer in their own ways to what they can't do with a key: so it is not tried.
fn check(session: &Session, key: ObjectHandle, kind: Kind) -> Result<(), Pkcs11Error> {
    let wanted = if kind == Kind::Rsa { KeyType::RSA } else { KeyType::EC };
    let asked = [AttributeType::KeyType, AttributeType::AlwaysAuthenticate];
    for attribute in session.get_attributes(key, &asked).map_err(refused)? {
        match attribute {
            Attribute::KeyType(there) if there != wanted => return Err(Pkcs11Error::OtherKey),
            Attribute::AlwaysAuthenticate(true) => return Err(Pkcs11Error::PinEachTime),
            _ => {}
        }
    }
    Ok(())
}

/// The file's text, without the end of its line.
fn read_pin(path: &Path) -> Result<Zeroizing<Vec<u8>>, Pkcs11Error> {
    let unreadable = |source| Pkcs11Error::PinFile { file: path.to_owned(), source };
    let mut pin = Zeroizing::new(Vec::with_capacity(LONGEST_PIN as usize));
    let file = File::open(path).map_err(unreadable)?;
    file.take(LONGEST_PIN).read_to_end(&mut pin).map_err(unreadable)?;
    let length = pin.iter().position(|octet| b"\r\n".contains(octet)).unwrap_or(pin.len());
    pin.truncate(length);
    if pin.is_empty() {
        return Err(unreadable(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "it has no PIN in its first line",
        )));
    }
    Ok(pin)
}

fn refused(error: Error) -> Pkcs11Error {
    Pkcs11Error::Refused(text(&error))
}

/// The name of the answer, without the page of the standard that the library would add.
fn text(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, function) => format!("{function:?} answers {code:?}"),
        error => error.to_string(),
    }
}
