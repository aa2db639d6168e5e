//! Sealed values, which are rewrapped when the master key changes.

use super::{Store, db::Value, identities, rows};
use crate::{
    error::{Error, Result},
    guest::SealedGuestIdentity,
    id::{InstanceId, OperationId},
    secret::{KeyId, Sealed},
};

/// The state of an operation as text.
#[derive(Clone, Debug)]
pub(crate) struct StoredState {
    /// The operation.
    pub(crate) operation: OperationId,
    /// The instance of the operation.
    pub(crate) instance: InstanceId,
    /// The kind of the operation, with its version.
    pub(crate) kind: String,
    /// The state.
    pub(crate) state: String,
}

/// A sealed value that was rewrapped, with its former value.
#[derive(Clone, Debug)]
pub(crate) enum Rewrapped {
    /// The identity of a guest.
    Identity {
        /// The instance of the guest.
        instance: InstanceId,
        /// The former value.
        before: SealedGuestIdentity,
        /// The new value.
        after: SealedGuestIdentity,
    },
    /// The state of an operation.
    State {
        /// The former value.
        before: StoredState,
        /// The new value.
        after: String,
    },
    /// The registry password of a version.
    RegistryPassword {
        /// The datastore of the version.
        datastore: String,
        /// The version.
        version: String,
        /// The former value.
        before: Sealed,
        /// The new value; `None` removes the password.
        after: Option<Sealed>,
    },
}

impl Store {
    /// Returns up to `limit` identities that are not sealed by this key, in order, starting behind
    /// `after`.
    pub(crate) async fn identities_not_sealed_by(
        &self,
        key: KeyId,
        after: Option<(InstanceId, u32)>,
        limit: u32,
    ) -> Result<Vec<(InstanceId, SealedGuestIdentity)>> {
        let sql = "SELECT instance, number, rpc_key, password, told FROM guest_identities
            WHERE (rpc_key NOT LIKE $1 OR password NOT LIKE $1) AND (instance > $2 OR (instance = $2 AND number > $3))
            ORDER BY instance, number LIMIT $4";
        let (instance, number) = after.map(|(instance, number)| (instance.to_string(), number)).unwrap_or_default();
        let values = [format!("{key}:%").into(), instance.into(), i64::from(number).into(), i64::from(limit).into()];
        let found = self.db().rows(sql, &values).await?;
        found.iter().map(|row| Ok((rows::id(&row.text("instance")?)?, identities::identity(row)?))).collect()
    }

    /// Returns up to `limit` states of operations in order of operation id, starting behind
    /// `after`.
    pub(crate) async fn operation_states(&self, after: Option<OperationId>, limit: u32) -> Result<Vec<StoredState>> {
        let sql = "SELECT id, instance, kind, state FROM operations WHERE state <> 'null' AND id > $1
            ORDER BY id LIMIT $2";
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let found = self.db().rows(sql, &[after.into(), i64::from(limit).into()]).await?;
        let state = |row: &super::db::Row| {
            Ok(StoredState {
                operation: rows::id(&row.text("id")?)?,
                instance: rows::id(&row.text("instance")?)?,
                kind: row.text("kind")?,
                state: row.text("state")?,
            })
        };
        found.iter().map(state).collect()
    }

    /// Returns the images that the instances of a datastore run.
    pub(crate) async fn images_in_use(&self, datastore: &str) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT image FROM instances WHERE datastore = $1";
        self.db().rows(sql, &[datastore.into()]).await?.iter().map(|row| row.text("image")).collect()
    }

    /// Compare-and-swaps all values in one transaction; [`Busy`](crate::error::Kind::Busy) if any
    /// changed.
    pub(crate) async fn rewrap(&self, rewrapped: &[Rewrapped]) -> Result<()> {
        let mut tx = self.db().begin().await?;
        for one in rewrapped {
            let (sql, values) = statement(one)?;
            if tx.execute(sql, &values).await? != 1 {
                return Err(Error::busy("a sealed value was changed concurrently"));
            }
        }
        tx.commit().await
    }
}

fn statement(rewrapped: &Rewrapped) -> Result<(&'static str, Vec<Value>)> {
    Ok(match rewrapped {
        Rewrapped::Identity { instance, before, after } => (
            "UPDATE guest_identities SET rpc_key = $5, password = $6
            WHERE instance = $1 AND number = $2 AND rpc_key = $3 AND password = $4",
            vec![
                instance.to_string().into(),
                i64::from(before.number).into(),
                rows::word(&before.key)?.into(),
                rows::word(&before.password)?.into(),
                rows::word(&after.key)?.into(),
                rows::word(&after.password)?.into(),
            ],
        ),
        Rewrapped::State { before, after } => (
            "UPDATE operations SET state = $3 WHERE id = $1 AND state = $2",
            vec![before.operation.to_string().into(), before.state.clone().into(), after.clone().into()],
        ),
        Rewrapped::RegistryPassword { datastore, version, before, after } => (
            "UPDATE datastore_versions SET password = $4 WHERE datastore = $1 AND name = $2 AND password = $3",
            vec![
                datastore.clone().into(),
                version.clone().into(),
                rows::word(before)?.into(),
                after.as_ref().map(rows::word).transpose()?.into(),
            ],
        ),
    })
}
