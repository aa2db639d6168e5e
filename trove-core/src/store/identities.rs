//! The sealed identities of guests: keys and broker passwords.

use super::{Store, db::Row, rows};
use crate::{
    error::{Error, Result},
    guest::SealedGuestIdentity,
    id::InstanceId,
    secret::Sealed,
};

impl Store {
    /// Inserts an identity, unless the instance already has one with that number. Removed with the instance.
    pub(crate) async fn insert_identity(&self, instance: InstanceId, identity: &SealedGuestIdentity) -> Result<()> {
        let sql = "INSERT INTO guest_identities (instance, number, rpc_key, password, told) VALUES ($1, $2, $3, $4, $5) \
            ON CONFLICT (instance, number) DO NOTHING";
        let SealedGuestIdentity { number, key, password, delivered } = identity;
        let values = [
            instance.to_string().into(),
            i64::from(*number).into(),
            rows::word(key)?.into(),
            rows::word(password)?.into(),
            i64::from(*delivered).into(),
        ];
        self.db().execute(sql, &values).await.map(drop)
    }

    /// Returns the identities of an instance, the newest last.
    pub(crate) async fn identities(&self, instance: InstanceId) -> Result<Vec<SealedGuestIdentity>> {
        let sql = "SELECT number, rpc_key, password, told FROM guest_identities WHERE instance = $1 ORDER BY number";
        self.db().rows(sql, &[instance.to_string().into()]).await?.iter().map(identity).collect()
    }

    /// Records that the guest has the identity with this number.
    pub(crate) async fn mark_identity_delivered(&self, instance: InstanceId, number: u32) -> Result<()> {
        let sql = "UPDATE guest_identities SET told = 1 WHERE instance = $1 AND number = $2";
        self.db().execute(sql, &[instance.to_string().into(), i64::from(number).into()]).await.map(drop)
    }

    /// Removes the identity with this number. Succeeds if it does not exist.
    pub(crate) async fn remove_identity(&self, instance: InstanceId, number: u32) -> Result<()> {
        let sql = "DELETE FROM guest_identities WHERE instance = $1 AND number = $2";
        self.db().execute(sql, &[instance.to_string().into(), i64::from(number).into()]).await.map(drop)
    }
}

pub(super) fn identity(row: &Row) -> Result<SealedGuestIdentity> {
    let number = u32::try_from(row.int("number")?)
        .map_err(|_| Error::corrupt("the store contains an invalid identity number"))?;
    let sealed = |column: &str| rows::from_word::<Sealed>(&row.text(column)?);
    Ok(SealedGuestIdentity {
        number,
        key: sealed("rpc_key")?,
        password: sealed("password")?,
        delivered: row.int("told")? != 0,
    })
}
