//! Places that were made for throw-away servers: written down before they are made, until they were given back.

use super::{Store, rows};
use crate::{error::Result, id::InstanceId};

impl Store {
    /// Notes that a place will be made under this id.
    pub async fn begin_trial(&self, id: InstanceId) -> Result<()> {
        self.db().execute("INSERT INTO trials (id) VALUES ($1)", &[id.to_string().into()]).await.map(drop)
    }

    /// Notes that the place is gone.
    pub async fn end_trial(&self, id: InstanceId) -> Result<()> {
        self.db().execute("DELETE FROM trials WHERE id = $1", &[id.to_string().into()]).await.map(drop)
    }

    /// The places that were not given back.
    pub async fn trials(&self) -> Result<Vec<InstanceId>> {
        let found = self.db().rows("SELECT id FROM trials", &[]).await?;
        found.iter().map(|row| rows::id(&row.text("id")?)).collect()
    }
}
