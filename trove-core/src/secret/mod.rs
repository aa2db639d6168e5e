//! Secrets that never print, and the keys that wrap them at rest.
//!
//! A password lives in a [`SecretString`]: no `Display`, no `Serialize`, a `Debug` that shows nothing, memory wiped on
//! drop. Where one has to survive a crash (a user's password between the request and its execution, a guest's key for
//! as long as its instance lives) it is written as [`Sealed`]: AES-256-GCM under a [`MasterKey`], bound to what it
//! belongs to, so that it cannot be moved.
//!
//! # Master keys
//!
//! They come from a [`KeyProvider`]: a [`KeyFile`], a [`KeyVariable`], [`MasterKeys`] that the program has already, or
//! whatever an embedder writes one for. It gives the current key and the former ones; what is sealed says
//! by which, as a [`KeyId`] that tells nothing about the key.
//!
//! To change the master key:
//!
//! 1. Put a new key in front of the others: `head -c 32 /dev/urandom | base64`.
//! 2. Start the service anew. Before it does anything else it seals with the current key whatever is sealed by a former
//!    one. Killed meanwhile, the next start goes on.
//! 3. Remove the former keys. A start that lacks one that is still needed is refused, and names it.
//!
//! This keeps a former key from opening what the store holds from then on. Who has that key and an older copy of the
//! store, or what its file system keeps of deleted rows, knows the secrets in it all the same, until they are changed
//! themselves.

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

/// Bytes from the operating system's random source.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| Error::internal("the operating system gave no random bytes").because(error))
}
