//! Secrets that never print, and the key that wraps them at rest.
//!
//! A password lives in a [`SecretString`]: no `Display`, no `Serialize`, a `Debug` that shows nothing, memory wiped on
//! drop. Where one has to survive a crash (a user's password between the request and its execution) it is written as
//! [`Sealed`]: AES-256-GCM under the [`MasterKey`], bound to what it belongs to, so that it cannot be moved.

use std::{fmt, fs, io, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use base64::{Engine, prelude::BASE64_STANDARD};
pub use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const PASSWORD_ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A new password of `length` letters and digits from the operating system's random source.
///
/// Twenty-two characters carry 130 bits.
pub fn generate_password(length: usize) -> Result<SecretString> {
    let mut password = Zeroizing::new(String::with_capacity(length));
    let mut byte = [0u8; 1];
    while password.len() < length {
        fill_random(&mut byte)?;
        // 248 = 4 * 62: above it a remainder would favour some letters.
        if byte[0] < 248 {
            password.push(char::from(PASSWORD_ALPHABET[usize::from(byte[0]) % PASSWORD_ALPHABET.len()]));
        }
    }
    Ok(SecretString::from(password.as_str()))
}

/// A secret encrypted for storage. Its text form is safe to write anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

/// The 256-bit key under which secrets are stored. Losing it makes every [`Sealed`] value unreadable.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

impl MasterKey {
    /// A new random key, for tests and for stores that do not outlive the process.
    pub fn generate() -> Result<Self> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        fill_random(key.as_mut_slice())?;
        Ok(Self(key))
    }

    /// Decodes a key from base64, as it may come from an environment variable or a secret manager.
    pub fn from_base64(text: &str) -> Result<Self> {
        let bytes = Zeroizing::new(
            BASE64_STANDARD.decode(text.trim()).map_err(|_| Error::invalid("the master key is not base64"))?,
        );
        let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice())
            .map_err(|_| Error::invalid("the master key is not 32 bytes long"))?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// Reads the key from a file of base64; makes the file with a new key and mode 0600 where there is none.
    ///
    /// Blocks on the file system; call it before the service starts.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |what: &str, error: io::Error| {
            Error::internal(format!("cannot {what} the master key file {}", path.display())).because(error)
        };
        match fs::read_to_string(path).map(Zeroizing::new) {
            Ok(text) => return Self::from_base64(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read", error)),
        }
        let key = Self::generate()?;
        let text = Zeroizing::new(BASE64_STANDARD.encode(key.0.as_slice()));
        // Written aside and linked into place, so that a crash leaves a whole key or none and a race leaves one winner.
        let draft = path.with_extension(format!("new{}", std::process::id()));
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(|error| failed("write", error))?;
        let linked = fs::hard_link(&draft, path);
        fs::remove_file(&draft).map_err(|error| failed("tidy", error))?;
        match linked {
            Ok(()) => sync_parent(path).map(|()| key).map_err(|error| failed("sync", error)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::from_file(path),
            Err(error) => Err(failed("create", error)),
        }
    }

    /// Encrypts a secret; `owner` names what it belongs to and is needed to open it.
    pub fn seal(&self, owner: &str, secret: &SecretString) -> Result<Sealed> {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce)?;
        let sealed = self
            .cipher()
            .encrypt(&Nonce::from(nonce), Payload { msg: secret.expose_secret().as_bytes(), aad: owner.as_bytes() })
            .map_err(|_| Error::internal("a secret could not be sealed"))?;
        Ok(Sealed(BASE64_STANDARD.encode([nonce.as_slice(), &sealed].concat())))
    }

    /// Decrypts what [`seal`](Self::seal) made for the same owner; [`Corrupt`](crate::error::Kind::Corrupt) otherwise.
    pub fn open(&self, owner: &str, sealed: &Sealed) -> Result<SecretString> {
        let corrupt = || Error::corrupt("a stored secret does not open: another master key, or it was changed");
        let bytes = BASE64_STANDARD.decode(&sealed.0).map_err(|_| corrupt())?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(corrupt)?;
        let clear = self
            .cipher()
            .decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: owner.as_bytes() })
            .map(Zeroizing::new)
            .map_err(|_| corrupt())?;
        std::str::from_utf8(&clear).map(SecretString::from).map_err(|_| corrupt())
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new((&*self.0).into())
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey([redacted])")
    }
}

/// Makes a new name in a directory outlive a power cut.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent)?.sync_all()
}

/// Bytes from the operating system's random source.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| Error::internal("the operating system gave no random bytes").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_only_for_its_owner_and_key_and_unchanged() {
        let key = MasterKey::generate().unwrap();
        let sealed = key.seal("orders/app", &SecretString::from("hunter2")).unwrap();
        assert_eq!(key.open("orders/app", &sealed).unwrap().expose_secret(), "hunter2");
        assert!(key.open("billing/app", &sealed).is_err());
        assert!(MasterKey::generate().unwrap().open("orders/app", &sealed).is_err());
        for at in 0..sealed.0.len() {
            let mut bytes = sealed.0.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = Sealed(String::from_utf8(bytes).unwrap());
            assert!(key.open("orders/app", &changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_key_file_is_private_and_read_back() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let sealed = MasterKey::from_file(&path).unwrap().seal("x", &SecretString::from("s")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(MasterKey::from_file(&path).unwrap().open("x", &sealed).unwrap().expose_secret(), "s");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
