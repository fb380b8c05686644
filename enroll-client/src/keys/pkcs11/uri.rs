//! `pkcs11:` URIs (RFC 7512): which key in which token, behind which module, and where its PIN is.

use std::{path::PathBuf, str::FromStr};

use super::Pkcs11Error;

/// Which key. Everything that it says must hold; what it leaves out may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uri {
    /// The module's file (`module-path`).
    pub module: PathBuf,
    /// The file of the PIN (`pin-source`); without one nobody logs in.
    pub pin: Option<PathBuf>,
    /// The token's label (`token`).
    pub token: Option<String>,
    /// Who made the token (`manufacturer`).
    pub manufacturer: Option<String>,
    /// What token it is (`model`).
    pub model: Option<String>,
    /// The token's serial number (`serial`).
    pub serial: Option<String>,
    /// The key's label (`object`).
    pub object: Option<String>,
    /// The key's CKA_ID (`id`).
    pub id: Option<Vec<u8>>,
}

/// What every such URI begins with.
const SCHEME: &str = "pkcs11:";

impl Uri {
    /// Whether this was meant as one, and not as a file.
    pub fn is_meant(text: &str) -> bool {
        text.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
    }
}

impl FromStr for Uri {
    type Err = Pkcs11Error;

    fn from_str(text: &str) -> Result<Self, Pkcs11Error> {
        let refused = Pkcs11Error::Uri;
        if !Uri::is_meant(text) {
            return Err(refused("it begins with pkcs11:"));
        }
        let (path, query) = text[SCHEME.len()..].split_once('?').unwrap_or((&text[SCHEME.len()..], ""));
        let (mut uri, mut private) = (Uri::default(), None);
        for (name, value) in attributes(path, ';')? {
            match name {
                "token" => once(&mut uri.token, utf8(value)?)?,
                "manufacturer" => once(&mut uri.manufacturer, utf8(value)?)?,
                "model" => once(&mut uri.model, utf8(value)?)?,
                "serial" => once(&mut uri.serial, utf8(value)?)?,
                "object" => once(&mut uri.object, utf8(value)?)?,
                "id" => once(&mut uri.id, value)?,
                "type" if value == b"private" => once(&mut private, value)?,
                "type" => return Err(refused("type is private, or left out")),
                _ => {
                    return Err(refused("before the ? there are token, serial, manufacturer, model, object, id, type"));
                }
            }
        }
        let mut module = None;
        for (name, value) in attributes(query, '&')? {
            match name {
                "module-path" => once(&mut module, file(value)?)?,
                "pin-source" => once(&mut uri.pin, file(value)?)?,
                "pin-value" => {
                    return Err(refused(
                        "a PIN is never an argument, which everybody on this machine sees: pin-source names its file",
                    ));
                }
                _ => return Err(refused("after the ? there are module-path and pin-source")),
            }
        }
        uri.module = module.ok_or(refused("module-path, which names the token's module, is missing"))?;
        if uri.object.is_none() && uri.id.is_none() {
            return Err(refused("object or id, which names the key, is missing"));
        }
        Ok(uri)
    }
}

/// `NAME=VALUE` between separators, with the percent signs of the values resolved.
fn attributes(text: &str, separator: char) -> Result<Vec<(&str, Vec<u8>)>, Pkcs11Error> {
    let read = |part| {
        let (name, value) = str::split_once(part, '=')?;
        Some((name, percent_decoded(value)?))
    };
    let parts = text.split(separator).filter(|part| !part.is_empty());
    let read: Option<Vec<_>> = parts.map(read).collect();
    read.ok_or(Pkcs11Error::Uri("it is made of NAME=VALUE, where % stands before two hexadecimal digits"))
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        octets.push(match (first, rest) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                let digit = |digit: u8| char::from(digit).to_digit(16);
                (digit(*high)? * 16 + digit(*low)?) as u8
            }
            (b'%', _) => return None,
            (octet, _) => *octet,
        });
    }
    Some(octets)
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Pkcs11Error> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Pkcs11Error::Uri("it says something twice")),
    }
}

fn utf8(value: Vec<u8>) -> Result<String, Pkcs11Error> {
    String::from_utf8(value).map_err(|_| Pkcs11Error::Uri("names are in UTF-8"))
}

/// A file: by its absolute path, or as `file:` URI of one. A name without a path would be looked for all over the system.
fn file(value: Vec<u8>) -> Result<PathBuf, Pkcs11Error> {
    let text = utf8(value)?;
    let path = text.strip_prefix("file:").map_or(&*text, |path| path.strip_prefix("//").unwrap_or(path));
    let refused = Pkcs11Error::Uri("module-path and pin-source are absolute paths");
    if path.starts_with('/') && !path.contains('\0') { Ok(path.into()) } else { Err(refused) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_which_key_in_which_token() {
        let uri: Uri = "pkcs11:token=Board%20key;serial=12;object=idevid;id=%01%ff;type=private\
                        ?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:///etc/board.pin"
            .parse()
            .unwrap();
        let expected = Uri {
            module: "/usr/lib/softhsm/libsofthsm2.so".into(),
            pin: Some("/etc/board.pin".into()),
            token: Some("Board key".into()),
            serial: Some("12".into()),
            object: Some("idevid".into()),
            id: Some(vec![1, 0xff]),
            ..Uri::default()
        };
        assert_eq!(uri, expected);
        let short: Uri = "PKCS11:id=a?module-path=/m".parse().unwrap();
        assert_eq!((short.id, short.pin), (Some(b"a".to_vec()), None));
    }

    #[test]
    fn what_is_no_such_uri_is_refused_and_not_repeated() {
        for (text, says) in [
            ("idevid.key", "begins with"),
            ("pkcs11:", "module-path"),
            ("pkcs11:object=secret", "module-path"),
            ("pkcs11:?module-path=/m", "object or id"),
            ("pkcs11:object=x?module-path=m.so", "absolute paths"),
            ("pkcs11:object=x?module-path=file://secret/m", "absolute paths"),
            ("pkcs11:object=x?module-path=/m&pin-source=|secret", "absolute paths"),
            ("pkcs11:object=x?module-path=/m&pin-value=secret", "never an argument"),
            ("pkcs11:object=x?module-name=secret", "after the ?"),
            ("pkcs11:object=x;slot-id=1?module-path=/m", "before the ?"),
            ("pkcs11:object=x;object=secret?module-path=/m", "twice"),
            ("pkcs11:object=x;type=cert?module-path=/m", "private"),
            ("pkcs11:object=%zz?module-path=/m", "hexadecimal"),
            ("pkcs11:object=%1?module-path=/m", "hexadecimal"),
            ("pkcs11:object=%ff?module-path=/m", "UTF-8"),
            ("pkcs11:secret?module-path=/m", "NAME=VALUE"),
        ] {
            let refused = text.parse::<Uri>().unwrap_err().to_string();
            assert!(refused.contains(says) && !refused.contains("secret"), "{text}: {refused}");
        }
    }
}
