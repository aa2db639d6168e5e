use std::collections::HashSet;

use serde_json::json;

use super::RequestLimits;
use crate::{
    datastore::{AccountRules, Manifest},
    error::{Error, Result},
    id::{ConfigurationId, InstanceId},
    model::{ByteSize, DatastoreVersion, Flavor, Instance, NewDatabase, NewUser, UserName, gib},
    secret::SecretString,
    time::Timestamp,
};

const MAX_NAME_BYTES: usize = 255;
const MIN_VOLUME: ByteSize = gib(1);

/// A request for an instance.
///
/// ```
/// use trove_core::{control::NewInstance, model::gib};
///
/// let orders = NewInstance::new("orders", "postgresql").volume(gib(5)).database("app").user("app", "correct horse");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct NewInstance {
    pub(super) id: InstanceId,
    project: String,
    name: String,
    pub(super) datastore: String,
    pub(super) version: Option<String>,
    flavor: Option<String>,
    volume: ByteSize,
    public: bool,
    configuration: Option<ConfigurationId>,
    pub(super) databases: Vec<NewDatabase>,
    pub(super) users: Vec<NewUser>,
}

impl NewInstance {
    /// Creates a request with the default version and flavor and a volume of 1 GiB.
    pub fn new(name: impl Into<String>, datastore: impl Into<String>) -> Self {
        Self {
            id: InstanceId::new_v4(),
            project: "default".to_owned(),
            name: name.into(),
            datastore: datastore.into(),
            version: None,
            flavor: None,
            volume: MIN_VOLUME,
            public: false,
            configuration: None,
            databases: Vec::new(),
            users: Vec::new(),
        }
    }

    /// Sets the id, which makes a repeated request idempotent. Default: a random id.
    pub fn id(mut self, id: InstanceId) -> Self {
        self.id = id;
        self
    }

    /// Sets the tenant. Default: `default`.
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = project.into();
        self
    }

    /// Sets the version of the datastore, by its name in the registry of versions.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Sets the flavor by name.
    pub fn flavor(mut self, flavor: impl Into<String>) -> Self {
        self.flavor = Some(flavor.into());
        self
    }

    /// Sets the size of the volume; at least 1 GiB.
    pub fn volume(mut self, size: ByteSize) -> Self {
        self.volume = size;
        self
    }

    /// Allows connections from other machines.
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    /// Assigns a configuration group.
    pub fn configuration(mut self, group: ConfigurationId) -> Self {
        self.configuration = Some(group);
        self
    }

    /// Adds a database.
    pub fn database(mut self, database: impl Into<NewDatabase>) -> Self {
        self.databases.push(database.into());
        self
    }

    /// Adds a user with access to all databases added so far.
    pub fn user(self, name: impl Into<UserName>, password: impl Into<SecretString>) -> Self {
        let mut user = NewUser::new(name, password);
        user.databases = self.databases.iter().map(|database| database.name.clone()).collect();
        self.with_user(user)
    }

    /// Adds a user with access to the databases that it names.
    pub fn with_user(mut self, user: NewUser) -> Self {
        self.users.push(user);
        self
    }

    /// Returns the request as text without its secrets, which identifies a repeated request.
    pub(super) fn request(&self) -> String {
        let request = json!({
            "project": self.project, "name": self.name, "datastore": self.datastore, "version": self.version,
            "flavor": self.flavor, "volume": self.volume, "public": self.public, "databases": self.databases,
            "configuration": self.configuration,
            "users": self.users.iter().map(|user| (&user.user, &user.databases)).collect::<Vec<_>>(),
        });
        request.to_string()
    }

    /// Validates the request and returns the new instance.
    pub(super) fn validate(
        &self,
        manifest: &Manifest,
        version: &DatastoreVersion,
        flavors: &[Flavor],
        limits: &RequestLimits,
        now: Timestamp,
    ) -> Result<Instance> {
        let flavor = find_flavor(flavors, self.flavor.as_deref())?;
        check_label("the name of an instance", &self.name)?;
        check_label("the project of an instance", &self.project)?;
        if self.volume < MIN_VOLUME {
            return Err(Error::invalid(format!("a volume must have at least {MIN_VOLUME}; requested {}", self.volume)));
        }
        if self.volume > limits.volume {
            let most = limits.volume;
            return Err(Error::invalid(format!("a volume must not exceed {most}; requested {}", self.volume)));
        }
        check_memory(manifest, flavor)?;
        if self.databases.len() > limits.accounts || self.users.len() > limits.accounts {
            return Err(Error::invalid(format!(
                "a request must not exceed {0} databases and {0} users",
                limits.accounts
            )));
        }
        self.check_accounts(manifest)?;
        let mut instance = Instance::new(self.id, &self.name, &manifest.name, flavor.clone(), self.volume, now);
        instance.project.clone_from(&self.project);
        instance.version.clone_from(&version.name);
        instance.version_number.clone_from(&version.number);
        instance.configuration = self.configuration;
        instance.image.clone_from(&version.image);
        instance.public = self.public;
        Ok(instance)
    }

    fn check_accounts(&self, manifest: &Manifest) -> Result<()> {
        let Some(rules) = &manifest.accounts else {
            return if self.databases.is_empty() && self.users.is_empty() {
                Ok(())
            } else {
                Err(Error::unsupported(format!("datastore {} does not support databases and users", manifest.name)))
            };
        };
        check_databases(rules, &self.databases)?;
        check_users(rules, &self.users)?;
        for user in &self.users {
            for database in &user.databases {
                if !self.databases.iter().any(|known| known.name == *database) {
                    return Err(Error::invalid(format!(
                        "user {:?} is granted database {database:?}, which the request does not create",
                        user.user.to_string()
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Rejects invalid and duplicate names.
pub(super) fn check_databases(rules: &AccountRules, databases: &[NewDatabase]) -> Result<()> {
    let mut seen = HashSet::new();
    for database in databases {
        rules.check_database(&database.name)?;
        if !seen.insert(&database.name) {
            return Err(Error::invalid(format!("database {:?} is specified twice", database.name)));
        }
    }
    Ok(())
}

/// Rejects invalid names and passwords and duplicate names.
pub(super) fn check_users(rules: &AccountRules, users: &[NewUser]) -> Result<()> {
    let mut seen = HashSet::new();
    for user in users {
        rules.check_user(&user.user)?;
        rules.check_password(&user.password)?;
        for database in &user.databases {
            rules.check_database(database)?;
        }
        if !seen.insert(&user.user) {
            return Err(Error::invalid(format!("user {:?} is specified twice", user.user.to_string())));
        }
    }
    Ok(())
}

/// Rejects a flavor with less memory than the datastore requires.
pub(super) fn check_memory(manifest: &Manifest, flavor: &Flavor) -> Result<()> {
    if flavor.memory < manifest.min_memory {
        return Err(Error::invalid(format!(
            "datastore {} requires {} of memory; flavor {} has {}",
            manifest.name, manifest.min_memory, flavor.name, flavor.memory
        )));
    }
    Ok(())
}

/// Returns the flavor of this name, or the default.
pub(super) fn find_flavor<'a>(flavors: &'a [Flavor], name: Option<&str>) -> Result<&'a Flavor> {
    let found = match name {
        None => flavors.first(),
        Some(name) => flavors.iter().find(|flavor| flavor.name == name),
    };
    found.ok_or_else(|| {
        let known = flavors.iter().map(|flavor| flavor.name.as_str()).collect::<Vec<_>>().join(", ");
        Error::not_found(format!("flavor {:?} does not exist; available: {known}", name.unwrap_or_default()))
    })
}

/// Rejects a label that is empty or too long or contains control characters.
pub(super) fn check_label(what: &str, label: &str) -> Result<()> {
    if label.trim().is_empty() {
        Err(Error::invalid(format!("{what} must not be empty")))
    } else if label.len() > MAX_NAME_BYTES {
        Err(Error::invalid(format!("{what} must not exceed {MAX_NAME_BYTES} bytes")))
    } else if label.chars().any(char::is_control) {
        Err(Error::invalid(format!("{what} must not contain control characters: {label:?}")))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        datastore::Version,
        error::Kind,
        model::{gib, mib},
    };

    fn validate(new: &NewInstance) -> Result<Instance> {
        validate_with(AccountRules::new(63), new)
    }

    fn validate_with(rules: AccountRules, new: &NewInstance) -> Result<Instance> {
        let mut manifest = Manifest::new("memory", Version::new("1", "memory:1"), 1);
        manifest.accounts = Some(rules);
        let flavors = [Flavor::new("small", mib(512), 1), Flavor::new("tiny", mib(8), 1)];
        let version = DatastoreVersion {
            datastore: "memory".to_owned(),
            name: "1".to_owned(),
            number: "1".to_owned(),
            image: "memory:1".to_owned(),
            username: None,
            active: true,
            default: true,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        };
        new.validate(&manifest, &version, &flavors, &RequestLimits::default(), Timestamp::UNIX_EPOCH)
    }

    fn new() -> NewInstance {
        NewInstance::new("orders", "memory")
    }

    #[test]
    fn databases_are_rejected_for_a_datastore_without_databases() {
        let mut rules = AccountRules::new(63);
        rules.databases = false;
        validate_with(rules.clone(), &new().user("app", "x")).unwrap();
        for asked in [new().database("app"), new().with_user(NewUser::new("app", "x").granted("app"))] {
            let error = validate_with(rules.clone(), &asked).unwrap_err();
            assert_eq!(
                (error.kind(), &*error.to_string()),
                (Kind::Unsupported, "this datastore has no databases of its own")
            );
        }
    }

    #[test]
    fn invalid_requests_are_rejected_with_the_reason() {
        let cases: Vec<(NewInstance, Kind, &str)> = vec![
            (new().flavor("huge"), Kind::NotFound, "flavor \"huge\" does not exist; available: small, tiny"),
            (new().flavor("tiny"), Kind::Invalid, "requires 64 MiB of memory"),
            (NewInstance::new("", "memory"), Kind::Invalid, "name of an instance must not be empty"),
            (NewInstance::new("x".repeat(256), "memory"), Kind::Invalid, "255 bytes"),
            (NewInstance::new("a\0", "memory"), Kind::Invalid, "control characters"),
            (new().project(" "), Kind::Invalid, "project of an instance must not be empty"),
            (new().volume(gib(0)), Kind::Invalid, "at least 1 GiB"),
            (new().volume(gib(16 << 11)), Kind::Invalid, "must not exceed 16384 GiB"),
            (new().database(""), Kind::Invalid, "database name must not be empty"),
            (new().database("a").database("a"), Kind::Invalid, "specified twice"),
            (new().user("u", ""), Kind::Invalid, "password must not be empty"),
            (new().user("trove_x", "p"), Kind::Invalid, "reserved"),
            (
                new().with_user(NewUser::new("u", "p").granted("nope")),
                Kind::Invalid,
                "database \"nope\", which the request",
            ),
        ];
        for (request, kind, message) in cases {
            let error = validate(&request).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(message), "{error} does not contain {message}");
        }
    }

    #[test]
    fn request_text_contains_no_password() {
        let request = new().database("app").user("app", "hunter2").request();
        assert!(request.contains("app") && !request.contains("hunter2"));
    }
}
