use serde::{Deserialize, Serialize};

use super::{KeyId, MasterKey, SecretString};
use crate::error::{Error, Result};

/// An encrypted secret. Its text form, which starts with the id of the key, is safe to store
/// anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// Returns the id of the key; `None` for values that were sealed before keys had ids and for
    /// invalid values.
    pub fn key(&self) -> Option<KeyId> {
        self.0.split_once(':').and_then(|(id, _)| id.parse().ok())
    }
}

/// The current master key, which seals, and the former ones, which open older values.
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
    /// Creates a set with a current key only.
    pub fn new(current: MasterKey) -> Self {
        Self { current, former: Vec::new() }
    }

    /// Adds a former key.
    pub fn former(mut self, key: MasterKey) -> Self {
        self.former.push(key);
        self
    }

    /// Returns the current key.
    pub fn current(&self) -> &MasterKey {
        &self.current
    }

    /// Encrypts a secret with the current key. The same `owner` is required to open it.
    pub fn seal(&self, owner: &str, secret: &SecretString) -> Result<Sealed> {
        let text = self.current.encrypt(owner, secret)?;
        Ok(Sealed(format!("{}:{text}", self.current.id())))
    }

    /// Decrypts a value that one of these keys [sealed](Self::seal) for the same owner.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::Kind::Invalid) with the id of the key if the key is missing;
    /// [`Corrupt`](crate::error::Kind::Corrupt) if the value was modified or belongs to another
    /// owner.
    pub fn open(&self, owner: &str, sealed: &Sealed) -> Result<SecretString> {
        let keys = || std::iter::once(&self.current).chain(&self.former);
        let opened = match (sealed.key(), sealed.0.split_once(':')) {
            (Some(id), Some((_, text))) => {
                keys().find(|key| key.id() == id).ok_or_else(|| missing(id))?.decrypt(owner, text)
            }
            _ => keys().find_map(|key| key.decrypt(owner, &sealed.0)),
        };
        opened.ok_or_else(|| {
            Error::corrupt("could not decrypt a stored secret: it was modified or belongs to another owner")
        })
    }

    /// Rewraps a value that a former key sealed. Returns false if the current key sealed it.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn rewrap(&self, owner: &str, sealed: &mut Sealed) -> Result<bool> {
        let rewrapped = sealed.key() != Some(self.current.id());
        if rewrapped {
            *sealed = self.seal(owner, &self.open(owner, sealed)?)?;
        }
        Ok(rewrapped)
    }

    /// Decodes keys from base64, the current one first.
    pub(super) fn read<'a>(place: &str, texts: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut keys = Vec::new();
        for (before, text) in texts.enumerate() {
            // The error must not contain the text.
            let wrong = |error| Error::invalid(format!("key {} in {place} is invalid: {error}", before + 1));
            keys.push(MasterKey::from_base64(text).map_err(wrong)?);
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or_else(|| Error::invalid(format!("{place} contains no master key")))?;
        Ok(Self { current, former: keys.collect() })
    }
}

fn missing(id: KeyId) -> Error {
    Error::invalid(format!("the master key {id} is missing, which sealed a stored secret")).with("key", id)
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
    fn a_sealed_secret_opens_only_unmodified_and_for_its_owner() {
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
    fn a_missing_key_is_reported_by_id() {
        let (old, new) = (keys(), keys());
        let sealed = old.seal("orders", &SecretString::from("hunter2")).unwrap();
        let error = new.open("orders", &sealed).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(&old.current().id().to_string()), "{error:?}");
    }

    #[test]
    fn values_sealed_before_keys_had_ids_are_rewrapped() {
        let (old, new) = (keys(), keys());
        let mut sealed = Sealed(old.current().encrypt("orders", &SecretString::from("hunter2")).unwrap());
        assert_eq!(sealed.key(), None);
        assert_eq!(new.open("orders", &sealed).unwrap_err().kind(), Kind::Corrupt);
        let new = new.former(old.current().clone());
        assert!(new.rewrap("orders", &mut sealed).unwrap());
        assert_eq!(sealed.key(), Some(new.current().id()));
        assert_eq!(new.open("orders", &sealed).unwrap().expose_secret(), "hunter2");
    }

    #[test]
    fn debug_output_shows_key_ids_and_no_key_material() {
        let keys = keys().former(MasterKey::generate().unwrap());
        let shown = format!("{keys:?} {:?}", keys.current());
        for key in std::iter::once(&keys.current).chain(&keys.former) {
            assert!(!shown.contains(&key.to_base64()[..8]), "{shown}");
            assert!(shown.contains(&key.id().to_string()), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn any_secret_survives_key_rotations(owner in ".{0,40}", secret in ".{0,200}", changes in 1usize..4) {
            let mut keys = keys();
            let mut sealed = keys.seal(&owner, &SecretString::from(secret.as_str())).unwrap();
            for _ in 0..changes {
                let former = keys.current().clone();
                keys = MasterKeys::new(MasterKey::generate().unwrap()).former(former);
                prop_assert!(keys.rewrap(&owner, &mut sealed).unwrap());
                let kept = sealed.clone();
                prop_assert!(!keys.rewrap(&owner, &mut sealed).unwrap());
                prop_assert_eq!(&kept, &sealed);
            }
            let alone = MasterKeys::new(keys.current().clone());
            let opened = alone.open(&owner, &sealed).unwrap();
            prop_assert_eq!(opened.expose_secret(), &secret);
        }

        #[test]
        fn invalid_values_are_rejected_and_not_shown(text in ".{0,120}") {
            let keys = keys();
            prop_assert!(keys.open("orders", &Sealed(text.clone())).is_err());
            let error = MasterKeys::read("here", [keys.current().to_base64().as_str(), &text].into_iter()).unwrap_err();
            prop_assert!(error.to_string().starts_with("key 2 in here is invalid: "));
            let shown = format!("{error:?}");
            prop_assert!(text.len() < 20 || !shown.contains(&text), "{}", shown);
        }
    }
}
