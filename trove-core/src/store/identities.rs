//! Who guests are: their keys and passwords, sealed.

use super::{Store, db::Row, rows};
use crate::{
    error::{Error, Result},
    id::InstanceId,
    secret::Sealed,
};

/// A guest's identity as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredIdentity {
    /// Which of the instance's it is, from 1 on.
    pub number: u32,
    /// The key that its messages are sealed with.
    pub key: Sealed,
    /// The password that it logs in to the bus with.
    pub password: Sealed,
}

impl Store {
    /// Writes an identity down, unless the instance has one of that number already. It goes with the instance.
    pub async fn insert_identity(&self, instance: InstanceId, identity: &StoredIdentity) -> Result<()> {
        let sql = "INSERT INTO guest_identities (instance, number, rpc_key, password) VALUES ($1, $2, $3, $4) \
            ON CONFLICT (instance, number) DO NOTHING";
        let StoredIdentity { number, key, password } = identity;
        let values = [
            instance.to_string().into(),
            i64::from(*number).into(),
            rows::word(key)?.into(),
            rows::word(password)?.into(),
        ];
        self.db().execute(sql, &values).await.map(drop)
    }

    /// The instance's identities, the newest last.
    pub async fn identities(&self, instance: InstanceId) -> Result<Vec<StoredIdentity>> {
        let sql = "SELECT number, rpc_key, password FROM guest_identities WHERE instance = $1 ORDER BY number";
        self.db().rows(sql, &[instance.to_string().into()]).await?.iter().map(identity).collect()
    }
}

fn identity(row: &Row) -> Result<StoredIdentity> {
    let number = u32::try_from(row.int("number")?).map_err(|_| Error::corrupt("the store has an impossible number"))?;
    let sealed = |column: &str| rows::from_word::<Sealed>(&row.text(column)?);
    Ok(StoredIdentity { number, key: sealed("rpc_key")?, password: sealed("password")? })
}
