use async_trait::async_trait;
use sha2::{Digest, Sha256};
use trove_core::datastore::{Accounts, Cx};
use trove_core::error::{Error, Result};
use trove_core::model::{NewUser, Page, PageRequest, User, UserName};
use trove_core::secret::{ExposeSecret, SecretString};
use trove_drivers::container::AGENT;

use crate::ValkeyEngine;

/// The tenant's root.
pub(crate) const ROOT: &str = "root";

/// What users may do. Nothing of it leads to accounts, settings or others' sessions: what does, the server calls dangerous.
const RIGHTS: &str = "~* &* -@all +@read +@write +@keyspace +@pubsub +@transaction +@scripting +@connection -@admin \
    -@dangerous +sort +sort_ro +info +time +acl|whoami";
/// What root may do besides.
const ROOT_RIGHTS: &str = "+keys +flushdb +flushall +swapdb +client|list +slowlog|get +slowlog|len +latency|latest";

#[async_trait]
impl Accounts for ValkeyEngine {
    async fn create_users(&self, _cx: &Cx, users: &[NewUser]) -> Result<()> {
        let _changing = self.changing.lock().await;
        for (number, new) in users.iter().enumerate() {
            let twice = users[..number].iter().any(|other| other.user == new.user);
            self.check_free(&new.user, twice).await?;
        }
        self.change(&hashed(users), None).await
    }

    async fn users(&self, _cx: &Cx, page: &PageRequest) -> Result<Page<User>> {
        let mut names = self.call(&[vec!["ACL", "USERS"]]).await?;
        names.retain(|name| !is_own(name) && page.after.as_ref().is_none_or(|after| name > after));
        names.sort_unstable();
        let users = names.into_iter().map(|name| User::new(name, Vec::new())).collect();
        Ok(Page::of(users, page.limit, |user: &User| user.user.name.clone()))
    }

    async fn user(&self, _cx: &Cx, user: &UserName) -> Result<User> {
        self.hash_of(user).await.map(|_| User::new(user, Vec::new()))
    }

    async fn rename_user(&self, _cx: &Cx, user: &UserName, to: &UserName) -> Result<()> {
        let _changing = self.changing.lock().await;
        let hash = self.hash_of(user).await?;
        if user == to {
            return Ok(());
        }
        self.check_free(to, false).await?;
        self.change(&[(&to.name, hash)], Some(&user.name)).await
    }

    async fn set_password(&self, _cx: &Cx, user: &UserName, password: &SecretString) -> Result<()> {
        let _changing = self.changing.lock().await;
        self.hash_of(user).await?;
        self.change(&[(&user.name, hash(password))], None).await
    }

    async fn drop_user(&self, _cx: &Cx, user: &UserName) -> Result<()> {
        let _changing = self.changing.lock().await;
        if is_own(&user.name) { Ok(()) } else { self.change(&[], Some(&user.name)).await }
    }

    async fn enable_root(&self, _cx: &Cx, password: &SecretString) -> Result<String> {
        self.change(&[(ROOT, hash(password))], None).await.map(|()| ROOT.to_owned())
    }

    async fn disable_root(&self, _cx: &Cx) -> Result<()> {
        self.change(&[], Some(ROOT)).await
    }

    async fn root_enabled(&self, _cx: &Cx) -> Result<bool> {
        Ok(!self.call(&[vec!["ACL", "GETUSER", ROOT]]).await?.is_empty())
    }
}

impl ValkeyEngine {
    /// Makes these users what they should be and drops another, all or nothing of it, in memory and on disk.
    pub(crate) async fn change(&self, users: &[(&str, String)], gone: Option<&str>) -> Result<()> {
        let mut commands = vec![vec!["MULTI"]];
        for (name, hash) in users {
            if name.contains(' ') {
                return Err(Error::invalid(format!("a user name must not hold a space: {name:?}")));
            }
            let rights = RIGHTS.split(' ').chain(if *name == ROOT { ROOT_RIGHTS } else { "" }.split_whitespace());
            commands.push(["ACL", "SETUSER", name, "reset", "on", hash].into_iter().chain(rights).collect());
        }
        commands.extend(gone.map(|name| vec!["ACL", "DELUSER", name]));
        commands.extend([vec!["ACL", "SAVE"], vec!["EXEC"]]);
        let done = self.call(&commands).await;
        if done.is_err() {
            // What could not be saved is not to be in force either.
            let _ = self.call(&[vec!["ACL", "LOAD"]]).await;
        }
        done.map(drop)
    }

    /// What the server keeps of a user's password; nothing for the users that are no tenant's.
    async fn find(&self, user: &UserName) -> Result<Option<String>> {
        let told = self.call(&[vec!["ACL", "GETUSER", &user.name]]).await?;
        let hash = told.into_iter().skip_while(|word| word != "passwords").nth(1).filter(|_| !is_own(&user.name));
        Ok(hash.map(|hash| format!("#{hash}")))
    }

    async fn hash_of(&self, user: &UserName) -> Result<String> {
        self.find(user).await?.ok_or_else(|| Error::not_found(format!("there is no user {:?}", user.name)))
    }

    async fn check_free(&self, user: &UserName, taken: bool) -> Result<()> {
        if taken || self.find(user).await?.is_some() {
            return Err(Error::conflict(format!("there is a user {:?} already", user.name)));
        }
        Ok(())
    }
}

fn is_own(name: &str) -> bool {
    [AGENT, ROOT, "default"].contains(&name)
}

/// The names of these users, with their hashes.
pub(crate) fn hashed(users: &[NewUser]) -> Vec<(&str, String)> {
    users.iter().map(|new| (new.user.name.as_str(), hash(&new.password))).collect()
}

/// A password as the server keeps it, so that the password itself never reaches it.
pub(crate) fn hash(password: &SecretString) -> String {
    let digest = Sha256::digest(password.expose_secret());
    digest.iter().fold("#".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}
