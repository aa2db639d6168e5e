//! Secrets on their way to a guest, as they are inside of what is sealed. Nothing else serializes them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{
    datastore::{Prepare, RegistryLogin, Release},
    model::{NewDatabase, NewUser, Settings, UserName},
    rpc::{BusLogin, InstanceKey},
    secret::{ExposeSecret, SecretString},
};

#[derive(Serialize, Deserialize)]
struct User {
    user: UserName,
    #[serde(with = "secret")]
    password: SecretString,
    databases: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Spec {
    databases: Vec<NewDatabase>,
    users: Vec<User>,
    #[serde(default)]
    settings: Settings,
}

#[derive(Serialize, Deserialize)]
struct From {
    version: String,
    image: String,
    login: Option<Login>,
}

#[derive(Serialize, Deserialize)]
struct Login {
    username: String,
    #[serde(with = "secret")]
    password: SecretString,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    number: u32,
    #[serde(with = "secret")]
    text: SecretString,
}

impl Login {
    fn of(login: RegistryLogin) -> Self {
        Self { username: login.username, password: login.password }
    }

    fn into_login(self) -> RegistryLogin {
        RegistryLogin { username: self.username, password: self.password }
    }
}

impl User {
    fn of(user: &NewUser) -> Self {
        let NewUser { user, password, databases } = user.clone();
        Self { user, password, databases }
    }

    fn into_new(self) -> NewUser {
        let mut user = NewUser::new("", self.password);
        (user.user, user.databases) = (self.user, self.databases);
        user
    }
}

pub(super) mod secret {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose_secret())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
        String::deserialize(deserializer).map(SecretString::from)
    }
}

pub(super) mod users {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(users: &[NewUser], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(users.iter().map(User::of))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NewUser>, D::Error> {
        Ok(Vec::<User>::deserialize(deserializer)?.into_iter().map(User::into_new).collect())
    }
}

pub(super) mod prepare {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(spec: &Prepare, serializer: S) -> Result<S::Ok, S::Error> {
        let Prepare { databases, users, settings } = spec.clone();
        Spec { databases, users: users.iter().map(User::of).collect(), settings }.serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Prepare, D::Error> {
        let spec = Spec::deserialize(deserializer)?;
        let users = spec.users.into_iter().map(User::into_new).collect();
        Ok(Prepare::new(spec.databases, users).settings(spec.settings))
    }
}

pub(super) mod key {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(key: &InstanceKey, serializer: S) -> Result<S::Ok, S::Error> {
        Key { number: key.id(), text: key.to_text() }.serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<InstanceKey, D::Error> {
        let Key { number, text } = Key::deserialize(deserializer)?;
        InstanceKey::from_text(number, &text).map_err(D::Error::custom)
    }
}

pub(super) mod bus_login {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        login: &Option<BusLogin>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let login = login.clone().map(|BusLogin { user, password }| Login { username: user, password });
        login.serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<BusLogin>, D::Error> {
        let login = Option::<Login>::deserialize(deserializer)?;
        Ok(login.map(|Login { username, password }| BusLogin { user: username, password }))
    }
}

#[cfg(feature = "amqp")]
pub(super) mod login {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        login: &Option<RegistryLogin>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        login.clone().map(Login::of).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<RegistryLogin>, D::Error> {
        Ok(Option::<Login>::deserialize(deserializer)?.map(Login::into_login))
    }
}

pub(super) mod release {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(release: &Release, serializer: S) -> Result<S::Ok, S::Error> {
        let Release { version, image, login } = release.clone();
        let login = login.map(Login::of);
        From { version, image, login }.serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Release, D::Error> {
        let From { version, image, login } = From::deserialize(deserializer)?;
        let mut release = Release::new(version, image);
        release.login = login.map(Login::into_login);
        Ok(release)
    }
}
