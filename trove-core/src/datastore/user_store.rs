use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{AccountRules, Accounts, Cx};
use crate::{
    error::{Error, Result},
    model::{NewUser, Page, PageRequest, User, UserName},
    secret::SecretString,
};

/// Stores the users of an engine without databases of its own, where a user is only a name and a
/// password hash. An engine that implements this has [`Accounts`], without
/// [databases](AccountRules::databases).
///
/// While the tenant's root user is enabled, it is a user of this store like any other.
///
/// ```
/// use std::{collections::BTreeMap, sync};
///
/// use async_trait::async_trait;
/// use trove_core::{
///     datastore::{Accounts, Cx, UserStore},
///     error::Result,
///     id::OperationId,
///     model::NewUser,
///     secret::{ExposeSecret, SecretString},
/// };
///
/// #[derive(Default)]
/// struct Engine {
///     changes: tokio::sync::Mutex<()>,
///     users: sync::Mutex<BTreeMap<String, String>>,
/// }
///
/// #[async_trait]
/// impl UserStore for Engine {
///     fn lock(&self) -> &tokio::sync::Mutex<()> {
///         &self.changes
///     }
///
///     fn hash_password(&self, password: &SecretString) -> String {
///         format!("a hash of {} bytes", password.expose_secret().len())
///     }
///
///     async fn password_hashes(&self) -> Result<BTreeMap<String, String>> {
///         Ok(self.users.lock().unwrap().clone())
///     }
///
///     async fn update(&self, upserts: &[(&str, String)], dropped: Option<&str>) -> Result<()> {
///         let mut users = self.users.lock().unwrap();
///         users.extend(upserts.iter().map(|(name, hash)| ((*name).to_owned(), hash.clone())));
///         users.retain(|name, _| Some(name.as_str()) != dropped);
///         Ok(())
///     }
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let (engine, cx) = (Engine::default(), Cx::new(OperationId::new_v4(), 1));
/// engine.create_users(&cx, &[NewUser::new("ann", "secret")]).await?;
/// assert_eq!(engine.user(&cx, &"ann".into()).await?.user.name, "ann");
/// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait UserStore: Send + Sync {
    /// The name of the tenant's root user.
    const ROOT: &'static str = "root";

    /// Returns the account rules for the manifest: a limit on the length of names, and the names
    /// that are reserved, to which this adds the root user's.
    fn rules(max_name_bytes: usize, reserved: &[&str]) -> AccountRules
    where
        Self: Sized,
    {
        let mut rules = AccountRules::new(max_name_bytes);
        rules.databases = false;
        rules.reserved_users = [reserved, &[Self::ROOT]].concat().into_iter().map(str::to_owned).collect();
        rules
    }

    /// Returns the instance's lock that serializes read-modify-write changes.
    fn lock(&self) -> &Mutex<()>;

    /// Returns what the server stores of a password.
    fn hash_password(&self, password: &SecretString) -> String;

    /// Returns the tenant's users, including an enabled root user, with their password hashes.
    async fn password_hashes(&self) -> Result<BTreeMap<String, String>>;

    /// Creates or replaces users, and drops another one, terminating its sessions; `Ok` if it is
    /// absent. Applies all of it or nothing, durably.
    async fn update(&self, upserts: &[(&str, String)], dropped: Option<&str>) -> Result<()>;

    /// Creates or replaces users.
    async fn upsert(&self, users: &[NewUser]) -> Result<()> {
        let upserts: Vec<_> = users.iter().map(|new| (&*new.user.name, self.hash_password(&new.password))).collect();
        self.update(&upserts, None).await
    }
}

#[async_trait]
impl<T: UserStore> Accounts for T {
    async fn create_users(&self, _cx: &Cx, users: &[NewUser]) -> Result<()> {
        let _guard = self.lock().lock().await;
        let mut taken = users_of(self).await?;
        for new in users {
            if taken.insert(new.user.name.clone(), String::new()).is_some() {
                return Err(exists(&new.user));
            }
        }
        self.upsert(users).await
    }

    async fn users(&self, _cx: &Cx, page: &PageRequest) -> Result<Page<User>> {
        let names = users_of(self).await?.into_keys();
        let names = names.filter(|name| page.after.as_ref().is_none_or(|after| name > after));
        let users = names.map(|name| User::new(name, Vec::new())).collect();
        Ok(Page::of(users, page.limit, |user: &User| user.user.name.clone()))
    }

    async fn user(&self, _cx: &Cx, user: &UserName) -> Result<User> {
        take(&mut users_of(self).await?, user).map(|_| User::new(user, Vec::new()))
    }

    async fn rename_user(&self, _cx: &Cx, user: &UserName, to: &UserName) -> Result<()> {
        let _guard = self.lock().lock().await;
        let mut users = users_of(self).await?;
        let hash = take(&mut users, user)?;
        if user.name == to.name {
            return Ok(());
        }
        if users.contains_key(&to.name) {
            return Err(exists(to));
        }
        self.update(&[(&to.name, hash)], Some(&user.name)).await
    }

    async fn set_password(&self, _cx: &Cx, user: &UserName, password: &SecretString) -> Result<()> {
        let _guard = self.lock().lock().await;
        take(&mut users_of(self).await?, user)?;
        self.update(&[(&user.name, self.hash_password(password))], None).await
    }

    async fn drop_user(&self, _cx: &Cx, user: &UserName) -> Result<()> {
        let _guard = self.lock().lock().await;
        match users_of(self).await?.contains_key(&user.name) {
            true => self.update(&[], Some(&user.name)).await,
            false => Ok(()),
        }
    }

    async fn enable_root(&self, _cx: &Cx, password: &SecretString) -> Result<String> {
        let _guard = self.lock().lock().await;
        self.update(&[(T::ROOT, self.hash_password(password))], None).await.map(|()| T::ROOT.to_owned())
    }

    async fn disable_root(&self, _cx: &Cx) -> Result<()> {
        let _guard = self.lock().lock().await;
        self.update(&[], Some(T::ROOT)).await
    }

    async fn root_enabled(&self, _cx: &Cx) -> Result<bool> {
        Ok(self.password_hashes().await?.contains_key(T::ROOT))
    }
}

/// Returns all users but the root user.
async fn users_of<T: UserStore>(engine: &T) -> Result<BTreeMap<String, String>> {
    let mut users = engine.password_hashes().await?;
    users.remove(T::ROOT);
    Ok(users)
}

fn take(users: &mut BTreeMap<String, String>, user: &UserName) -> Result<String> {
    users.remove(&user.name).ok_or_else(|| Error::not_found(format!("user {:?} does not exist", user.name)))
}

fn exists(user: &UserName) -> Error {
    Error::conflict(format!("user {:?} already exists", user.name))
}

#[cfg(test)]
mod tests {
    use std::sync;

    use super::*;
    use crate::{error::Kind, id::OperationId, secret::ExposeSecret};

    #[derive(Default)]
    struct Server {
        changes: Mutex<()>,
        users: sync::Mutex<BTreeMap<String, String>>,
    }

    #[async_trait]
    impl UserStore for Server {
        fn lock(&self) -> &Mutex<()> {
            &self.changes
        }

        fn hash_password(&self, password: &SecretString) -> String {
            format!("#{}", password.expose_secret())
        }

        async fn password_hashes(&self) -> Result<BTreeMap<String, String>> {
            Ok(self.users.lock().unwrap().clone())
        }

        async fn update(&self, upserts: &[(&str, String)], dropped: Option<&str>) -> Result<()> {
            let mut known = self.users.lock().unwrap();
            known.extend(upserts.iter().map(|(name, hash)| ((*name).to_owned(), hash.clone())));
            if let Some(name) = dropped {
                known.remove(name);
            }
            Ok(())
        }
    }

    impl Server {
        fn has(&self) -> String {
            let users = self.users.lock().unwrap();
            users.iter().map(|(name, hash)| format!("{name}{hash} ")).collect()
        }
    }

    fn user(name: &str) -> NewUser {
        NewUser::new(name, SecretString::from("1"))
    }

    #[tokio::test]
    async fn users_are_created_all_or_none() {
        let (server, cx) = (Server::default(), Cx::new(OperationId::new_v4(), 1));
        server.create_users(&cx, &[user("ann"), user("bob")]).await.unwrap();
        for users in [[user("carl"), user("ann")], [user("carl"), user("carl")]] {
            assert_eq!(server.create_users(&cx, &users).await.unwrap_err().kind(), Kind::Conflict);
        }
        assert_eq!(server.has(), "ann#1 bob#1 ");
    }

    #[tokio::test]
    async fn a_renamed_user_keeps_its_password_and_never_replaces_another() {
        let (server, cx) = (Server::default(), Cx::new(OperationId::new_v4(), 1));
        server.upsert(&[user("ann"), user("bob")]).await.unwrap();
        let [ann, bob, carl] = ["ann", "bob", "carl"].map(UserName::from);
        assert_eq!(server.rename_user(&cx, &ann, &bob).await.unwrap_err().kind(), Kind::Conflict);
        assert_eq!(server.rename_user(&cx, &carl, &bob).await.unwrap_err().kind(), Kind::NotFound);
        server.set_password(&cx, &ann, &"2".into()).await.unwrap();
        server.rename_user(&cx, &ann, &ann).await.unwrap();
        server.rename_user(&cx, &ann, &carl).await.unwrap();
        assert_eq!(server.has(), "bob#1 carl#2 ");
        assert_eq!(server.set_password(&cx, &ann, &"3".into()).await.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(server.has(), "bob#1 carl#2 ");
    }

    #[tokio::test]
    async fn the_root_user_is_not_listed_or_changed_as_a_user() {
        let rules = Server::rules(8, &["own"]);
        assert_eq!(["own", "root", "ann"].map(|name| rules.check_user(&name.into()).is_ok()), [false, false, true]);
        let (server, cx) = (Server::default(), Cx::new(OperationId::new_v4(), 1));
        let root = UserName::from(server.enable_root(&cx, &"1".into()).await.unwrap());
        assert!(server.root_enabled(&cx).await.unwrap());
        assert_eq!(server.user(&cx, &root).await.unwrap_err().kind(), Kind::NotFound);
        server.drop_user(&cx, &root).await.unwrap();
        assert_eq!(server.has(), "root#1 ");
        server.disable_root(&cx).await.unwrap();
        assert!(!server.root_enabled(&cx).await.unwrap());
    }

    #[tokio::test]
    async fn users_are_paginated_without_root() {
        let (server, cx) = (Server::default(), Cx::new(OperationId::new_v4(), 1));
        server.upsert(&["ann", "bob", "root", "zoe"].map(user)).await.unwrap();
        let (mut page, mut names) = (PageRequest::default(), Vec::new());
        page.limit = 2;
        loop {
            let listed = server.users(&cx, &page).await.unwrap();
            names.extend(listed.items.into_iter().map(|user| user.user.name));
            page.after = listed.next;
            if page.after.is_none() {
                break;
            }
        }
        assert_eq!(names, ["ann", "bob", "zoe"]);
    }
}
