use std::time::Duration;

use super::{Trove, new_instance::check_label};
use crate::{
    datastore::Manifest,
    error::{Error, Result},
    model::{Catalogue, DatastoreVersion, Flavor},
    secret::SecretString,
    store::StoredVersion,
    taskmanager::login_owner,
    time::after,
};

/// The datastores on offer, and the registry of their versions, which an operator edits while the service runs.
///
/// The registry begins with the versions that the drivers bring. One of those whose image is changed in the program is
/// changed at its next start, until an operator has changed it here.
#[derive(Clone)]
pub struct Datastores {
    trove: Trove,
}

/// A version to add to the registry.
///
/// ```
/// use trove_core::control::NewVersion;
///
/// let hardened = NewVersion::new("postgresql", "17-hardened", "17", "registry.example/postgres:17-hardened")
///     .login("robot", "a token");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct NewVersion {
    datastore: String,
    name: String,
    number: String,
    image: String,
    login: Option<(String, SecretString)>,
    active: bool,
    default: bool,
}

/// What to change about a version. What is not said stays.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct VersionChange {
    image: Option<String>,
    login: Option<Option<(String, SecretString)>>,
    active: Option<bool>,
    default: bool,
}

impl NewVersion {
    /// A version of a datastore that is called `name`, has this number, and runs from this image. `@sha256:...` pins the
    /// image.
    pub fn new(
        datastore: impl Into<String>,
        name: impl Into<String>,
        number: impl Into<String>,
        image: impl Into<String>,
    ) -> Self {
        Self {
            datastore: datastore.into(),
            name: name.into(),
            number: number.into(),
            image: image.into(),
            login: None,
            active: true,
            default: false,
        }
    }

    /// Signs in to the image's registry so. The password is stored sealed.
    pub fn login(mut self, username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        self.login = Some((username.into(), password.into()));
        self
    }

    /// Does not offer it yet.
    pub fn inactive(mut self) -> Self {
        self.active = false;
        self
    }

    /// Makes it the version of requests that name none.
    pub fn default(mut self) -> Self {
        self.default = true;
        self
    }
}

impl VersionChange {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Instances that are made, or upgraded to it, from now on run from this image. A login stays with its registry: for
    /// an image of another one it has to be given anew.
    pub fn image(mut self, image: impl Into<String>) -> Self {
        self.image = Some(image.into());
        self
    }

    /// Signs in to the image's registry so, for what is made, upgraded or watched from now on.
    pub fn login(mut self, username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        self.login = Some(Some((username.into(), password.into())));
        self
    }

    /// Signs in to the image's registry no more.
    pub fn no_login(mut self) -> Self {
        self.login = Some(None);
        self
    }

    /// Offers it for new instances and upgrades, or no more. Instances that are of it go on.
    pub fn active(mut self, active: bool) -> Self {
        self.active = Some(active);
        self
    }

    /// Makes it the version of requests that name none.
    pub fn make_default(mut self) -> Self {
        self.default = true;
        self
    }
}

impl Datastores {
    pub(super) fn new(trove: Trove) -> Self {
        Self { trove }
    }

    /// What the drivers tell of their engines, in the order they were added.
    pub fn manifests(&self) -> &[Manifest] {
        &self.trove.0.manifests
    }

    /// What the driver of a datastore tells; [`NotFound`](crate::error::Kind::NotFound) lists those there are.
    pub fn manifest(&self, datastore: &str) -> Result<&Manifest> {
        Ok(self.trove.0.control.guests.driver(datastore)?.manifest())
    }

    /// The versions of a datastore, the default first.
    pub async fn versions(&self, datastore: &str) -> Result<Vec<DatastoreVersion>> {
        self.manifest(datastore)?;
        let stored = self.trove.0.control.store.versions(Some(datastore)).await?;
        Ok(stored.into_iter().map(|stored| stored.version).collect())
    }

    /// One version; [`NotFound`](crate::error::Kind::NotFound) lists those there are.
    pub async fn version(&self, datastore: &str, name: &str) -> Result<DatastoreVersion> {
        Ok(self.stored(datastore, name).await?.version)
    }

    /// Adds a version.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) for a datastore there is not, [`Invalid`](crate::error::Kind::Invalid)
    /// for a number that its driver cannot run, [`Conflict`](crate::error::Kind::Conflict) for a name that is taken.
    pub async fn add(&self, new: NewVersion) -> Result<DatastoreVersion> {
        self.manifest(&new.datastore)?.check_version(&new.number)?;
        check_label("the name of a version", &new.name)?;
        check_image(&new.image)?;
        let now = self.trove.0.clock.now();
        let (username, password) = new.login.unzip();
        let version = DatastoreVersion {
            datastore: new.datastore,
            name: new.name,
            number: new.number,
            image: new.image,
            username,
            active: new.active,
            default: new.default,
            created_at: now,
            updated_at: now,
        };
        let seal = |password| self.trove.0.control.keys.seal(&login_owner(&version.image), &password);
        let password = password.map(seal).transpose()?;
        let (datastore, name) = (version.datastore.clone(), version.name.clone());
        self.trove.0.control.store.insert_version(&StoredVersion { version, password, edited: true }).await?;
        self.version(&datastore, &name).await
    }

    /// Changes a version and returns what it is now. [`Busy`](crate::error::Kind::Busy) where somebody else changed or
    /// removed it meanwhile.
    pub async fn change(&self, datastore: &str, name: &str, change: VersionChange) -> Result<DatastoreVersion> {
        let mut stored = self.stored(datastore, name).await?;
        if let Some(image) = change.image {
            check_image(&image)?;
            stored.version.image = image;
        }
        if let Some(login) = change.login {
            let (username, password) = login.unzip();
            let seal = |password| self.trove.0.control.keys.seal(&login_owner(&stored.version.image), &password);
            stored.password = password.map(seal).transpose()?;
            stored.version.username = username;
        }
        stored.version.active = change.active.unwrap_or(stored.version.active);
        stored.version.default |= change.default;
        let before = stored.version.updated_at;
        // Two changes within one tick of the clock are told apart too.
        stored.version.updated_at = self.trove.0.clock.now().max(after(before, Duration::from_micros(1)));
        stored.edited = true;
        if !self.trove.0.control.store.update_version(&stored, before).await? {
            let why = format!("version {name:?} of datastore {datastore} was changed by somebody else meanwhile");
            return Err(Error::busy(why));
        }
        Ok(stored.version)
    }

    /// Removes a version. One that is absent is `Ok`.
    ///
    /// [`Conflict`](crate::error::Kind::Conflict) where an instance or a configuration group is of it, and for one that
    /// the driver brings, which would be there again after the next start: deactivate that.
    pub async fn remove(&self, datastore: &str, name: &str) -> Result<()> {
        if self.manifest(datastore)?.versions.iter().any(|version| version.name == name) {
            let why = format!("version {name:?} comes with the driver of {datastore}; it can be deactivated");
            return Err(Error::conflict(why));
        }
        self.trove.0.control.store.delete_version(datastore, name).await.map(drop)
    }

    /// Has the image of a version fetched and looked at, as creating an instance would.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) for an image that does not exist or needs another login,
    /// [`Conflict`](crate::error::Kind::Conflict) for one that holds another engine or another version.
    pub async fn verify(&self, datastore: &str, name: &str) -> Result<()> {
        let version = self.version(datastore, name).await?;
        let flavor = self.trial_flavor(datastore)?;
        self.trove.0.control.verify(&version, &flavor).await
    }

    /// What can be configured of a version's servers, told by one of them. The first answer for an image takes as long as
    /// making a server does; later ones look up the image's digest only.
    pub async fn parameters(&self, datastore: &str, name: &str) -> Result<Catalogue> {
        let version = self.version(datastore, name).await?;
        let flavor = self.trial_flavor(datastore)?;
        self.trove.0.control.catalogue(&version, &flavor).await
    }

    /// The version for a request: the one it names or the default, if it is active.
    pub(super) async fn choose(&self, datastore: &str, name: Option<&str>) -> Result<DatastoreVersion> {
        let version = match name {
            Some(name) => self.version(datastore, name).await?,
            None => {
                let versions = self.versions(datastore).await?;
                let none = || Error::not_found(format!("datastore {datastore} has no version on offer"));
                versions.into_iter().find(|version| version.active).ok_or_else(none)?
            }
        };
        if version.active {
            return Ok(version);
        }
        Err(Error::not_found(format!("version {:?} of datastore {datastore} is not on offer any more", version.name)))
    }

    async fn stored(&self, datastore: &str, name: &str) -> Result<StoredVersion> {
        self.manifest(datastore)?;
        let store = &self.trove.0.control.store;
        if let Some(found) = store.version(datastore, name).await? {
            return Ok(found);
        }
        let known = store.versions(Some(datastore)).await?;
        let known = known.iter().map(|stored| stored.version.name.as_str()).collect::<Vec<_>>().join(", ");
        Err(Error::not_found(format!("datastore {datastore} has no version {name:?}; it has: {known}")))
    }

    /// The smallest flavor on offer that a server fits into.
    fn trial_flavor(&self, datastore: &str) -> Result<Flavor> {
        let least = self.manifest(datastore)?.min_memory;
        let fitting = self.trove.0.flavors.iter().filter(|flavor| flavor.memory >= least);
        let smallest = fitting.min_by_key(|flavor| flavor.memory).cloned();
        Ok(smallest.unwrap_or_else(|| Flavor::new("trial", least, 1)))
    }
}

fn check_image(image: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"./:@_-".contains(&byte);
    if image.is_empty() || image.len() > 500 || !image.bytes().all(fits) {
        return Err(Error::invalid(format!("{image:?} is not the name of an image")));
    }
    Ok(())
}
