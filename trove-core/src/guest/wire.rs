//! The plaintext form of secrets in sealed messages and in the files of an agent.
//!
//! Nothing else serializes secrets: the types themselves do not implement `Serialize`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::GuestIdentity;
use crate::{
    datastore::{Prepare, RegistryLogin, Release},
    model::{NewDatabase, NewUser, Settings, UserName},
    rpc::{BrokerLogin, InstanceKey},
    secret::{ExposeSecret, SecretString},
};

#[derive(Serialize, Deserialize)]
struct WireUser {
    user: UserName,
    #[serde(with = "secret")]
    password: SecretString,
    databases: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct WirePrepare {
    databases: Vec<NewDatabase>,
    users: Vec<WireUser>,
    #[serde(default)]
    settings: Settings,
}

#[derive(Serialize, Deserialize)]
struct WireRelease {
    version: String,
    image: String,
    login: Option<WireLogin>,
}

#[derive(Serialize, Deserialize)]
struct WireLogin {
    username: String,
    #[serde(with = "secret")]
    password: SecretString,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireKey {
    number: u32,
    #[serde(with = "secret")]
    text: SecretString,
}

#[derive(Serialize, Deserialize)]
struct WireIdentity {
    key: WireKey,
    login: WireLogin,
}

impl WireLogin {
    fn of(login: RegistryLogin) -> Self {
        Self { username: login.username, password: login.password }
    }

    fn into_login(self) -> RegistryLogin {
        RegistryLogin { username: self.username, password: self.password }
    }
}

impl WireKey {
    fn of(key: &InstanceKey) -> Self {
        Self { number: key.id(), text: key.to_text() }
    }

    fn into_key<E: Error>(self) -> Result<InstanceKey, E> {
        InstanceKey::from_text(self.number, &self.text).map_err(E::custom)
    }
}

impl WireIdentity {
    fn of(identity: &GuestIdentity) -> Self {
        let BrokerLogin { user, password } = identity.login.clone();
        Self { key: WireKey::of(&identity.key), login: WireLogin { username: user, password } }
    }

    fn into_identity<E: Error>(self) -> Result<GuestIdentity, E> {
        let WireLogin { username, password } = self.login;
        Ok(GuestIdentity { key: self.key.into_key()?, login: BrokerLogin::new(username, password) })
    }
}

impl WireUser {
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
        serializer.collect_seq(users.iter().map(WireUser::of))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NewUser>, D::Error> {
        Ok(Vec::<WireUser>::deserialize(deserializer)?.into_iter().map(WireUser::into_new).collect())
    }
}

pub(super) mod prepare {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(spec: &Prepare, serializer: S) -> Result<S::Ok, S::Error> {
        let Prepare { databases, users, settings } = spec.clone();
        WirePrepare { databases, users: users.iter().map(WireUser::of).collect(), settings }.serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Prepare, D::Error> {
        let spec = WirePrepare::deserialize(deserializer)?;
        let users = spec.users.into_iter().map(WireUser::into_new).collect();
        Ok(Prepare::new(spec.databases, users).settings(spec.settings))
    }
}

#[cfg(feature = "amqp")]
pub(super) mod key {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(key: &InstanceKey, serializer: S) -> Result<S::Ok, S::Error> {
        WireKey::of(key).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<InstanceKey, D::Error> {
        WireKey::deserialize(deserializer)?.into_key()
    }
}

pub(super) mod identity {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        identity: &GuestIdentity,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        WireIdentity::of(identity).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GuestIdentity, D::Error> {
        WireIdentity::deserialize(deserializer)?.into_identity()
    }
}

pub(super) mod identities {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        identities: &[GuestIdentity],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(identities.iter().map(WireIdentity::of))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<GuestIdentity>, D::Error> {
        Vec::<WireIdentity>::deserialize(deserializer)?.into_iter().map(WireIdentity::into_identity).collect()
    }
}

#[cfg(feature = "amqp")]
pub(super) mod registry_login {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        login: &Option<RegistryLogin>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        login.clone().map(WireLogin::of).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<RegistryLogin>, D::Error> {
        Ok(Option::<WireLogin>::deserialize(deserializer)?.map(WireLogin::into_login))
    }
}

pub(super) mod release {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(release: &Release, serializer: S) -> Result<S::Ok, S::Error> {
        let Release { version, image, login } = release.clone();
        let login = login.map(WireLogin::of);
        WireRelease { version, image, login }.serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Release, D::Error> {
        let WireRelease { version, image, login } = WireRelease::deserialize(deserializer)?;
        let mut release = Release::new(version, image);
        release.login = login.map(WireLogin::into_login);
        Ok(release)
    }
}
