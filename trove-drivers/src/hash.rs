//! Short values derived from hashes.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Returns the first twelve hexadecimal digits of the SHA-256 of these bytes: the same on every
/// machine and in every version.
pub(crate) fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(6).fold(String::with_capacity(12), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns a number below `limit` that is derived from these bytes and never changes.
pub(crate) fn spread(bytes: &[u8], limit: u32) -> u32 {
    let digest = Sha256::digest(bytes);
    let number = digest.iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    u32::try_from(number % u64::from(limit.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_stable() {
        assert_eq!(short_hash(b"abc"), "ba7816bf8f01");
        assert_eq!(spread(b"abc", 100_000_000), (0xba78_16bf_8f01_cfea_u64 % 100_000_000) as u32);
        assert_eq!(spread(b"abc", 1), 0);
    }
}
