use std::{collections::BTreeSet, time::Duration};

use tokio::time::sleep;
use trove_core::{
    error::{Error, Result},
    model::{NewUser, Page, PageRequest, User, UserName},
    secret::SecretString,
};

use super::{
    databases, definers,
    names::{Account, is_draft, is_shut_out, is_tenants},
    password,
};
use crate::{
    container::AGENT,
    mysql_family::{Dialect, Session, check_letters, identifier, literal},
};

/// How often, and how long apart, it is looked whether sessions have ended.
const LOOKS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// The server's words for a right, a session or an account that is not there.
const NO_SUCH_GRANT: [&str; 4] = ["1141", "1147", "1403", "1146"];
const NO_SUCH_SESSION: [&str; 1] = ["1094"];

/// Creates users, all or none.
pub(super) async fn create<D: Dialect>(session: &mut Session, users: &[NewUser]) -> Result<()> {
    let (mut accounts, mut seen) = (Vec::with_capacity(users.len()), BTreeSet::new());
    for user in users {
        let account = Account::allowed(&user.user)?;
        if !seen.insert(account.clone()) || exists::<D>(session, &account).await? {
            return Err(taken(&user.user));
        }
        databases::require(session, &user.databases).await?;
        accounts.push(account);
    }
    sweep_drafts(session).await?;
    let made = make::<D>(session, users, &accounts).await;
    if made.is_err() {
        // Where this fails too, the next call does it.
        let _ = sweep_drafts(session).await;
    }
    made
}

/// Creates users, or gives those that exist the password and the rights they should have.
pub(super) async fn ensure<D: Dialect>(session: &mut Session, users: &[NewUser]) -> Result<()> {
    let mut missing = Vec::new();
    for user in users {
        if exists::<D>(session, &Account::of(&user.user)).await? {
            set_password::<D>(session, &user.user, &user.password).await?;
            grant::<D>(session, &user.user, &user.databases).await?;
        } else {
            missing.push(user.clone());
        }
    }
    create::<D>(session, &missing).await
}

/// Users in order of name and host.
pub(super) async fn list<D: Dialect>(session: &mut Session, page: &PageRequest) -> Result<Page<User>> {
    let after = page.after.as_deref().map(Account::from_mark).map(|Account { name, host }| {
        let (name, host) = (bytes(&literal(&name)), bytes(&literal(&host)));
        format!("AND (CAST(User AS BINARY), CAST(Host AS BINARY)) > ({name}, {host})")
    });
    let limit = page.limit.clamp(1, 1000);
    let sql = format!(
        "SELECT User, Host FROM mysql.user WHERE {} {} ORDER BY CAST(User AS BINARY), CAST(Host AS BINARY) LIMIT {}",
        is_tenants::<D>(),
        after.unwrap_or_default(),
        limit + 1
    );
    let found = accounts(session, &sql).await?;
    let found = with_databases::<D>(session, found).await?;
    Ok(Page::of(found, limit, |user: &User| Account::of(&user.user).mark()))
}

/// One user.
pub(super) async fn find<D: Dialect>(session: &mut Session, user: &UserName) -> Result<User> {
    let account = require::<D>(session, user).await?;
    with_databases::<D>(session, vec![account]).await?.pop().ok_or_else(|| missing(user))
}

/// Calls a user otherwise. Its rights and its password stay; its sessions end, for they would keep the former name, by
/// which nobody would find them when the user is dropped.
pub(super) async fn rename<D: Dialect>(session: &mut Session, user: &UserName, to: &UserName) -> Result<()> {
    let (account, wanted) = (require::<D>(session, user).await?, Account::allowed(to)?);
    if account == wanted {
        return Ok(());
    }
    if exists::<D>(session, &wanted).await? {
        return Err(taken(to));
    }
    sweep_drafts(session).await?;
    let mut renamed = format!("RENAME USER {} TO {}", account.quoted(), wanted.quoted());
    if definers::needs(session, &account).await? {
        let stay = Account::draft(0);
        session.run(&format!("CREATE USER {} {} ACCOUNT LOCK", stay.quoted(), D::no_password())).await?;
        for granted in granted(session, &account).await? {
            session.run(&format!("GRANT ALL ON {}.* TO {}", identifier(&granted), stay.quoted())).await?;
        }
        renamed.push_str(&format!(", {} TO {}", stay.quoted(), account.quoted()));
    }
    make_room::<D>(session, &wanted).await?;
    session.run(&renamed).await?;
    end_sessions(session, |found| found.user == account.name).await
}

/// Changes a password.
pub(super) async fn set_password<D: Dialect>(
    session: &mut Session,
    user: &UserName,
    secret: &SecretString,
) -> Result<()> {
    let account = require::<D>(session, user).await?;
    let password = password::<D>(secret).await?;
    session.run(&format!("ALTER USER {} {password} ACCOUNT UNLOCK", account.quoted())).await
}

/// Lets a user use databases.
pub(super) async fn grant<D: Dialect>(session: &mut Session, user: &UserName, databases: &[String]) -> Result<()> {
    let account = require::<D>(session, user).await?;
    databases::require(session, databases).await?;
    admit::<D>(session, &account, databases).await
}

/// Takes a database from a user and ends its sessions there.
pub(super) async fn revoke<D: Dialect>(session: &mut Session, user: &UserName, database: &str) -> Result<()> {
    let account = require::<D>(session, user).await?;
    if check_letters(database).is_err() {
        return Ok(());
    }
    take::<D>(session, &account, database).await?;
    for right in D::REVOCABLE {
        let on = identifier(&D::granted(database));
        session.run_unless(&NO_SUCH_GRANT, &format!("REVOKE {right} ON {on}.* FROM {}", account.quoted())).await?;
    }
    // Which of several accounts of a name a session belongs to is not told; a session too many only has to come again.
    end_sessions(session, |found| found.user == account.name && found.database.as_deref() == Some(database)).await
}

/// Drops a user and ends its sessions. What runs as the user goes on running.
pub(super) async fn remove<D: Dialect>(session: &mut Session, user: &UserName) -> Result<()> {
    let account = Account::of(user);
    if exists::<D>(session, &account).await? {
        if definers::needs(session, &account).await? {
            definers::shut_out::<D>(session, &account).await?;
        } else {
            session.run(&format!("DROP USER IF EXISTS {}", account.quoted())).await?;
        }
        end_sessions(session, |found| found.user == account.name).await?;
    }
    definers::sweep::<D>(session).await
}

/// Takes a database that is no more from all who could use it.
pub(super) async fn forget_database<D: Dialect>(session: &mut Session, database: &str) -> Result<()> {
    let mut concerned = BTreeSet::new();
    for (table, name) in
        [("db", D::granted(database)), ("tables_priv", database.to_owned()), ("procs_priv", database.to_owned())]
    {
        let sql = format!("SELECT DISTINCT User, Host FROM mysql.{table} WHERE Db = {}", literal(&name));
        concerned.extend(accounts(session, &sql).await?);
    }
    for account in concerned {
        take::<D>(session, &account, database).await?;
    }
    Ok(())
}

/// Removes accounts that a call that broke off has left.
pub(super) async fn sweep_drafts(session: &mut Session) -> Result<()> {
    for draft in accounts(session, &format!("SELECT User, Host FROM mysql.user WHERE {}", is_draft())).await? {
        session.run(&format!("DROP USER IF EXISTS {}", draft.quoted())).await?;
    }
    Ok(())
}

/// The accounts that a query finds.
pub(super) async fn accounts(session: &mut Session, sql: &str) -> Result<Vec<Account>> {
    let rows = session.rows(sql).await?.into_iter().filter_map(|row| match <[_; 2]>::try_from(row) {
        Ok([Some(name), Some(host)]) => Some(Account { name, host }),
        _ => None,
    });
    Ok(rows.collect())
}

/// A session of a client.
#[derive(Debug)]
pub(super) struct Client {
    id: u64,
    pub(super) user: String,
    pub(super) database: Option<String>,
}

/// Ends the sessions that are meant, and waits a while until they have.
pub(super) async fn end_sessions(session: &mut Session, meant: impl Fn(&Client) -> bool + Send) -> Result<()> {
    for _ in 0..LOOKS {
        let found = clients(session).await?;
        let found: Vec<_> = found.iter().filter(|client| client.user != AGENT && meant(client)).collect();
        if found.is_empty() {
            return Ok(());
        }
        for client in found {
            session.run_unless(&NO_SUCH_SESSION, &format!("KILL {}", client.id)).await?;
        }
        sleep(PAUSE).await;
    }
    Err(Error::busy("sessions of the database server do not end"))
}

async fn clients(session: &mut Session) -> Result<Vec<Client>> {
    let rows = session.rows("SHOW PROCESSLIST").await?.into_iter().filter_map(|mut row| {
        let mut take = |at: usize| row.get_mut(at).and_then(Option::take);
        let (id, user, database) = (take(0)?, take(1)?, take(3));
        Some(Client { id: id.parse().ok()?, user, database })
    });
    Ok(rows.collect())
}

/// Makes accounts under passing names and, when they are complete, gives them their own all at once.
async fn make<D: Dialect>(session: &mut Session, users: &[NewUser], accounts: &[Account]) -> Result<()> {
    if users.is_empty() {
        return Ok(());
    }
    let mut names = Vec::with_capacity(users.len());
    for (number, (user, account)) in users.iter().zip(accounts).enumerate() {
        let draft = Account::draft(number);
        session.run(&format!("CREATE USER {} {}", draft.quoted(), password::<D>(&user.password).await?)).await?;
        admit::<D>(session, &draft, &user.databases).await?;
        make_room::<D>(session, account).await?;
        names.push(format!("{} TO {}", draft.quoted(), account.quoted()));
    }
    let named = session.run(&format!("RENAME USER {}", names.join(", "))).await;
    if named.is_err() {
        // Some servers call as many otherwise as they can.
        for (number, account) in accounts.iter().enumerate() {
            let draft = Account::draft(number);
            if !session.any(&format!("SELECT 1 FROM mysql.user WHERE {}", draft.is())).await? {
                session.run(&format!("DROP USER IF EXISTS {}", account.quoted())).await?;
            }
        }
    }
    named
}

/// Removes the account that stayed of a dropped user of this name.
async fn make_room<D: Dialect>(session: &mut Session, account: &Account) -> Result<()> {
    let stayed = format!("SELECT 1 FROM mysql.user WHERE {} AND {}", is_shut_out::<D>(), account.is());
    match session.any(&stayed).await? {
        true => session.run(&format!("DROP USER IF EXISTS {}", account.quoted())).await,
        false => Ok(()),
    }
}

async fn admit<D: Dialect>(session: &mut Session, account: &Account, databases: &[String]) -> Result<()> {
    for database in databases {
        let granted = identifier(&D::granted(database));
        session.run(&format!("GRANT ALL PRIVILEGES ON {granted}.* TO {}", account.quoted())).await?;
    }
    Ok(())
}

/// Takes all rights in a database from an account, those on single things of it too.
async fn take<D: Dialect>(session: &mut Session, account: &Account, database: &str) -> Result<()> {
    let (user, granted) = (account.quoted(), identifier(&D::granted(database)));
    let mut taken = vec![format!("REVOKE ALL PRIVILEGES ON {granted}.* FROM {user}")];
    let of = format!("{} AND Db = {}", account.is(), literal(database));
    let named = [
        format!("SELECT 'TABLE', Table_name FROM mysql.tables_priv WHERE {of}"),
        format!("SELECT Routine_type, Routine_name FROM mysql.procs_priv WHERE {of}"),
    ];
    for sql in named {
        for row in session.rows(&sql).await? {
            if let Ok([Some(kind), Some(name)]) = <[_; 2]>::try_from(row) {
                // The kind is one of the server's own words.
                let kind = if ["TABLE", "PROCEDURE", "FUNCTION"].contains(&kind.as_str()) { kind } else { continue };
                let what = format!("{kind} {}.{}", identifier(database), identifier(&name));
                taken.push(format!("REVOKE ALL PRIVILEGES ON {what} FROM {user}"));
            }
        }
    }
    for sql in taken {
        session.run_unless(&NO_SUCH_GRANT, &sql).await?;
    }
    Ok(())
}

/// What an account was given rights on, as the server writes it.
async fn granted(session: &mut Session, account: &Account) -> Result<Vec<String>> {
    let rows = session.rows(&format!("SELECT Db FROM mysql.db WHERE {}", account.is())).await?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

async fn with_databases<D: Dialect>(session: &mut Session, accounts: Vec<Account>) -> Result<Vec<User>> {
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let there: BTreeSet<_> = databases::names(session).await?.into_iter().collect();
    let of: Vec<_> = accounts.iter().map(|it| format!("({}, {})", literal(&it.name), literal(&it.host))).collect();
    let sql = format!("SELECT User, Host, Db FROM mysql.db WHERE (User, Host) IN ({})", of.join(", "));
    let mut rights = BTreeSet::new();
    for row in session.rows(&sql).await? {
        if let Ok([Some(name), Some(host), Some(granted)]) = <[_; 3]>::try_from(row) {
            rights.insert((Account { name, host }, D::database(&granted)));
        }
    }
    let user = |account: Account| {
        let of = rights.iter().filter(|(whose, database)| *whose == account && there.contains(database));
        let databases = of.map(|(_, database)| database.clone()).collect();
        User::new(account.into_user(), databases)
    };
    Ok(accounts.into_iter().map(user).collect())
}

/// The account of a user of the tenant's; [`NotFound`](trove_core::error::Kind::NotFound) where there is none.
async fn require<D: Dialect>(session: &mut Session, user: &UserName) -> Result<Account> {
    let account = Account::of(user);
    if exists::<D>(session, &account).await? { Ok(account) } else { Err(missing(user)) }
}

async fn exists<D: Dialect>(session: &mut Session, account: &Account) -> Result<bool> {
    let sql = format!("SELECT 1 FROM mysql.user WHERE {} AND {}", is_tenants::<D>(), account.is());
    Ok(check_letters(&account.name).is_ok() && session.any(&sql).await?)
}

fn bytes(literal: &str) -> String {
    format!("CAST({literal} AS BINARY)")
}

fn missing(user: &UserName) -> Error {
    Error::not_found(format!("there is no user {:?}", user.to_string()))
}

fn taken(user: &UserName) -> Error {
    Error::conflict(format!("there is a user {:?} already", user.to_string()))
}
