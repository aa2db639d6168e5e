use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{Account, Server, Text, instance::MemoryDatastore};
use crate::{
    datastore::{AccountRules, Accounts, Cx},
    error::{Error, Result},
    model::{Database, NewDatabase, NewUser, Page, PageRequest, User, UserName},
    secret::SecretString,
};

pub(super) const ROOT: &str = "root";

/// A database of the server's own.
const OWN_DATABASE: &str = "system";

/// The character sets that a server knows, each with its collations, of which the first is its default. The first
/// character set is the server's.
const CHARACTER_SETS: [(&str, &[&str]); 2] = [("utf8", &["utf8_bin", "utf8_ci"]), ("latin1", &["latin1_bin"])];

/// What a server asks of names, unless the world says otherwise.
pub(super) fn rules() -> AccountRules {
    let mut rules = AccountRules::new(63);
    rules.reserved_databases.push(OWN_DATABASE.to_owned());
    rules.reserved_users.extend([ROOT, OWN_DATABASE].map(str::to_owned));
    rules
}

#[async_trait]
impl Accounts for MemoryDatastore {
    async fn create_databases(&self, _cx: &Cx, databases: &[NewDatabase]) -> Result<()> {
        let rules = self.rules.clone();
        self.on_server(|server| {
            let mut made = Vec::new();
            for database in databases {
                rules.check_database(&database.name)?;
                let text = text(database)?;
                match server.databases.get(&database.name) {
                    Some(found) if !found.fits(database) => {
                        return Err(Error::conflict(format!("database {:?} is otherwise", database.name)));
                    }
                    Some(_) => {}
                    None => made.push((database.name.clone(), text)),
                }
            }
            server.databases.extend(made);
            Ok(())
        })
        .await
    }

    async fn databases(&self, _cx: &Cx, page: &PageRequest) -> Result<Page<Database>> {
        self.on_server(|server| {
            let after = |name: &str| page.after.as_deref().is_none_or(|after| name > after);
            let found = server.databases.iter().filter(|(name, _)| after(name));
            let found = found.map(|(name, text)| Database::new(name).text(text.character_set, text.collation));
            Ok(Page::of(found.collect(), page.limit, |database| database.name.clone()))
        })
        .await
    }

    async fn drop_database(&self, _cx: &Cx, name: &str) -> Result<()> {
        let rules = self.rules.clone();
        self.on_server(|server| {
            rules.check_database(name)?;
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
        let rules = self.rules.clone();
        self.on_server(|server| {
            let mut seen = BTreeSet::new();
            for NewUser { user, databases, .. } in users {
                rules.check_user(user)?;
                if server.users.contains_key(user) || !seen.insert(user) {
                    return Err(taken(user));
                }
                check_databases(&rules, server, databases)?;
            }
            users.iter().for_each(|user| server.ensure_user(user));
            Ok(())
        })
        .await
    }

    async fn users(&self, _cx: &Cx, page: &PageRequest) -> Result<Page<User>> {
        self.on_server(|server| {
            let after = page.after.as_deref().map(from_mark);
            let found = server.users.iter().filter(|(user, _)| after.as_ref().is_none_or(|after| *user > after));
            let users = found.map(|(user, account)| shown(user, account)).collect();
            Ok(Page::of(users, page.limit, |user: &User| mark(&user.user)))
        })
        .await
    }

    async fn user(&self, _cx: &Cx, user: &UserName) -> Result<User> {
        self.on_server(|server| account(server, user).map(|account| shown(user, account))).await
    }

    async fn rename_user(&self, _cx: &Cx, user: &UserName, to: &UserName) -> Result<()> {
        let rules = self.rules.clone();
        self.on_server(|server| {
            rules.check_user(to)?;
            let account = account(server, user)?.clone();
            if user == to {
                return Ok(());
            }
            if server.users.contains_key(to) {
                return Err(taken(to));
            }
            server.users.remove(user);
            server.users.insert(to.clone(), account);
            for session in server.sessions.values_mut().filter(|session| session.user == user.name) {
                session.user.clone_from(&to.name);
            }
            Ok(())
        })
        .await
    }

    async fn set_password(&self, _cx: &Cx, user: &UserName, password: &SecretString) -> Result<()> {
        self.on_server(|server| {
            account(server, user)?.password = password.clone();
            Ok(())
        })
        .await
    }

    async fn grant(&self, _cx: &Cx, user: &UserName, databases: &[String]) -> Result<()> {
        let rules = self.rules.clone();
        self.on_server(|server| {
            check_databases(&rules, server, databases)?;
            account(server, user)?.databases.extend(databases.iter().cloned());
            Ok(())
        })
        .await
    }

    async fn revoke(&self, _cx: &Cx, user: &UserName, database: &str) -> Result<()> {
        self.on_server(|server| {
            account(server, user)?.databases.remove(database);
            server.end_sessions(|session| session.user == user.name && session.database.as_deref() == Some(database));
            Ok(())
        })
        .await
    }

    async fn drop_user(&self, _cx: &Cx, user: &UserName) -> Result<()> {
        self.on_server(|server| {
            if server.users.remove(user).is_some() {
                server.end_sessions(|session| session.user == user.name);
            }
            Ok(())
        })
        .await
    }

    async fn enable_root(&self, _cx: &Cx, password: &SecretString) -> Result<String> {
        self.on_server(|server| {
            server.root = Some(password.clone());
            Ok(ROOT.to_owned())
        })
        .await
    }

    async fn disable_root(&self, _cx: &Cx) -> Result<()> {
        self.on_server(|server| {
            server.root = None;
            server.end_sessions(|session| session.user == ROOT);
            Ok(())
        })
        .await
    }

    async fn root_enabled(&self, _cx: &Cx) -> Result<bool> {
        self.on_server(|server| Ok(server.root.is_some())).await
    }
}

impl Server {
    /// Makes a user, or gives one that exists this password and these databases too.
    pub(super) fn ensure_user(&mut self, user: &NewUser) {
        let fresh = || Account { password: user.password.clone(), databases: BTreeSet::new() };
        let account = self.users.entry(user.user.clone()).or_insert_with(fresh);
        account.password = user.password.clone();
        account.databases.extend(user.databases.iter().cloned());
    }
}

impl Text {
    fn fits(self, asked: &NewDatabase) -> bool {
        asked.character_set.as_deref().is_none_or(|asked| asked == self.character_set)
            && asked.collation.as_deref().is_none_or(|asked| asked == self.collation)
    }
}

/// What a database that is asked for shall have.
pub(super) fn text(asked: &NewDatabase) -> Result<Text> {
    let fits = |asked: &Option<String>, known: &str| asked.as_deref().is_none_or(|asked| asked == known);
    for (character_set, collations) in CHARACTER_SETS {
        let collation = collations.iter().find(|collation| fits(&asked.collation, collation));
        if let Some(collation) = collation.filter(|_| fits(&asked.character_set, character_set)) {
            return Ok(Text { character_set, collation });
        }
    }
    Err(Error::invalid("the server knows no such character set or collation"))
}

fn account<'a>(server: &'a mut Server, user: &UserName) -> Result<&'a mut Account> {
    server.users.get_mut(user).ok_or_else(|| Error::not_found(format!("there is no user {:?}", user.to_string())))
}

fn taken(user: &UserName) -> Error {
    Error::conflict(format!("user {:?} exists already", user.to_string()))
}

fn check_databases(rules: &AccountRules, server: &Server, databases: &[String]) -> Result<()> {
    match databases.iter().find(|name| !server.databases.contains_key(*name)) {
        Some(_) if !rules.databases => Err(Error::unsupported("the server has no databases")),
        Some(name) => Err(Error::not_found(format!("there is no database {name:?}"))),
        None => Ok(()),
    }
}

/// What comes after a user in a list. No host holds an `@`.
fn mark(user: &UserName) -> String {
    format!("{}@{}", user.name, user.host.as_deref().unwrap_or_default())
}

fn from_mark(mark: &str) -> UserName {
    let (name, host) = mark.rsplit_once('@').unwrap_or((mark, ""));
    UserName { name: name.to_owned(), host: Some(host.to_owned()).filter(|host| !host.is_empty()) }
}

fn shown(user: &UserName, account: &Account) -> User {
    User::new(user, account.databases.iter().cloned().collect())
}
