use std::fmt;

use serde::{Deserialize, Serialize};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A number of bytes. Shown in the largest binary unit that keeps it exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(u64);

impl ByteSize {
    /// So many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// The number of whole mebibytes.
    pub const fn as_mib(self) -> u64 {
        self.0 / MIB
    }
}

/// So many mebibytes (2^20 bytes); the largest size where that overflows.
pub const fn mib(count: u64) -> ByteSize {
    ByteSize(count.saturating_mul(MIB))
}

/// So many gibibytes (2^30 bytes); the largest size where that overflows.
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
