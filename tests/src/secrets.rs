//! What must be nowhere but in its own file: collects the secrets of a run, and finds them in whatever form a careless
//! line would print them.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use enroll_client::attester::token::JoinToken;

/// Nothing shorter is searched for: it would be found by chance.
const SHORTEST: usize = 8;

/// Secrets, by name, in every form of each.
#[derive(Debug, Default)]
pub struct Secrets(BTreeMap<String, Vec<Vec<u8>>>);

impl Secrets {
    /// Takes in all that lies in the files below a folder: private keys, encrypted or not, and join tokens. What it has
    /// already, it keeps, though the file may be gone.
    pub fn collect(&mut self, folder: &Path) {
        for path in files(folder) {
            // A file that ends while a program works on it is seen the next time.
            let Ok(content) = fs::read(&path) else { continue };
            let name = path.display().to_string();
            let Ok(text) = std::str::from_utf8(&content) else { continue };
            private_keys(text).iter().for_each(|der| self.add_key(&name, der));
            if let Ok(token) = JoinToken::parse(text) {
                self.add_token(&name, &token);
            }
        }
    }

    /// Takes in a text, such as a passphrase.
    pub fn add_text(&mut self, name: &str, text: &str) {
        self.add(name, text.as_bytes());
        self.0.entry(name.to_owned()).or_default().push(text.into());
    }

    /// Takes in octets that are in no file.
    pub fn add_octets(&mut self, name: &str, octets: &[u8]) {
        self.add(name, octets);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The first one that is in any of these texts or files: the text's name, and the secret's.
    pub fn find<'a>(&'a self, mut texts: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<(&'a str, &'a str)> {
        // All forms at once, by their beginnings: a search for each takes minutes.
        let mut beginnings: HashMap<&[u8], Vec<(&str, &[u8])>> = HashMap::new();
        for (name, form) in self.0.iter().flat_map(|(name, forms)| forms.iter().map(move |form| (name, form))) {
            beginnings.entry(&form[..SHORTEST]).or_default().push((name, form));
        }
        let mut first = vec![false; 1 << 16];
        beginnings.keys().for_each(|form| first[pair(form)] = true);
        texts.find_map(|(what, octets)| {
            let found = octets.windows(SHORTEST).enumerate().filter(|(_, window)| first[pair(window)]);
            let mut found = found.filter_map(|(at, window)| {
                let forms = beginnings.get(window)?;
                forms.iter().find(|(_, form)| octets[at..].starts_with(form)).map(|(name, _)| *name)
            });
            found.next().map(|name| (what, name))
        })
    }

    fn add_token(&mut self, name: &str, token: &JoinToken) {
        let text = token.text();
        let seed = text.split('.').nth(1).expect("a token has a seed");
        let name = format!("{name}: {}", token.id());
        self.add(&name, &URL_SAFE_NO_PAD.decode(seed).expect("a seed is base64url"));
    }

    fn add_key(&mut self, name: &str, der: &[u8]) {
        // The private octets of P-256 and Ed25519; of an encrypted key all that is encrypted.
        let private = der.windows(2).position(|window| window == [4, 32]).map(|at| at + 2..at + 34);
        let private = private.filter(|private| private.end <= der.len()).unwrap_or(der.len() / 2..der.len());
        let name = format!("{name}: {}", hex(&der[private.start..private.start + 4]));
        self.add(&name, &der[private.clone()]);
        // As PEM has it: the lines, 48 octets each, with more than a few of these octets.
        let text = STANDARD.encode(der);
        let lines = text.as_bytes().chunks(64).enumerate().filter(|(line, _)| {
            let (first, last) = (line * 48, line * 48 + 48);
            last.min(private.end).saturating_sub(first.max(private.start)) >= 12
        });
        self.0.entry(name).or_default().extend(lines.map(|(_, line)| line.to_vec()));
    }

    fn add(&mut self, name: &str, octets: &[u8]) {
        let decimal: Vec<_> = octets.iter().map(u8::to_string).collect();
        let escaped = format!("{:?}", String::from_utf8_lossy(octets));
        let forms = [
            hex(octets),
            hex(octets).to_uppercase(),
            decimal.join(", "),
            STANDARD_NO_PAD.encode(octets),
            URL_SAFE_NO_PAD.encode(octets),
            octets.escape_ascii().to_string(),
            escaped.trim_matches('"').to_owned(),
        ];
        let known = self.0.entry(name.to_owned()).or_default();
        let forms = forms.map(String::into_bytes).into_iter().chain([octets.to_vec()]);
        known.extend(forms.filter(|form| form.len() >= SHORTEST));
        known.sort();
        known.dedup();
    }
}

/// The first two octets, as a number.
fn pair(octets: &[u8]) -> usize {
    usize::from(octets[0]) * 256 + usize::from(octets[1])
}

/// Every file below a folder, links aside.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

/// The DER of every private key in a PEM file, encrypted ones too.
fn private_keys(text: &str) -> Vec<Vec<u8>> {
    let parts = text.split("PRIVATE KEY-----").skip(1).step_by(2);
    let bodies =
        parts.map(|body| body.split("-----").next().unwrap_or_default().split_whitespace().collect::<String>());
    bodies.filter_map(|body| STANDARD.decode(body).ok()).collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_key_a_token_and_a_passphrase_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let (key, token) = (rcgen::KeyPair::generate().expect("a key"), JoinToken::generate().expect("a token"));
        fs::write(folder.path().join("key.pem"), key.serialize_pem()).expect("written");
        fs::write(folder.path().join("a.token"), token.text().as_str()).expect("written");
        let mut secrets = Secrets::default();
        secrets.collect(folder.path());
        secrets.add_text("passphrase", "correct horse");
        assert_eq!(secrets.count(), 3);
        let found = |octets: &[u8]| secrets.find([("", octets)].into_iter()).is_some();

        let der = key.serialize_der();
        let at = der.windows(2).position(|window| window == [4, 32]).expect("a private key") + 2;
        let (scalar, text) = (&der[at..at + 32], token.text());
        let seed = URL_SAFE_NO_PAD.decode(text.split('.').nth(1).expect("a seed")).expect("base64url");
        for octets in [scalar, &seed] {
            for form in [
                hex(octets),
                hex(octets).to_uppercase(),
                format!("{octets:?}"),
                STANDARD.encode(octets),
                URL_SAFE_NO_PAD.encode(octets),
                octets.escape_ascii().to_string(),
            ] {
                assert!(found(format!("… key={form} …").as_bytes()), "{form}");
            }
            assert!(found(octets));
        }
        for text in [key.serialize_pem(), text.to_string(), format!("{:?}", *text), "with correct horse.".into()] {
            assert!(found(text.as_bytes()), "{text}");
        }
        assert!(!found(format!("{token:?} {}", token.id()).as_bytes()));
    }
}
