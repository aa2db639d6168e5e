use std::env;

/// How much a test run covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// All that a change needs before it is merged, in minutes.
    Quick,
    /// Everything, which takes an hour.
    Full,
}

impl Tier {
    /// The variable that selects the full tier by the value `1`.
    pub const VARIABLE: &str = "TROVE_TEST_FULL";

    /// Returns the tier that the environment selects.
    pub fn from_env() -> Self {
        match env::var(Self::VARIABLE) {
            Ok(value) if value == "1" => Self::Full,
            Ok(_) | Err(_) => Self::Quick,
        }
    }
}
