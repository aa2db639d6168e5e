use std::env;

/// The extent of a test run.
///
/// ```
/// use trove_core::conformance::{Selection, Tier};
///
/// let selection = match Tier::from_env() {
///     Tier::Quick => Selection::Specific,
///     Tier::Full => Selection::All,
/// };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The tests that every change must pass before it is merged. Takes minutes.
    Quick,
    /// All tests. Takes an hour.
    Full,
}

impl Tier {
    /// The environment variable that selects the full tier if its value is `1`.
    pub const VARIABLE: &str = "TROVE_TEST_FULL";

    /// Returns the tier that the environment selects.
    pub fn from_env() -> Self {
        match env::var(Self::VARIABLE) {
            Ok(value) if value == "1" => Self::Full,
            Ok(_) | Err(_) => Self::Quick,
        }
    }
}
