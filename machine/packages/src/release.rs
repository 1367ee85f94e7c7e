//! The signed release file `InRelease`: an OpenPGP cleartext-signed deb822 text (RFC 9580 §7) that lists the hashes of
//! every index of a suite.
//!
//! Invariant: fields are read from the very text that the signature covers, never from what stands around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey};
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag, Timestamp};

use crate::error::{Error, Result};

/// Where Debian-like hosts keep the archive's public keys.
const KEYRINGS: [&str; 4] = [
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/etc/apt/trusted.gpg.d/debian-archive-keyring.gpg",
    "/usr/local/share/keyrings/debian-archive-keyring.gpg",
];

/// Public keys that a release file may be signed by.
#[derive(Debug)]
pub(crate) struct Keyring {
    path: PathBuf,
    keys: Vec<SignedPublicKey>,
}

impl Keyring {
    /// Reads the file given, else the host's keyring of the Debian archive.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let path = match path {
            Some(path) => path.to_path_buf(),
            None => KEYRINGS
                .iter()
                .map(PathBuf::from)
                .find(|path| path.is_file())
                .ok_or_else(|| Error::NoKeyring { searched: KEYRINGS.join(", ") })?,
        };
        let bytes = fs::read(&path).map_err(Error::io(&path, "read"))?;
        let refused = |reason: String| Error::Keyring { path: path.clone(), reason };
        let keys: Vec<SignedPublicKey> = if bytes.starts_with(b"-----") {
            let (keys, _) = SignedPublicKey::from_armor_many(&bytes[..]).map_err(|e| refused(e.to_string()))?;
            keys.filter_map(|key| key.ok()).collect()
        } else {
            let keys = SignedPublicKey::from_bytes_many(&bytes[..]).map_err(|e| refused(e.to_string()))?;
            // A key of a kind that the library does not know must not hide the others.
            keys.filter_map(|key| key.ok()).collect()
        };
        if keys.is_empty() {
            return Err(refused("it holds no public key".into()));
        }
        Ok(Keyring { path, keys })
    }

    /// Checks the signatures of a cleartext-signed message and returns the text that at least one of them covers.
    fn verify(&self, message: &str, origin: &str, now: SystemTime) -> Result<String> {
        let refused =
            |reason: String| Error::Signature { origin: origin.to_owned(), keyring: self.path.clone(), reason };
        let (message, _) = CleartextSignedMessage::from_string(message).map_err(|e| refused(e.to_string()))?;
        let text = message.signed_text();
        let mut reasons = Vec::new();
        for signature in message.signatures() {
            match self.verify_one(signature, &text, now) {
                Ok(()) => return Ok(text),
                Err(reason) => reasons.push(reason),
            }
        }
        reasons.dedup();
        Err(refused(if reasons.is_empty() { "it is not signed".into() } else { reasons.join("; ") }))
    }

    fn verify_one(&self, signature: &Signature, text: &str, now: SystemTime) -> Result<(), String> {
        if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
            return Err("the signature is not one over a document".into());
        }
        let created = signature.created().ok_or("the signature has no date")?;
        let now = unix_seconds(now);
        if let Some(life) = signature.signature_expiration_time().filter(|life| life.as_secs() != 0)
            && u64::from(created.as_secs()) + u64::from(life.as_secs()) < now
        {
            return Err("the signature has expired".into());
        }
        let mut reason = "signed by a key that is not in the keyring".to_owned();
        for key in &self.keys {
            let signed_by_primary = signature.verify(&key.primary_key, text.as_bytes());
            let signer = if signed_by_primary.is_ok() {
                Some(key.primary_key.legacy_key_id())
            } else {
                key.public_subkeys
                    .iter()
                    .find(|subkey| {
                        subkey.signatures.iter().all(|s| s.typ() == Some(SignatureType::SubkeyBinding))
                            && subkey.signatures.iter().any(|s| s.key_flags().sign())
                            && subkey.verify_bindings(&key.primary_key).is_ok()
                            && signature.verify(&subkey.key, text.as_bytes()).is_ok()
                    })
                    .map(|subkey| subkey.key.legacy_key_id())
            };
            let Some(signer) = signer else {
                let ids = signature.issuer_key_id();
                let ours = |id| {
                    key.primary_key.legacy_key_id() == id
                        || key.public_subkeys.iter().any(|s| s.key.legacy_key_id() == id)
                };
                if ids.iter().any(|&id| ours(*id)) {
                    reason = "the signature does not fit the text".into();
                }
                continue;
            };
            match usable(key, now) {
                Ok(()) => return Ok(()),
                Err(cause) => reason = format!("key {signer} {cause}"),
            }
        }
        Err(reason)
    }
}

/// Whether a certificate's own signatures let it sign now: bound to a user, not revoked, not expired.
fn usable(key: &SignedPublicKey, now: u64) -> Result<(), String> {
    let revoked = |signature: &&Signature| signature.verify_key(&key.primary_key).is_ok();
    if key.details.revocation_signatures.iter().any(|signature| revoked(&signature)) {
        return Err("has been revoked".into());
    }
    let by_users = key.details.users.iter().flat_map(|user| {
        let good = |s: &&Signature| s.verify_certification(&key.primary_key, Tag::UserId, &user.id).is_ok();
        user.signatures.iter().filter(good)
    });
    let direct = key.details.direct_signatures.iter().filter(|s| s.verify_key(&key.primary_key).is_ok());
    let newest = by_users
        .chain(direct)
        .max_by_key(|signature| signature.created().map(Timestamp::as_secs))
        .ok_or("has no valid self-signature")?;
    let created = u64::from(key.primary_key.created_at().as_secs());
    match newest.key_expiration_time().map(|life| u64::from(life.as_secs())).filter(|&life| life != 0) {
        Some(life) if created + life < now => Err("has expired".into()),
        _ => Ok(()),
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A release file whose signature is good.
#[derive(Debug)]
pub(crate) struct Release {
    text: String,
    /// When the archive made it.
    pub(crate) date: SystemTime,
}

/// Size and SHA-256 of an index, as signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Bytes.
    pub(crate) size: u64,
    /// Lower-case hexadecimal.
    pub(crate) sha256: String,
}

impl Release {
    /// Verifies `bytes` (an `InRelease` from `origin`) and checks that it is of the suite wanted and not out of date.
    pub(crate) fn verify(bytes: &[u8], keyring: &Keyring, suite: &str, origin: &str, now: SystemTime) -> Result<Self> {
        let refused = |reason: String| Error::Release { origin: origin.to_owned(), reason };
        let message = std::str::from_utf8(bytes).map_err(|_| refused("it is not a release file: not UTF-8".into()))?;
        let text = keyring.verify(message, origin, now)?;
        let field = |name: &str| field(&text, name);
        if !["Suite", "Codename"].iter().any(|name| field(name) == Some(suite)) {
            return Err(refused(format!(
                "it is of suite {} ({}), not {suite}: pass the suite that the mirror carries",
                field("Suite").unwrap_or("?"),
                field("Codename").unwrap_or("?")
            )));
        }
        let date = field("Date").and_then(parse_date).ok_or_else(|| refused("it has no valid Date field".into()))?;
        if let Some(until) = field("Valid-Until") {
            let until = parse_date(until).ok_or_else(|| refused("its Valid-Until field is no date".into()))?;
            if until < now {
                return Err(refused(format!(
                    "it is out of date since {}: use another mirror (--mirror URL), or set the clock",
                    httpdate::fmt_http_date(until)
                )));
            }
        }
        // A clock that is slightly behind is common; one that is a day behind checks no date at all.
        if date > now + Duration::from_secs(24 * 3600) {
            return Err(refused(format!(
                "it is dated {}, in the future: set the clock",
                httpdate::fmt_http_date(date)
            )));
        }
        Ok(Release { date, text })
    }

    /// The SHA-256 entry of a file below `dists/SUITE/`.
    pub(crate) fn entry(&self, file: &str) -> Option<Entry> {
        let mut lines = self.lines().skip_while(|line| line.trim_end() != "SHA256:").skip(1);
        lines.by_ref().take_while(|line| line.starts_with(' ')).find_map(|line| {
            let mut words = line.split_whitespace();
            let (sha256, size, name) = (words.next()?, words.next()?, words.next()?);
            let valid = name == file && sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
            valid.then(|| Some(Entry { size: size.parse().ok()?, sha256: sha256.to_ascii_lowercase() }))?
        })
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// `Sat, 12 Sep 2026 07:55:41 UTC`; the archive always writes UTC.
fn parse_date(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let text = ["UTC", "GMT", "+0000", "Z"].iter().find_map(|zone| text.strip_suffix(zone))?;
    httpdate::parse_http_date(&format!("{} GMT", text.trim_end())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Key, release_text};

    fn now() -> SystemTime {
        SystemTime::now()
    }

    fn verify(message: &str, keyring: &Path) -> Result<Release> {
        Release::verify(message.as_bytes(), &Keyring::open(Some(keyring)).unwrap(), "trixie", "test", now())
    }

    #[test]
    fn good_signature_and_entries() {
        let key = Key::generate();
        let folder = tempfile::tempdir().unwrap();
        let keyring = key.write(folder.path());
        let release =
            verify(&key.sign(&release_text(&[("main/binary-riscv64/Packages.xz", b"abc")], "")), &keyring).unwrap();
        let entry = release.entry("main/binary-riscv64/Packages.xz").unwrap();
        assert_eq!((entry.size, entry.sha256), (3, crate::cache::sha256(b"abc")));
        assert_eq!(release.entry("main/binary-riscv64/Packages"), None);
    }

    #[test]
    fn tampered_text_is_refused() {
        let key = Key::generate();
        let folder = tempfile::tempdir().unwrap();
        let keyring = key.write(folder.path());
        let message = key.sign(&release_text(&[], ""));
        let tampered = message.replace("Codename: trixie", "Codename: trixiE");
        assert_ne!(message, tampered);
        assert!(matches!(verify(&tampered, &keyring), Err(Error::Signature { .. })));
        // Text in front of or behind the signed message is never read, whatever it claims.
        let in_front = format!("Suite: trixie\n\n{message}");
        assert!(matches!(verify(&in_front, &keyring), Err(Error::Signature { .. })));
        assert!(matches!(verify("", &keyring), Err(Error::Signature { .. })));
        assert!(matches!(verify(&release_text(&[], ""), &keyring), Err(Error::Signature { .. })));
        for cut in (0..message.len() - 40).step_by(97) {
            assert!(verify(&message[..cut], &keyring).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn another_key_is_refused() {
        let (key, other) = (Key::generate(), Key::generate());
        let folder = tempfile::tempdir().unwrap();
        let keyring = other.write(folder.path());
        let error = verify(&key.sign(&release_text(&[], "")), &keyring).unwrap_err();
        assert!(error.to_string().contains("not in the keyring"), "{error}");
    }

    #[test]
    fn one_good_key_among_several() {
        let (key, other) = (Key::generate(), Key::generate());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("both.gpg");
        let both =
            [fs::read(other.write(folder.path())).unwrap(), fs::read(key.write(folder.path())).unwrap()].concat();
        fs::write(&path, both).unwrap();
        verify(&key.sign(&release_text(&[], "")), &path).unwrap();
    }

    #[test]
    fn suite_and_dates() {
        let key = Key::generate();
        let folder = tempfile::tempdir().unwrap();
        let keyring = key.write(folder.path());
        let sid = release_text(&[], "").replace("trixie", "sid").replace("stable", "unstable");
        assert!(matches!(verify(&key.sign(&sid), &keyring), Err(Error::Release { .. })));
        let stale = release_text(&[], "Valid-Until: Sat, 12 Sep 2020 07:55:41 UTC\n");
        let error = verify(&key.sign(&stale), &keyring).unwrap_err();
        assert!(error.to_string().contains("out of date"), "{error}");
        let nonsense = release_text(&[], "Valid-Until: tomorrow\n");
        assert!(verify(&key.sign(&nonsense), &keyring).is_err());
        let fresh = release_text(&[], "Valid-Until: Sat, 12 Sep 2099 07:55:41 UTC\n");
        assert!(verify(&key.sign(&fresh), &keyring).is_ok());
    }

    #[test]
    fn keyrings_that_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gpg");
        assert!(matches!(Keyring::open(Some(&path)), Err(Error::Io { .. })));
        for bytes in [&b""[..], b"hello", &[0x99, 0xff, 0xff], b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"] {
            fs::write(&path, bytes).unwrap();
            assert!(matches!(Keyring::open(Some(&path)), Err(Error::Keyring { .. })), "{bytes:?}");
        }
    }

    #[test]
    fn dates_of_the_archive() {
        let seconds = |text| parse_date(text).map(unix_seconds);
        assert_eq!(seconds("Sat, 12 Sep 2026 07:55:41 UTC"), Some(1_789_199_741));
        assert_eq!(seconds("Sat, 12 Sep 2026 07:55:41 +0000"), Some(1_789_199_741));
        assert_eq!(seconds("Sat, 12 Sep 2026 07:55:41 +0200"), None);
    }
}
