//! Computes the `caching_sha2_password` verifier, so that the password itself never reaches the
//! server. The algorithm is SHA-256 crypt with a longer salt.

use sha2::{Digest, Sha256};
use trove_core::error::{Error, Result};

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SALT_BYTES: usize = 20;
const ROUNDS: usize = 5000;

/// The prefix of the salt: the algorithm, and the rounds in thousands.
const PREFIX: &str = "$A$005$";

/// Returns a verifier with a new salt.
pub(super) fn verifier(password: &str) -> Result<String> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt)
        .map_err(|error| Error::internal("could not get random bytes from the system").with_source(error))?;
    let salt = salt.map(|byte| ALPHABET[usize::from(byte & 63)]);
    Ok(format!("{PREFIX}{}{}", String::from_utf8_lossy(&salt), digest(password.as_bytes(), &salt, ROUNDS)))
}

fn digest(password: &[u8], salt: &[u8], rounds: usize) -> String {
    let other = Sha256::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut first =
        Sha256::new().chain_update(password).chain_update(salt).chain_update(repeated(&other, password.len()));
    let mut length = password.len();
    while length > 0 {
        first.update(if length & 1 == 1 { &other[..] } else { password });
        length >>= 1;
    }
    let mut last = first.finalize();

    let of_password = (0..password.len()).fold(Sha256::new(), |sum, _| sum.chain_update(password)).finalize();
    let of_password = repeated(&of_password, password.len());
    let times = 16 + usize::from(last[0]);
    let of_salt = (0..times).fold(Sha256::new(), |sum, _| sum.chain_update(salt)).finalize();
    let of_salt = repeated(&of_salt, salt.len());

    for round in 0..rounds {
        let odd = round & 1 == 1;
        let mut sum = Sha256::new();
        sum.update(if odd { &of_password[..] } else { &last[..] });
        if round % 3 != 0 {
            sum.update(&of_salt);
        }
        if round % 7 != 0 {
            sum.update(&of_password);
        }
        sum.update(if odd { &last[..] } else { &of_password[..] });
        last = sum.finalize();
    }
    encode(&last)
}

/// Repeats bytes up to this length.
fn repeated(bytes: &[u8], length: usize) -> Vec<u8> {
    bytes.iter().copied().cycle().take(length).collect()
}

/// Encodes three bytes in four characters, in the order of SHA-256 crypt: each next group is
/// rotated by one.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(43);
    let mut push = |high: u8, middle: u8, low: u8, letters: usize| {
        let mut number = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        for _ in 0..letters {
            text.push(char::from(ALPHABET[number & 63]));
            number >>= 6;
        }
    };
    let (mut a, mut b, mut c) = (0, 10, 20);
    for _ in 0..10 {
        push(bytes[a], bytes[b], bytes[c], 4);
        (a, b, c) = (c + 1, a + 1, b + 1);
    }
    push(0, bytes[31], bytes[30], 3);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_match_published_test_vectors() {
        // As `openssl passwd -5` computes them.
        let long = "a very much longer text to encrypt.  This one even stretches over morethan one line.";
        for (password, salt, rounds, expected) in [
            ("Hello world!", "saltstring", 5000, "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
            ("Hello world!", "saltstringsaltst", 10000, "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
            ("This is just a test", "toolongsaltstrin", 5000, "Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5"),
            (long, "anotherlongsalts", 1400, "Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1"),
        ] {
            assert_eq!(digest(password.as_bytes(), salt.as_bytes(), rounds), expected);
        }
    }

    #[test]
    fn verifiers_have_random_salts() {
        let (one, two) = (verifier("x").unwrap(), verifier("x").unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), PREFIX.len() + SALT_BYTES + 43);
    }
}
