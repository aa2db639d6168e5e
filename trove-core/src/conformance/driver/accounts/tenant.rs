//! What tenants have on the shared server, and how cases look at it.

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

/// The password of whoever a case makes and says nothing about.
pub(super) const PASSWORD: &str = "secret";

/// Cases on the shared server that need accounts only.
pub(super) fn accounts(name: &'static str, cases: Vec<Case<ServerFixture>>) -> Group {
    Group::shared(name, &[Need::Accounts], cases)
}

/// Cases on the shared server that need databases.
pub(super) fn databases(name: &'static str, cases: Vec<Case<ServerFixture>>) -> Group {
    Group::shared(name, &[Need::Databases], cases)
}

pub(super) fn secret(password: &str) -> SecretString {
    SecretString::from(password)
}

impl ServerFixture {
    /// True where users have databases of their own.
    pub(super) fn has_databases(&self) -> bool {
        self.account_rules().is_some_and(|rules| rules.databases)
    }

    /// A user to create who may use this database, where there are any.
    pub(super) fn new_user(&self, name: &str, password: &str, database: &str) -> NewUser {
        let user = NewUser::new(name, password);
        if self.has_databases() { user.granted(database) } else { user }
    }

    /// Creates databases, where there are any.
    pub(super) async fn create_databases_if_supported(&self, names: &[&str]) {
        let databases: Vec<_> = names.iter().map(|name| NewDatabase::from(*name)).collect();
        if self.has_databases() {
            self.accounts().create_databases(&self.cx(), &databases).await.unwrap();
        }
    }

    /// Creates a user and a database of one name, with [`PASSWORD`].
    pub(super) async fn create_tenant(&self, name: &str) -> String {
        self.create_named_tenant(self.unique_name(name)).await
    }

    /// The same of a name that is no other case's already.
    pub(super) async fn create_named_tenant(&self, name: String) -> String {
        self.create_databases_if_supported(&[&name]).await;
        let user = self.new_user(&name, PASSWORD, &name);
        self.accounts().create_users(&self.cx(), &[user]).await.unwrap();
        name
    }

    /// Drops the users and databases of these names.
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

    /// A session that must be had.
    pub(super) async fn log_in(&self, user: &str, password: &str, database: &str) -> Box<dyn ClientSession> {
        self.session(&self.login(user, password, database)).await
    }

    /// True where the server lets the user into the database, and it can be read there.
    pub(super) async fn can_log_in(&self, user: &str, password: &str, database: &str) -> bool {
        match self.testbed().connect(&self.host, &self.login(user, password, database)).await {
            Ok(mut session) => session.get("anything").await.is_ok(),
            Err(_) => false,
        }
    }

    /// All users, from pages of a few.
    pub(super) async fn users(&self) -> Vec<User> {
        let (mut users, mut page) = (Vec::new(), PageRequest { limit: 7, after: None });
        loop {
            let found = self.accounts().users(&self.cx(), &page).await.unwrap();
            users.extend(found.items);
            assert!(users.len() < 1000, "the pages of users do not end");
            page.after = Some(found.next.unwrap_or_default()).filter(|next| !next.is_empty());
            if page.after.is_none() {
                return users;
            }
        }
    }

    /// All databases, from pages of a few.
    pub(super) async fn databases(&self) -> Vec<Database> {
        let (mut databases, mut page) = (Vec::new(), PageRequest { limit: 7, after: None });
        loop {
            let found = self.accounts().databases(&self.cx(), &page).await.unwrap();
            databases.extend(found.items);
            assert!(databases.len() < 1000, "the pages of databases do not end");
            page.after = Some(found.next.unwrap_or_default()).filter(|next| !next.is_empty());
            if page.after.is_none() {
                return databases;
            }
        }
    }

    /// The databases that a user may use.
    pub(super) async fn rights(&self, user: &str) -> Vec<String> {
        self.accounts().user(&self.cx(), &user.into()).await.unwrap().databases
    }
}

/// The names of users.
pub(super) fn names(users: &[User]) -> Vec<&str> {
    users.iter().map(|user| user.user.name.as_str()).collect()
}

/// Panics unless a session that was open has ended.
pub(super) async fn ended(session: &mut Box<dyn ClientSession>, why: &str) {
    assert!(session.get("anything").await.is_err(), "a session is still open after {why}");
}
