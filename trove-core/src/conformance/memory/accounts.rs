use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{Account, Server, TextEncoding, datastore::MemoryDatastore};
use crate::{
    datastore::{AccountRules, Accounts, Cx},
    error::{Error, Result},
    model::{Database, NewDatabase, NewUser, Page, PageRequest, User, UserName},
    secret::SecretString,
};

pub(super) const ROOT: &str = "root";

/// The system database.
const SYSTEM_DATABASE: &str = "system";

/// The supported character sets with their collations. The first of each list is the default.
const CHARACTER_SETS: [(&str, &[&str]); 2] = [("utf8", &["utf8_bin", "utf8_ci"]), ("latin1", &["latin1_bin"])];

/// Returns the account rules that apply if the [`World`](super::World) has none.
pub(super) fn default_rules() -> AccountRules {
    let mut rules = AccountRules::new(63);
    rules.reserved_databases.push(SYSTEM_DATABASE.to_owned());
    rules.reserved_users.extend([ROOT, SYSTEM_DATABASE].map(str::to_owned));
    rules
}

#[async_trait]
impl Accounts for MemoryDatastore {
    async fn create_databases(&self, _cx: &Cx, databases: &[NewDatabase]) -> Result<()> {
        let rules = self.rules.clone();
        self.on_server(|server| {
            let mut new = Vec::new();
            for database in databases {
                rules.check_database(&database.name)?;
                let encoding = resolve_encoding(database)?;
                match server.databases.get(&database.name) {
                    Some(existing) if !existing.matches(database) => {
                        let name = &database.name;
                        return Err(Error::conflict(format!(
                            "database {name:?} exists with another character set or collation"
                        )));
                    }
                    Some(_) => {}
                    None => new.push((database.name.clone(), encoding)),
                }
            }
            server.databases.extend(new);
            Ok(())
        })
        .await
    }

    async fn databases(&self, _cx: &Cx, page: &PageRequest) -> Result<Page<Database>> {
        self.on_server(|server| {
            let after = |name: &str| page.after.as_deref().is_none_or(|after| name > after);
            let found = server.databases.iter().filter(|(name, _)| after(name));
            let found =
                found.map(|(name, encoding)| Database::new(name).text(encoding.character_set, encoding.collation));
            Ok(Page::of(found.collect(), page.limit, |database| database.name.clone()))
        })
        .await
    }

    async fn drop_database(&self, _cx: &Cx, name: &str) -> Result<()> {
        let rules = self.rules.clone();
        self.on_server(|server| {
            rules.check_existing_database(name)?;
            if rules.reserved_databases.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
                return Err(Error::invalid(format!("the database name {name:?} is reserved")));
            }
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
                    return Err(user_exists(user));
                }
                check_databases(&rules, server, databases)?;
            }
            users.iter().for_each(|user| server.create_or_update_user(user));
            Ok(())
        })
        .await
    }

    async fn users(&self, _cx: &Cx, page: &PageRequest) -> Result<Page<User>> {
        self.on_server(|server| {
            let after = page.after.as_deref().map(parse_page_token);
            let found = server.users.iter().filter(|(user, _)| after.as_ref().is_none_or(|after| *user > after));
            let users = found.map(|(user, account)| to_user(user, account)).collect();
            Ok(Page::of(users, page.limit, |user: &User| page_token(&user.user)))
        })
        .await
    }

    async fn user(&self, _cx: &Cx, user: &UserName) -> Result<User> {
        self.on_server(|server| find_account(server, user).map(|account| to_user(user, account))).await
    }

    async fn rename_user(&self, _cx: &Cx, user: &UserName, to: &UserName) -> Result<()> {
        let rules = self.rules.clone();
        self.on_server(|server| {
            rules.check_user(to)?;
            let account = find_account(server, user)?.clone();
            if user == to {
                return Ok(());
            }
            if server.users.contains_key(to) {
                return Err(user_exists(to));
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
            find_account(server, user)?.password = password.clone();
            Ok(())
        })
        .await
    }

    async fn grant(&self, _cx: &Cx, user: &UserName, databases: &[String]) -> Result<()> {
        let rules = self.rules.clone();
        self.on_server(|server| {
            check_databases(&rules, server, databases)?;
            find_account(server, user)?.databases.extend(databases.iter().cloned());
            Ok(())
        })
        .await
    }

    async fn revoke(&self, _cx: &Cx, user: &UserName, database: &str) -> Result<()> {
        self.on_server(|server| {
            find_account(server, user)?.databases.remove(database);
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
    /// Creates a user, or sets the password of an existing one and grants it the databases.
    pub(super) fn create_or_update_user(&mut self, user: &NewUser) {
        let new_account = || Account { password: user.password.clone(), databases: BTreeSet::new() };
        let account = self.users.entry(user.user.clone()).or_insert_with(new_account);
        account.password = user.password.clone();
        account.databases.extend(user.databases.iter().cloned());
    }
}

impl TextEncoding {
    fn matches(self, requested: &NewDatabase) -> bool {
        requested.character_set.as_deref().is_none_or(|name| name == self.character_set)
            && requested.collation.as_deref().is_none_or(|name| name == self.collation)
    }
}

/// Returns the encoding of a new database, with defaults for what the request leaves open.
pub(super) fn resolve_encoding(requested: &NewDatabase) -> Result<TextEncoding> {
    for (character_set, collations) in CHARACTER_SETS {
        for collation in collations {
            let encoding = TextEncoding { character_set, collation };
            if encoding.matches(requested) {
                return Ok(encoding);
            }
        }
    }
    Err(Error::invalid("unknown character set or collation"))
}

fn find_account<'a>(server: &'a mut Server, user: &UserName) -> Result<&'a mut Account> {
    server.users.get_mut(user).ok_or_else(|| Error::not_found(format!("user {:?} does not exist", user.to_string())))
}

fn user_exists(user: &UserName) -> Error {
    Error::conflict(format!("user {:?} already exists", user.to_string()))
}

fn check_databases(rules: &AccountRules, server: &Server, databases: &[String]) -> Result<()> {
    match databases.iter().find(|name| !server.databases.contains_key(*name)) {
        Some(_) if !rules.databases => Err(Error::unsupported("the server has no databases")),
        Some(name) => Err(Error::not_found(format!("database {name:?} does not exist"))),
        None => Ok(()),
    }
}

/// Returns the token of the page after this user. A host never contains `@`.
fn page_token(user: &UserName) -> String {
    format!("{}@{}", user.name, user.host.as_deref().unwrap_or_default())
}

fn parse_page_token(token: &str) -> UserName {
    let (name, host) = token.rsplit_once('@').unwrap_or((token, ""));
    UserName { name: name.to_owned(), host: Some(host.to_owned()).filter(|host| !host.is_empty()) }
}

fn to_user(user: &UserName, account: &Account) -> User {
    User::new(user, account.databases.iter().cloned().collect())
}
