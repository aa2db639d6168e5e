use super::{Accounts, Configuration, Resize, Upgrade};

/// The optional abilities of a datastore, each `None` where the engine lacks it.
///
/// Code that has to handle every ability destructures this without `..`, so that it does not
/// compile when an ability is added.
#[derive(Clone, Copy, Default)]
pub struct Abilities<'a> {
    /// Databases, users, privileges and the tenant's root user.
    pub accounts: Option<&'a dyn Accounts>,
    /// Server parameters and their settings.
    pub configuration: Option<&'a dyn Configuration>,
    /// Upgrades to another release on the same data.
    pub upgrade: Option<&'a dyn Upgrade>,
    /// Changes of the memory and processor limits.
    pub resize: Option<&'a dyn Resize>,
}

/// Which optional abilities there are: of a driver by its [manifest](super::Manifest::abilities),
/// or of a datastore by its [`Abilities`]. The two have to be equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AbilitySet {
    /// True with [`Accounts`].
    pub accounts: bool,
    /// True with [`Configuration`].
    pub configuration: bool,
    /// True with [`Upgrade`].
    pub upgrade: bool,
    /// True with [`Resize`].
    pub resize: bool,
}

impl Abilities<'_> {
    /// Returns which abilities are present.
    pub fn set(&self) -> AbilitySet {
        let Self { accounts, configuration, upgrade, resize } = self;
        AbilitySet {
            accounts: accounts.is_some(),
            configuration: configuration.is_some(),
            upgrade: upgrade.is_some(),
            resize: resize.is_some(),
        }
    }
}
