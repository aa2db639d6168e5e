use async_trait::async_trait;

use super::{Account, Server, datastore::MemoryDatastore};
use crate::{
    datastore::{Accounts, Cx},
    error::{Error, Result},
    model::{Database, NewDatabase, NewUser, Page, PageRequest, User, UserName},
    secret::SecretString,
};

pub(super) const ROOT: &str = "root";

#[async_trait]
impl Accounts for MemoryDatastore {
    async fn create_databases(&self, _cx: &Cx, databases: &[NewDatabase]) -> Result<()> {
        self.on_server("create_databases", |server| {
            server.databases.extend(databases.iter().map(|database| database.name.clone()));
            Ok(())
        })
        .await
    }

    async fn databases(&self, _cx: &Cx, page: &PageRequest) -> Result<Page<Database>> {
        self.on_server("databases", |server| {
            let found = server.databases.iter().filter(|name| is_after(name, page)).map(Database::new);
            Ok(Page::of(found.collect(), page.limit, |database| database.name.clone()))
        })
        .await
    }

    async fn drop_database(&self, _cx: &Cx, name: &str) -> Result<()> {
        self.on_server("drop_database", |server| {
            server.databases.remove(name);
            server.tables.remove(name);
            server.end_sessions(|session| session.database.as_deref() == Some(name));
            for user in server.users.values_mut() {
                user.databases.remove(name);
            }
            Ok(())
        })
        .await
    }

    async fn create_users(&self, _cx: &Cx, users: &[NewUser]) -> Result<()> {
        self.on_server("create_users", |server| {
            for user in users {
                if server.users.contains_key(&user.user.name) {
                    return Err(Error::conflict(format!("user {:?} exists already", user.user.name)));
                }
                check_databases(server, &user.databases)?;
            }
            for user in users {
                let databases = user.databases.iter().cloned().collect();
                let account = Account { password: user.password.clone(), databases };
                server.users.insert(user.user.name.clone(), account);
            }
            Ok(())
        })
        .await
    }

    async fn users(&self, _cx: &Cx, page: &PageRequest) -> Result<Page<User>> {
        self.on_server("users", |server| {
            let found = server.users.iter().filter(|(name, _)| is_after(name, page));
            let users = found.map(|(name, account)| shown(name, account)).collect();
            Ok(Page::of(users, page.limit, |user: &User| user.user.to_string()))
        })
        .await
    }

    async fn user(&self, _cx: &Cx, user: &UserName) -> Result<User> {
        let name = &user.name;
        self.on_server("user", |server| account(server, name).map(|account| shown(name, account))).await
    }

    async fn rename_user(&self, _cx: &Cx, user: &UserName, to: &UserName) -> Result<()> {
        self.on_server("rename_user", |server| {
            if server.users.contains_key(&to.name) {
                return Err(Error::conflict(format!("user {:?} exists already", to.name)));
            }
            let account = account(server, &user.name)?.clone();
            server.users.remove(&user.name);
            server.users.insert(to.name.clone(), account);
            Ok(())
        })
        .await
    }

    async fn set_password(&self, _cx: &Cx, user: &UserName, password: &SecretString) -> Result<()> {
        self.on_server("set_password", |server| {
            account(server, &user.name)?.password = password.clone();
            Ok(())
        })
        .await
    }

    async fn grant(&self, _cx: &Cx, user: &UserName, databases: &[String]) -> Result<()> {
        self.on_server("grant", |server| {
            check_databases(server, databases)?;
            account(server, &user.name)?.databases.extend(databases.iter().cloned());
            Ok(())
        })
        .await
    }

    async fn revoke(&self, _cx: &Cx, user: &UserName, database: &str) -> Result<()> {
        self.on_server("revoke", |server| {
            account(server, &user.name)?.databases.remove(database);
            server.end_sessions(|session| session.user == user.name && session.database.as_deref() == Some(database));
            Ok(())
        })
        .await
    }

    async fn drop_user(&self, _cx: &Cx, user: &UserName) -> Result<()> {
        self.on_server("drop_user", |server| {
            server.users.remove(&user.name);
            server.end_sessions(|session| session.user == user.name);
            Ok(())
        })
        .await
    }

    async fn enable_root(&self, _cx: &Cx, password: &SecretString) -> Result<String> {
        self.on_server("enable_root", |server| {
            server.root = Some(password.clone());
            Ok(ROOT.to_owned())
        })
        .await
    }

    async fn disable_root(&self, _cx: &Cx) -> Result<()> {
        self.on_server("disable_root", |server| {
            server.root = None;
            server.end_sessions(|session| session.user == ROOT);
            Ok(())
        })
        .await
    }

    async fn root_enabled(&self, _cx: &Cx) -> Result<bool> {
        self.on_server("root_enabled", |server| Ok(server.root.is_some())).await
    }
}

impl MemoryDatastore {
    async fn on_server<T>(&self, name: &str, act: impl FnOnce(&mut Server) -> Result<T> + Send) -> Result<T> {
        self.world
            .call(name, |world| {
                let server = self.server(world)?;
                if !server.answers() {
                    return Err(Error::unavailable("the server does not answer"));
                }
                act(server)
            })
            .await
    }
}

fn account<'a>(server: &'a mut Server, name: &str) -> Result<&'a mut Account> {
    server.users.get_mut(name).ok_or_else(|| Error::not_found(format!("there is no user {name:?}")))
}

fn check_databases(server: &Server, databases: &[String]) -> Result<()> {
    match databases.iter().find(|name| !server.databases.contains(*name)) {
        Some(name) => Err(Error::not_found(format!("there is no database {name:?}"))),
        None => Ok(()),
    }
}

fn is_after(name: &str, page: &PageRequest) -> bool {
    page.after.as_deref().is_none_or(|after| name > after)
}

fn shown(name: &str, account: &Account) -> User {
    User::new(name, account.databases.iter().cloned().collect())
}
