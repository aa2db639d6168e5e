use std::time::Duration;

use super::{Trove, new_instance::check_label};
use crate::{
    datastore::Manifest,
    error::{Error, Result},
    model::{DatastoreVersion, Flavor, ParameterCatalog},
    secret::SecretString,
    store::StoredVersion,
    taskmanager::login_owner,
    time::after,
};

/// The offered datastores and the registry of their versions, which an operator edits while the
/// service runs.
///
/// The registry initially contains the versions of the drivers. When the image of such a version
/// changes in the program, the next start updates the registry, unless an operator has changed the
/// version.
///
/// ```
/// # #[cfg(feature = "conformance")]
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// # let world = trove_core::conformance::memory::World::new();
/// # let trove = trove_core::Trove::builder()
/// #     .store("sqlite::memory:")
/// #     .platform(world.platform())
/// #     .datastore(world.driver())
/// #     .start()
/// #     .await?;
/// use trove_core::control::{NewVersion, VersionChange};
///
/// let datastores = trove.datastores();
/// let stock = datastores.versions("memory").await?.remove(0);
/// datastores.add(NewVersion::new("memory", "hardened", stock.number, stock.image).default()).await?;
/// datastores.change("memory", &stock.name, VersionChange::new().active(false)).await?;
/// assert!(datastores.version("memory", "hardened").await?.default);
/// # trove.shut_down().await;
/// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Datastores {
    trove: Trove,
}

/// A request to add a version to the registry.
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

/// A change of a version. Values that are not set stay unchanged.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct VersionChange {
    image: Option<String>,
    login: Option<Option<(String, SecretString)>>,
    active: Option<bool>,
    default: bool,
}

impl NewVersion {
    /// Creates a request. `@sha256:...` pins the image.
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

    /// Sets the login for the registry of the image. The password is stored sealed.
    pub fn login(mut self, username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        self.login = Some((username.into(), password.into()));
        self
    }

    /// Does not offer the version to new instances yet.
    pub fn inactive(mut self) -> Self {
        self.active = false;
        self
    }

    /// Makes the version the default of its datastore.
    pub fn default(mut self) -> Self {
        self.default = true;
        self
    }
}

impl VersionChange {
    /// Creates an empty change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the image for instances that are created or upgraded from now on. The login is valid
    /// for one registry only: with an image of another registry, set it again.
    pub fn image(mut self, image: impl Into<String>) -> Self {
        self.image = Some(image.into());
        self
    }

    /// Sets the login for the registry of the image.
    pub fn login(mut self, username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        self.login = Some(Some((username.into(), password.into())));
        self
    }

    /// Removes the login for the registry of the image.
    pub fn no_login(mut self) -> Self {
        self.login = Some(None);
        self
    }

    /// Sets whether the version is offered for new instances and upgrades. Existing instances are
    /// not affected.
    pub fn active(mut self, active: bool) -> Self {
        self.active = Some(active);
        self
    }

    /// Makes the version the default of its datastore.
    pub fn make_default(mut self) -> Self {
        self.default = true;
        self
    }
}

impl Datastores {
    pub(super) fn new(trove: Trove) -> Self {
        Self { trove }
    }

    /// Returns the manifests of the drivers in the order in which they were added.
    pub fn manifests(&self) -> &[Manifest] {
        &self.trove.0.manifests
    }

    /// Returns the manifest of a datastore; [`NotFound`](crate::error::Kind::NotFound), which lists
    /// the known ones, if it does not exist.
    pub fn manifest(&self, datastore: &str) -> Result<&Manifest> {
        Ok(self.trove.0.control.guests.driver(datastore)?.manifest())
    }

    /// Returns the versions of a datastore, the default first.
    pub async fn versions(&self, datastore: &str) -> Result<Vec<DatastoreVersion>> {
        self.manifest(datastore)?;
        let stored = self.trove.0.control.store.versions(Some(datastore)).await?;
        Ok(stored.into_iter().map(|stored| stored.version).collect())
    }

    /// Returns a version; [`NotFound`](crate::error::Kind::NotFound), which lists the known ones,
    /// if it does not exist.
    pub async fn version(&self, datastore: &str, name: &str) -> Result<DatastoreVersion> {
        Ok(self.stored(datastore, name).await?.version)
    }

    /// Adds a version.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) for an unknown datastore,
    /// [`Invalid`](crate::error::Kind::Invalid) for a version number that its driver does not
    /// support, [`Conflict`](crate::error::Kind::Conflict) if the name exists.
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

    /// Changes a version and returns the result. [`Busy`](crate::error::Kind::Busy) if the version
    /// was changed or removed concurrently.
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
        // Strictly increasing, so that it also detects a concurrent change within one tick of the
        // clock.
        stored.version.updated_at = self.trove.0.clock.now().max(after(before, Duration::from_micros(1)));
        stored.edited = true;
        if !self.trove.0.control.store.update_version(&stored, before).await? {
            let why = format!("version {name:?} of datastore {datastore} was changed concurrently");
            return Err(Error::busy(why));
        }
        Ok(stored.version)
    }

    /// Removes a version. Succeeds if it does not exist.
    ///
    /// [`Conflict`](crate::error::Kind::Conflict) if an instance or a configuration group uses it,
    /// and for a version of the driver, which the next start would add again; deactivate such a
    /// version instead.
    pub async fn remove(&self, datastore: &str, name: &str) -> Result<()> {
        if self.manifest(datastore)?.versions.iter().any(|version| version.name == name) {
            let why = format!("version {name:?} belongs to the driver of {datastore} and can only be deactivated");
            return Err(Error::conflict(why));
        }
        self.trove.0.control.store.delete_version(datastore, name).await.map(drop)
    }

    /// Pulls and inspects the image of a version, as the creation of an instance would. For a
    /// datastore without upgrades, whose driver cannot inspect images, nothing is verified.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) if the image does not exist or requires another
    /// login, [`Conflict`](crate::error::Kind::Conflict) if it contains another engine or version.
    pub async fn verify(&self, datastore: &str, name: &str) -> Result<()> {
        let version = self.version(datastore, name).await?;
        let flavor = self.scratch_flavor(datastore)?;
        self.trove.0.control.verify(&version, &flavor).await
    }

    /// Returns the parameters that can be configured, as reported by a server of this version. The
    /// first call for an image runs a scratch server; later ones read the cache and only resolve
    /// the digest of the image.
    pub async fn parameters(&self, datastore: &str, name: &str) -> Result<ParameterCatalog> {
        let version = self.version(datastore, name).await?;
        let flavor = self.scratch_flavor(datastore)?;
        self.trove.0.control.catalog(&version, &flavor).await
    }

    /// Returns the version for a request: the requested or default one, if it is active.
    pub(super) async fn choose(&self, datastore: &str, name: Option<&str>) -> Result<DatastoreVersion> {
        let version = match name {
            Some(name) => self.version(datastore, name).await?,
            None => {
                let versions = self.versions(datastore).await?;
                let none = || Error::not_found(format!("datastore {datastore} has no active version"));
                versions.into_iter().find(|version| version.active).ok_or_else(none)?
            }
        };
        if version.active {
            return Ok(version);
        }
        Err(Error::not_found(format!("version {:?} of datastore {datastore} is not active", version.name)))
    }

    async fn stored(&self, datastore: &str, name: &str) -> Result<StoredVersion> {
        self.manifest(datastore)?;
        let store = &self.trove.0.control.store;
        if let Some(found) = store.version(datastore, name).await? {
            return Ok(found);
        }
        let known = store.versions(Some(datastore)).await?;
        let known = known.iter().map(|stored| stored.version.name.as_str()).collect::<Vec<_>>().join(", ");
        Err(Error::not_found(format!("datastore {datastore} has no version {name:?}; available: {known}")))
    }

    /// Returns the smallest offered flavor that is large enough for a server.
    fn scratch_flavor(&self, datastore: &str) -> Result<Flavor> {
        let least = self.manifest(datastore)?.min_memory;
        let fitting = self.trove.0.flavors.iter().filter(|flavor| flavor.memory >= least);
        let smallest = fitting.min_by_key(|flavor| flavor.memory).cloned();
        Ok(smallest.unwrap_or_else(|| Flavor::new("scratch", least, 1)))
    }
}

fn check_image(image: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"./:@_-".contains(&byte);
    if image.is_empty() || image.len() > 500 || !image.bytes().all(fits) {
        return Err(Error::invalid(format!("{image:?} is not a valid image name")));
    }
    Ok(())
}
