//! What is stored sealed, to be sealed anew when the master key is another.

use super::{Store, StoredIdentity, db::Value, identities, rows};
use crate::{
    error::{Error, Result},
    id::{InstanceId, OperationId},
    secret::{KeyId, Sealed},
};

/// The state of an operation, as text.
#[derive(Clone, Debug)]
pub(crate) struct StoredState {
    /// Whose it is.
    pub(crate) operation: OperationId,
    /// The operation's instance.
    pub(crate) instance: InstanceId,
    /// The operation's kind, with version.
    pub(crate) kind: String,
    /// The state.
    pub(crate) state: String,
}

/// Something that was sealed anew, with what it was before.
#[derive(Clone, Debug)]
pub(crate) enum Resealed {
    /// Who a guest is.
    Identity {
        /// The guest's instance.
        instance: InstanceId,
        /// As it was.
        before: StoredIdentity,
        /// As it is.
        after: StoredIdentity,
    },
    /// What is kept for an operation.
    State {
        /// As it was.
        before: StoredState,
        /// As it is.
        after: String,
    },
    /// The password of a version's login; none where it is dropped.
    Login {
        /// The version's datastore.
        datastore: String,
        /// The version.
        version: String,
        /// As it was.
        before: Sealed,
        /// As it is.
        after: Option<Sealed>,
    },
}

impl Store {
    /// Identities that are not sealed by this key, in their order: those behind `after`, `limit` at the most.
    pub(crate) async fn identities_sealed_otherwise(
        &self,
        key: KeyId,
        after: Option<(InstanceId, u32)>,
        limit: u32,
    ) -> Result<Vec<(InstanceId, StoredIdentity)>> {
        let sql = "SELECT instance, number, rpc_key, password, told FROM guest_identities
            WHERE (rpc_key NOT LIKE $1 OR password NOT LIKE $1) AND (instance > $2 OR (instance = $2 AND number > $3))
            ORDER BY instance, number LIMIT $4";
        let (instance, number) = after.map(|(instance, number)| (instance.to_string(), number)).unwrap_or_default();
        let values = [format!("{key}:%").into(), instance.into(), i64::from(number).into(), i64::from(limit).into()];
        let found = self.db().rows(sql, &values).await?;
        found.iter().map(|row| Ok((rows::id(&row.text("instance")?)?, identities::identity(row)?))).collect()
    }

    /// What is kept for operations, in order of their ids: those behind `after`, `limit` at the most.
    pub(crate) async fn states(&self, after: Option<OperationId>, limit: u32) -> Result<Vec<StoredState>> {
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

    /// The images that instances of a datastore run.
    pub(crate) async fn images(&self, datastore: &str) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT image FROM instances WHERE datastore = $1";
        self.db().rows(sql, &[datastore.into()]).await?.iter().map(|row| row.text("image")).collect()
    }

    /// Puts all of these in the place of what they were; none, and [`Busy`](crate::error::Kind::Busy), where one is not
    /// what it was any more.
    pub(crate) async fn reseal(&self, resealed: &[Resealed]) -> Result<()> {
        let mut tx = self.db().begin().await?;
        for one in resealed {
            let (sql, values) = statement(one)?;
            if tx.execute(sql, &values).await? != 1 {
                return Err(Error::busy("what the store holds was changed by somebody else meanwhile"));
            }
        }
        tx.commit().await
    }
}

fn statement(resealed: &Resealed) -> Result<(&'static str, Vec<Value>)> {
    Ok(match resealed {
        Resealed::Identity { instance, before, after } => (
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
        Resealed::State { before, after } => (
            "UPDATE operations SET state = $3 WHERE id = $1 AND state = $2",
            vec![before.operation.to_string().into(), before.state.clone().into(), after.clone().into()],
        ),
        Resealed::Login { datastore, version, before, after } => (
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
