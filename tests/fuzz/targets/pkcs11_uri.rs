//! `pkcs11:` URIs: what is taken names a module and a key, and no PIN gets into an error.

#![no_main]

use enroll_client::keys::pkcs11::Uri;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for text in [text.to_owned(), format!("pkcs11:{text}"), format!("pkcs11:object=a?module-path=/m&{text}")] {
        match text.parse::<Uri>() {
            Ok(uri) => {
                let query = text.split_once('?').map_or("", |(_, query)| query);
                assert!(Uri::is_meant(&text) && !query.split('&').any(|part| part.starts_with("pin-value=")));
                assert!(uri.module.is_absolute() && uri.pin.is_none_or(|file| file.is_absolute()));
                assert!(uri.object.is_some() || uri.id.is_some());
            }
            Err(refused) => drop(refused.to_string()),
        }
    }
    let secret = format!("pkcs11:object=a?module-path=/m&{text}&pin-value=sEcReT");
    assert!(!secret.parse::<Uri>().expect_err("a PIN is no argument").to_string().contains("sEcReT"));
});
