use std::collections::BTreeMap;

use async_trait::async_trait;
use redis::pipe;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use trove_core::datastore::Logins;
use trove_core::error::{Error, Result};
use trove_core::secret::{ExposeSecret, SecretString};
use trove_drivers::container::AGENT;

use crate::ValkeyEngine;

/// What users may do. Nothing of it leads to accounts, settings or others' sessions: what does, the server calls dangerous.
const RIGHTS: &str = "~* &* -@all +@read +@write +@keyspace +@pubsub +@transaction +@scripting +@connection -@admin \
    -@dangerous +sort +sort_ro +info +time +acl|whoami";
/// What root may do besides.
const ROOT_RIGHTS: &str = "+keys +flushdb +flushall +swapdb +client|list +slowlog|get +slowlog|len +latency|latest";

#[async_trait]
impl Logins for ValkeyEngine {
    fn changing(&self) -> &Mutex<()> {
        &self.changing
    }

    /// Hashed here, so that the password itself never reaches the server.
    fn verifier(&self, password: &SecretString) -> String {
        let digest = Sha256::digest(password.expose_secret());
        digest.iter().fold("#".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }

    async fn logins(&self) -> Result<BTreeMap<String, String>> {
        let lines: Vec<String> = self.call("ACL", &["LIST"]).await?;
        let logins = lines.iter().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?.to_owned(), words.find(|word| word.starts_with('#'))?.to_owned()))
        });
        Ok(logins.filter(|(name, _)| name != AGENT).collect())
    }

    async fn change(&self, logins: &[(&str, String)], gone: Option<&str>) -> Result<()> {
        let mut change = pipe();
        change.atomic();
        for (name, hash) in logins {
            if name.contains(' ') {
                return Err(Error::invalid(format!("a user name must not hold a space: {name:?}")));
            }
            let rights = RIGHTS.split(' ').chain(ROOT_RIGHTS.split(' ').filter(|_| *name == Self::ROOT));
            change.cmd("ACL").arg(&["SETUSER", name, "reset", "on", hash]).arg(rights.collect::<Vec<_>>());
        }
        if let Some(name) = gone {
            change.cmd("ACL").arg(&["DELUSER", name]);
        }
        let done = self.run(change.cmd("ACL").arg("SAVE")).await;
        if done.is_err() {
            // What could not be saved is not to be in force either.
            let _: Result<()> = self.call("ACL", &["LOAD"]).await;
        }
        done
    }
}
