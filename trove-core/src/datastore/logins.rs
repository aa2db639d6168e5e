//! Accounts of an engine whose users share all that the server holds.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{AccountRules, Accounts, Cx};
use crate::{
    error::{Error, Result},
    model::{NewUser, Page, PageRequest, User, UserName},
    secret::SecretString,
};

/// Users who share all that a server holds, so that one is nothing but a name and a password. What implements this has
/// [`Accounts`], without [databases](AccountRules::databases).
///
/// A verifier is what the server keeps of a password. The tenant's root is a login like any other while it is enabled.
#[async_trait]
pub trait Logins: Send + Sync {
    /// The tenant's root.
    const ROOT: &'static str = "root";

    /// The rules on these users, for the manifest: names no longer than so many bytes, and neither root's nor one of the
    /// server's own.
    fn rules(max_name_bytes: usize, own: &[&str]) -> AccountRules
    where
        Self: Sized,
    {
        let mut rules = AccountRules::new(max_name_bytes);
        rules.databases = false;
        rules.reserved_users = [own, &[Self::ROOT]].concat().into_iter().map(str::to_owned).collect();
        rules
    }

    /// Held by who looks at the logins and then changes them. Belongs to the instance.
    fn changing(&self) -> &Mutex<()>;

    /// The verifier of a password.
    fn verifier(&self, password: &SecretString) -> String;

    /// The logins that are the tenant's, root's among them, each with its verifier.
    async fn logins(&self) -> Result<BTreeMap<String, String>>;

    /// Makes these logins what they should be, new or not, and removes another, absent or not, ending its sessions: all
    /// or nothing of it, and for good.
    async fn change(&self, logins: &[(&str, String)], gone: Option<&str>) -> Result<()>;

    /// Makes these users what they should be, new or not.
    async fn put(&self, users: &[NewUser]) -> Result<()> {
        let logins: Vec<_> = users.iter().map(|new| (&*new.user.name, self.verifier(&new.password))).collect();
        self.change(&logins, None).await
    }
}

#[async_trait]
impl<T: Logins> Accounts for T {
    async fn create_users(&self, _cx: &Cx, users: &[NewUser]) -> Result<()> {
        let _changing = self.changing().lock().await;
        let mut taken = users_of(self).await?;
        for new in users {
            if taken.insert(new.user.name.clone(), String::new()).is_some() {
                return Err(exists(&new.user));
            }
        }
        self.put(users).await
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
        let _changing = self.changing().lock().await;
        let mut users = users_of(self).await?;
        let verifier = take(&mut users, user)?;
        if user.name == to.name {
            return Ok(());
        }
        if users.contains_key(&to.name) {
            return Err(exists(to));
        }
        self.change(&[(&to.name, verifier)], Some(&user.name)).await
    }

    async fn set_password(&self, _cx: &Cx, user: &UserName, password: &SecretString) -> Result<()> {
        let _changing = self.changing().lock().await;
        take(&mut users_of(self).await?, user)?;
        self.change(&[(&user.name, self.verifier(password))], None).await
    }

    async fn drop_user(&self, _cx: &Cx, user: &UserName) -> Result<()> {
        let _changing = self.changing().lock().await;
        match users_of(self).await?.contains_key(&user.name) {
            true => self.change(&[], Some(&user.name)).await,
            false => Ok(()),
        }
    }

    async fn enable_root(&self, _cx: &Cx, password: &SecretString) -> Result<String> {
        let _changing = self.changing().lock().await;
        self.change(&[(T::ROOT, self.verifier(password))], None).await.map(|()| T::ROOT.to_owned())
    }

    async fn disable_root(&self, _cx: &Cx) -> Result<()> {
        let _changing = self.changing().lock().await;
        self.change(&[], Some(T::ROOT)).await
    }

    async fn root_enabled(&self, _cx: &Cx) -> Result<bool> {
        Ok(self.logins().await?.contains_key(T::ROOT))
    }
}

/// The logins but root's.
async fn users_of<T: Logins>(engine: &T) -> Result<BTreeMap<String, String>> {
    let mut users = engine.logins().await?;
    users.remove(T::ROOT);
    Ok(users)
}

fn take(users: &mut BTreeMap<String, String>, user: &UserName) -> Result<String> {
    users.remove(&user.name).ok_or_else(|| Error::not_found(format!("there is no user {:?}", user.name)))
}

fn exists(user: &UserName) -> Error {
    Error::conflict(format!("there is a user {:?} already", user.name))
}

#[cfg(test)]
mod tests {
    use std::sync;

    use super::*;
    use crate::{error::Kind, id::OperationId, secret::ExposeSecret};

    #[derive(Default)]
    struct Server {
        changing: Mutex<()>,
        logins: sync::Mutex<BTreeMap<String, String>>,
    }

    #[async_trait]
    impl Logins for Server {
        fn changing(&self) -> &Mutex<()> {
            &self.changing
        }

        fn verifier(&self, password: &SecretString) -> String {
            format!("#{}", password.expose_secret())
        }

        async fn logins(&self) -> Result<BTreeMap<String, String>> {
            Ok(self.logins.lock().unwrap().clone())
        }

        async fn change(&self, logins: &[(&str, String)], gone: Option<&str>) -> Result<()> {
            let mut known = self.logins.lock().unwrap();
            known.extend(logins.iter().map(|(name, verifier)| ((*name).to_owned(), verifier.clone())));
            if let Some(name) = gone {
                known.remove(name);
            }
            Ok(())
        }
    }

    impl Server {
        fn has(&self) -> String {
            let logins = self.logins.lock().unwrap();
            logins.iter().map(|(name, verifier)| format!("{name}{verifier} ")).collect()
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
    async fn a_renamed_user_keeps_its_password_and_takes_nobodys_place() {
        let (server, cx) = (Server::default(), Cx::new(OperationId::new_v4(), 1));
        server.put(&[user("ann"), user("bob")]).await.unwrap();
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
    async fn root_is_no_user() {
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
    async fn users_are_listed_by_pages() {
        let (server, cx) = (Server::default(), Cx::new(OperationId::new_v4(), 1));
        server.put(&["ann", "bob", "root", "zoe"].map(user)).await.unwrap();
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
