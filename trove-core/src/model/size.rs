use std::fmt;

use serde::{Deserialize, Serialize};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A number of bytes. Formatted in the largest binary unit that is exact.
///
/// ```
/// use trove_core::model::{ByteSize, gib};
///
/// assert_eq!(gib(5).to_string(), "5 GiB");
/// assert_eq!(ByteSize::bytes(1025).to_string(), "1025 B");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(u64);

impl ByteSize {
    /// Creates a size from a number of bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// Returns the number of whole mebibytes.
    pub const fn as_mib(self) -> u64 {
        self.0 / MIB
    }
}

/// Returns a size in mebibytes (2^20 bytes), saturating on overflow.
pub const fn mib(count: u64) -> ByteSize {
    ByteSize(count.saturating_mul(MIB))
}

/// Returns a size in gibibytes (2^30 bytes), saturating on overflow.
pub const fn gib(count: u64) -> ByteSize {
    ByteSize(count.saturating_mul(GIB))
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{} {name}", self.0 / unit);
            }
        }
        write!(f, "{} B", self.0)
    }
}
