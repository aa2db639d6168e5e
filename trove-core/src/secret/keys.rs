use serde::{Deserialize, Serialize};

use super::{KeyId, MasterKey, SecretString};
use crate::error::{Error, Result};

/// A secret encrypted for storage. Its text form, which begins with the id of its key, is safe to write anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// By which key it is sealed; `None` where it was before keys had ids, and in what is no sealed secret.
    pub fn key(&self) -> Option<KeyId> {
        self.0.split_once(':').and_then(|(id, _)| id.parse().ok())
    }
}

/// The master keys: the one to seal with, and those that sealed before it.
///
/// ```
/// use trove_core::secret::{ExposeSecret, MasterKey, MasterKeys, SecretString};
///
/// let (old, new) = (MasterKey::generate()?, MasterKey::generate()?);
/// let sealed = MasterKeys::new(old.clone()).seal("orders", &SecretString::from("a password"))?;
/// let keys = MasterKeys::new(new).former(old);
/// assert_eq!(keys.open("orders", &sealed)?.expose_secret(), "a password");
/// assert!(keys.open("invoices", &sealed).is_err());
/// # Ok::<_, trove_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct MasterKeys {
    current: MasterKey,
    former: Vec<MasterKey>,
}

impl MasterKeys {
    /// This key, and no former ones.
    pub fn new(current: MasterKey) -> Self {
        Self { current, former: Vec::new() }
    }

    /// Adds a key that sealed before.
    pub fn former(mut self, key: MasterKey) -> Self {
        self.former.push(key);
        self
    }

    /// The key to seal with.
    pub fn current(&self) -> &MasterKey {
        &self.current
    }

    /// Encrypts a secret with the current key; `owner` names what it belongs to and is needed to open it.
    pub fn seal(&self, owner: &str, secret: &SecretString) -> Result<Sealed> {
        let text = self.current.encrypt(owner, secret)?;
        Ok(Sealed(format!("{}:{text}", self.current.id())))
    }

    /// Decrypts what [`seal`](Self::seal) made for the same owner with one of these keys.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::Kind::Invalid) with the id of its key where that is none of these,
    /// [`Corrupt`](crate::error::Kind::Corrupt) where it was changed or is another owner's.
    pub fn open(&self, owner: &str, sealed: &Sealed) -> Result<SecretString> {
        let keys = || std::iter::once(&self.current).chain(&self.former);
        let opened = match (sealed.key(), sealed.0.split_once(':')) {
            (Some(id), Some((_, text))) => {
                keys().find(|key| key.id() == id).ok_or_else(|| missing(id))?.decrypt(owner, text)
            }
            _ => keys().find_map(|key| key.decrypt(owner, &sealed.0)),
        };
        opened.ok_or_else(|| {
            Error::corrupt("a stored secret does not open: it was changed, or is not what it was kept for")
        })
    }

    /// Seals with the current key what is sealed by a former one; false where it is by the current.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn reseal(&self, owner: &str, sealed: &mut Sealed) -> Result<bool> {
        let resealed = sealed.key() != Some(self.current.id());
        if resealed {
            *sealed = self.seal(owner, &self.open(owner, sealed)?)?;
        }
        Ok(resealed)
    }

    /// The keys in these texts of base64, the current first.
    pub(super) fn read<'a>(place: &str, texts: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut keys = Vec::new();
        for (before, text) in texts.enumerate() {
            // What is wrong is said without the text, or what a decoder says of it.
            let wrong = |error| Error::invalid(format!("key {} in {place} is not one: {error}", before + 1));
            keys.push(MasterKey::from_base64(text).map_err(wrong)?);
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or_else(|| Error::invalid(format!("there is no master key in {place}")))?;
        Ok(Self { current, former: keys.collect() })
    }
}

fn missing(id: KeyId) -> Error {
    Error::invalid(format!(
        "the master key {id}, by which a stored secret is sealed, is not among those that are given"
    ))
    .with("key", id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{error::Kind, secret::ExposeSecret};

    fn keys() -> MasterKeys {
        MasterKeys::new(MasterKey::generate().unwrap())
    }

    #[test]
    fn a_sealed_secret_opens_only_for_its_owner_and_key_and_unchanged() {
        let keys = keys();
        let sealed = keys.seal("orders/app", &SecretString::from("hunter2")).unwrap();
        assert_eq!(keys.open("orders/app", &sealed).unwrap().expose_secret(), "hunter2");
        assert_eq!(keys.open("billing/app", &sealed).unwrap_err().kind(), Kind::Corrupt);
        for at in 0..sealed.0.len() {
            for other in [b'A', b'B', b':', b'0'] {
                let mut bytes = sealed.0.clone().into_bytes();
                if std::mem::replace(&mut bytes[at], other) == other {
                    continue;
                }
                let changed = Sealed(String::from_utf8(bytes).unwrap());
                assert!(keys.open("orders/app", &changed).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn a_missing_key_is_named() {
        let (old, new) = (keys(), keys());
        let sealed = old.seal("orders", &SecretString::from("hunter2")).unwrap();
        let error = new.open("orders", &sealed).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(&old.current().id().to_string()), "{error:?}");
    }

    #[test]
    fn what_was_sealed_before_keys_had_ids_is_opened_and_sealed_anew() {
        let (old, new) = (keys(), keys());
        let mut sealed = Sealed(old.current().encrypt("orders", &SecretString::from("hunter2")).unwrap());
        assert_eq!(sealed.key(), None);
        assert_eq!(new.open("orders", &sealed).unwrap_err().kind(), Kind::Corrupt);
        let new = new.former(old.current().clone());
        assert!(new.reseal("orders", &mut sealed).unwrap());
        assert_eq!(sealed.key(), Some(new.current().id()));
        assert_eq!(new.open("orders", &sealed).unwrap().expose_secret(), "hunter2");
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let keys = keys().former(MasterKey::generate().unwrap());
        let shown = format!("{keys:?} {:?}", keys.current());
        for key in std::iter::once(&keys.current).chain(&keys.former) {
            assert!(!shown.contains(&key.to_base64()[..8]), "{shown}");
            assert!(shown.contains(&key.id().to_string()), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn any_secret_follows_the_key(owner in ".{0,40}", secret in ".{0,200}", changes in 1usize..4) {
            let mut keys = keys();
            let mut sealed = keys.seal(&owner, &SecretString::from(secret.as_str())).unwrap();
            for _ in 0..changes {
                let former = keys.current().clone();
                keys = MasterKeys::new(MasterKey::generate().unwrap()).former(former);
                prop_assert!(keys.reseal(&owner, &mut sealed).unwrap());
                let kept = sealed.clone();
                prop_assert!(!keys.reseal(&owner, &mut sealed).unwrap());
                prop_assert_eq!(&kept, &sealed);
            }
            let alone = MasterKeys::new(keys.current().clone());
            let opened = alone.open(&owner, &sealed).unwrap();
            prop_assert_eq!(opened.expose_secret(), &secret);
        }

        #[test]
        fn no_text_is_opened_or_shown(text in ".{0,120}") {
            let keys = keys();
            prop_assert!(keys.open("orders", &Sealed(text.clone())).is_err());
            let error = MasterKeys::read("here", [keys.current().to_base64().as_str(), &text].into_iter()).unwrap_err();
            prop_assert!(error.to_string().starts_with("key 2 in here is not one: "));
            let shown = format!("{error:?}");
            prop_assert!(text.len() < 20 || !shown.contains(&text), "{}", shown);
        }
    }
}
