use std::collections::BTreeMap;

use async_trait::async_trait;
use redis::pipe;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use trove_core::datastore::UserStore;
use trove_core::error::{Error, Result};
use trove_core::secret::{ExposeSecret, SecretString};
use trove_drivers::container::AGENT;

use crate::{ValkeyEngine, rejected};

/// The permissions of users. Commands on accounts, settings and other sessions are in `@dangerous`.
const RIGHTS: &str = "~* &* -@all +@read +@write +@keyspace +@pubsub +@transaction +@scripting +@connection -@admin \
    -@dangerous +sort +sort_ro +info +time +acl|whoami";
/// The additional permissions of root.
const ROOT_RIGHTS: &str = "+keys +flushdb +flushall +swapdb +client|list +slowlog|get +slowlog|len +latency|latest";

#[async_trait]
impl UserStore for ValkeyEngine {
    fn lock(&self) -> &Mutex<()> {
        &self.changes
    }

    /// Hashes here, so that the password itself never reaches the server.
    fn hash_password(&self, password: &SecretString) -> String {
        let digest = Sha256::digest(password.expose_secret());
        digest.iter().fold("#".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }

    async fn password_hashes(&self) -> Result<BTreeMap<String, String>> {
        let lines: Vec<String> = self.call("ACL", &["LIST"]).await?;
        let users = lines.iter().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?.to_owned(), words.find(|word| word.starts_with('#'))?.to_owned()))
        });
        Ok(users.filter(|(name, _)| name != AGENT).collect())
    }

    async fn update(&self, upserts: &[(&str, String)], dropped: Option<&str>) -> Result<()> {
        let mut change = pipe();
        change.atomic();
        for (name, hash) in upserts {
            if name.contains(' ') {
                return Err(Error::invalid(format!("a user name must not contain a space: {name:?}")));
            }
            let rights = RIGHTS.split(' ').chain(ROOT_RIGHTS.split(' ').filter(|_| *name == Self::ROOT));
            change.cmd("ACL").arg(&["SETUSER", name, "reset", "on", hash]).arg(rights.collect::<Vec<_>>());
        }
        if let Some(name) = dropped {
            change.cmd("ACL").arg(&["DELUSER", name]);
        }
        let saved = self.run(change.cmd("ACL").arg("SAVE")).await.and_then(|reply| reply.map_err(rejected));
        if saved.is_err() {
            // Roll back in memory what could not be saved.
            let _: Result<()> = self.call("ACL", &["LOAD"]).await;
        }
        saved
    }
}
