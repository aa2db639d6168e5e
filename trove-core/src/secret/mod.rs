//! Secrets that never print, and the master keys that encrypt them at rest.
//!
//! A password is held in a [`SecretString`], which implements neither `Display` nor `Serialize`,
//! redacts its `Debug` output and wipes its memory on drop. A secret that has to survive a crash (a
//! user's password until its request is executed, a guest's key as long as its instance exists) is
//! stored as [`Sealed`]: encrypted by AES-256-GCM under a [`MasterKey`], with its owner as
//! associated data, so that it cannot be moved to another owner.
//!
//! # Master keys
//!
//! A [`KeyProvider`] returns the current key and the former ones: a [`KeyFile`], a [`KeyVariable`],
//! [`MasterKeys`] that the program already has, or an implementation of the embedder. A sealed
//! value names its key by [`KeyId`], which reveals nothing about the key.
//!
//! To rotate the master key:
//!
//! 1. Insert a new key in front of the others: `head -c 32 /dev/urandom | base64`.
//! 2. Restart the service. It first rewraps all values that a former key sealed. If it is killed
//!    meanwhile, the next start continues.
//! 3. Remove the former keys. If a key is missing that is still needed, the service does not start,
//!    and the error names the key.
//!
//! After a rotation, a former key opens nothing in the store. It still opens an older copy of the
//! store, and deleted rows that the file system has not overwritten, so rotate the secrets
//! themselves as well if a key has leaked.

mod file;
mod key;
mod keys;
mod provider;
mod variable;

pub use file::KeyFile;
pub use key::{KeyId, MasterKey};
pub use keys::{MasterKeys, Sealed};
pub use provider::KeyProvider;
pub use secrecy::{ExposeSecret, SecretString};
pub use variable::KeyVariable;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

const PASSWORD_ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Generates a password of `length` letters and digits from the random source of the operating
/// system.
///
/// Twenty-two characters have 130 bits of entropy.
///
/// ```
/// use trove_core::secret::{ExposeSecret, generate_password};
///
/// assert_eq!(generate_password(22)?.expose_secret().len(), 22);
/// # Ok::<_, trove_core::error::Error>(())
/// ```
pub fn generate_password(length: usize) -> Result<SecretString> {
    let mut password = Zeroizing::new(String::with_capacity(length));
    let mut byte = [0u8; 1];
    while password.len() < length {
        fill_random(&mut byte)?;
        // 248 = 4 * 62: larger bytes would bias the remainder.
        if byte[0] < 248 {
            password.push(char::from(PASSWORD_ALPHABET[usize::from(byte[0]) % PASSWORD_ALPHABET.len()]));
        }
    }
    Ok(SecretString::from(password.as_str()))
}

/// Fills the buffer from the random source of the operating system.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| Error::internal("could not read random bytes from the operating system").with_source(error))
}
