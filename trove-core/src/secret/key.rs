use std::{fmt, str::FromStr};

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{ExposeSecret, SecretString, fill_random};
use crate::error::{Error, Result};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// A 256-bit key that encrypts stored secrets. Without it they cannot be recovered.
#[derive(Clone)]
pub struct MasterKey {
    id: KeyId,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// Identifies a master key. Derived from the key by HKDF-SHA256, so that it reveals nothing about
/// the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(u64);

impl MasterKey {
    /// Generates a key from the random source of the operating system.
    pub fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        fill_random(bytes.as_mut_slice())?;
        Self::new(bytes)
    }

    /// Decodes a key from base64.
    pub fn from_base64(text: &str) -> Result<Self> {
        let bytes = Zeroizing::new(
            BASE64_STANDARD.decode(text.trim()).map_err(|_| Error::invalid("the master key is not base64"))?,
        );
        let bytes = <[u8; KEY_BYTES]>::try_from(bytes.as_slice())
            .map_err(|_| Error::invalid("the master key is not 32 bytes long"))?;
        Self::new(Zeroizing::new(bytes))
    }

    /// Returns the id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Result<Self> {
        let mut id = [0; 8];
        let expanded = Hkdf::<Sha256>::new(None, bytes.as_slice()).expand(b"trove master key id", &mut id);
        expanded.map_err(|_| Error::internal("could not derive the id of a master key"))?;
        Ok(Self { id: KeyId(u64::from_be_bytes(id)), bytes })
    }

    pub(super) fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_STANDARD.encode(self.bytes.as_slice()))
    }

    /// Encrypts a secret; returns nonce and ciphertext in base64.
    pub(super) fn encrypt(&self, owner: &str, secret: &SecretString) -> Result<String> {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce)?;
        let sealed = self
            .cipher()
            .encrypt(&Nonce::from(nonce), Payload { msg: secret.expose_secret().as_bytes(), aad: owner.as_bytes() })
            .map_err(|_| Error::internal("could not seal a secret"))?;
        Ok(BASE64_STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// Decrypts the output of [`encrypt`](Self::encrypt) for the same owner.
    pub(super) fn decrypt(&self, owner: &str, text: &str) -> Option<SecretString> {
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        let clear = Zeroizing::new(self.cipher().decrypt(&Nonce::from(*nonce), payload).ok()?);
        std::str::from_utf8(&clear).map(SecretString::from).ok()
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new((&*self.bytes).into())
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({}, [redacted])", self.id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let id = u64::from_str_radix(text, 16).ok().map(Self);
        // Only the canonical form is valid.
        id.filter(|id| id.to_string() == text).ok_or_else(|| Error::invalid("invalid master key id"))
    }
}
