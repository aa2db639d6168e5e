//! Tenants on a shared server, and the helpers that cases use to create and inspect them.

use crate::{
    conformance::{
        case::Case,
        driver::{
            ClientLogin, ClientSession, ServerFixture,
            group::{Group, Need},
        },
    },
    model::{Database, NewDatabase, NewUser, PageRequest, User},
    secret::SecretString,
};

/// The initial password of users.
pub(super) const PASSWORD: &str = "secret";

/// Declares cases on a shared server that need accounts.
pub(super) fn accounts_group(name: &'static str, cases: Vec<Case<ServerFixture>>) -> Group {
    Group::shared(name, &[Need::Accounts], cases)
}

/// Declares cases on a shared server that need accounts with databases.
pub(super) fn databases_group(name: &'static str, cases: Vec<Case<ServerFixture>>) -> Group {
    Group::shared(name, &[Need::Databases], cases)
}

pub(super) fn secret(password: &str) -> SecretString {
    SecretString::from(password)
}

impl ServerFixture {
    /// Returns whether the engine has databases.
    pub(super) fn has_databases(&self) -> bool {
        self.account_rules().is_some_and(|rules| rules.databases)
    }

    /// Returns a new user with a privilege on the database, if the engine has databases.
    pub(super) fn new_user(&self, name: &str, password: &str, database: &str) -> NewUser {
        let user = NewUser::new(name, password);
        if self.has_databases() { user.granted(database) } else { user }
    }

    /// Creates databases, if the engine has databases.
    pub(super) async fn create_databases_if_supported(&self, names: &[&str]) {
        let databases: Vec<_> = names.iter().map(|name| NewDatabase::from(*name)).collect();
        if self.has_databases() {
            self.accounts().create_databases(&self.cx(), &databases).await.unwrap();
        }
    }

    /// Creates a user with [`PASSWORD`] and a database, both with a unique name, which is returned.
    pub(super) async fn create_tenant(&self, name: &str) -> String {
        self.create_named_tenant(self.unique_name(name)).await
    }

    /// Creates a user with [`PASSWORD`] and a database, both with this name.
    pub(super) async fn create_named_tenant(&self, name: String) -> String {
        self.create_databases_if_supported(&[&name]).await;
        let user = self.new_user(&name, PASSWORD, &name);
        self.accounts().create_users(&self.cx(), &[user]).await.unwrap();
        name
    }

    /// Drops the users and databases with these names.
    pub(super) async fn drop_all(&self, names: &[&str]) {
        for name in names {
            self.accounts().drop_user(&self.cx(), &(*name).into()).await.unwrap();
            if self.has_databases() {
                self.accounts().drop_database(&self.cx(), name).await.unwrap();
            }
        }
    }

    fn login(&self, user: &str, password: &str, database: &str) -> ClientLogin {
        let login = ClientLogin::new(user, password);
        if self.has_databases() { login.database(database) } else { login }
    }

    /// Opens a session. Fails the case if the server rejects the login.
    pub(super) async fn log_in(&self, user: &str, password: &str, database: &str) -> Box<dyn ClientSession> {
        self.session(&self.login(user, password, database)).await
    }

    /// Returns whether the user can log in to the database and read from it.
    pub(super) async fn can_log_in(&self, user: &str, password: &str, database: &str) -> bool {
        match self.testbed().connect(&self.host, &self.login(user, password, database)).await {
            Ok(mut session) => session.get("anything").await.is_ok(),
            Err(_) => false,
        }
    }

    /// Returns all users, read in small pages.
    pub(super) async fn users(&self) -> Vec<User> {
        let (mut users, mut page) = (Vec::new(), PageRequest { limit: 7, after: None });
        loop {
            let found = self.accounts().users(&self.cx(), &page).await.unwrap();
            users.extend(found.items);
            assert!(users.len() < 1000, "pagination of users does not end");
            page.after = Some(found.next.unwrap_or_default()).filter(|next| !next.is_empty());
            if page.after.is_none() {
                return users;
            }
        }
    }

    /// Returns all databases, read in small pages.
    pub(super) async fn databases(&self) -> Vec<Database> {
        let (mut databases, mut page) = (Vec::new(), PageRequest { limit: 7, after: None });
        loop {
            let found = self.accounts().databases(&self.cx(), &page).await.unwrap();
            databases.extend(found.items);
            assert!(databases.len() < 1000, "pagination of databases does not end");
            page.after = Some(found.next.unwrap_or_default()).filter(|next| !next.is_empty());
            if page.after.is_none() {
                return databases;
            }
        }
    }

    /// Returns the databases on which the user has a privilege.
    pub(super) async fn granted_databases(&self, user: &str) -> Vec<String> {
        self.accounts().user(&self.cx(), &user.into()).await.unwrap().databases
    }
}

/// Returns the names of users.
pub(super) fn user_names(users: &[User]) -> Vec<&str> {
    users.iter().map(|user| user.user.name.as_str()).collect()
}

/// Asserts that an open session has ended.
pub(super) async fn assert_session_ended(session: &mut Box<dyn ClientSession>, cause: &str) {
    assert!(session.get("anything").await.is_err(), "the session is still open, although {cause}");
}
