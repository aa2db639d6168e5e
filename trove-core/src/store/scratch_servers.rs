//! Resources of scratch servers: recorded before they are created and until they are released, so
//! that a restart of the service releases what a crash left.

use super::{Store, rows};
use crate::{error::Result, id::InstanceId};

impl Store {
    /// Records that resources will be created under this id.
    pub(crate) async fn insert_scratch_server(&self, id: InstanceId) -> Result<()> {
        self.db().execute("INSERT INTO trials (id) VALUES ($1)", &[id.to_string().into()]).await.map(drop)
    }

    /// Records that the resources under this id are released.
    pub(crate) async fn delete_scratch_server(&self, id: InstanceId) -> Result<()> {
        self.db().execute("DELETE FROM trials WHERE id = $1", &[id.to_string().into()]).await.map(drop)
    }

    /// Returns the ids under which resources may exist.
    pub(crate) async fn scratch_servers(&self) -> Result<Vec<InstanceId>> {
        let found = self.db().rows("SELECT id FROM trials", &[]).await?;
        found.iter().map(|row| rows::id(&row.text("id")?)).collect()
    }
}
