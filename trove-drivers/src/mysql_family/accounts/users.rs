use std::collections::BTreeSet;

use trove_core::{
    error::{Error, Result},
    model::{NewUser, Page, PageRequest, User, UserName},
    secret::SecretString,
};

use super::{
    account::{Account, is_locked_out, is_tenants, query_accounts, sweep_drafts},
    databases, definers, password, privileges,
    sessions::end_sessions,
};
use crate::mysql_family::{AdminSession, Dialect, check_letters, identifier, literal};

/// Creates users, all or none.
pub(super) async fn create<D: Dialect>(session: &mut AdminSession, users: &[NewUser]) -> Result<()> {
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
        // If this fails too, the next call does it.
        let _ = sweep_drafts(session).await;
    }
    made
}

/// Creates users, or sets the password and privileges of existing ones.
pub(super) async fn ensure<D: Dialect>(session: &mut AdminSession, users: &[NewUser]) -> Result<()> {
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

/// Lists users in order of name and host.
pub(super) async fn list<D: Dialect>(session: &mut AdminSession, page: &PageRequest) -> Result<Page<User>> {
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
    let found = query_accounts(session, &sql).await?;
    let found = with_databases::<D>(session, found).await?;
    Ok(Page::of(found, limit, |user: &User| Account::of(&user.user).mark()))
}

/// Returns one user.
pub(super) async fn find<D: Dialect>(session: &mut AdminSession, user: &UserName) -> Result<User> {
    let account = require::<D>(session, user).await?;
    with_databases::<D>(session, vec![account]).await?.pop().ok_or_else(|| missing(user))
}

/// Renames a user or changes its host. Its privileges and its password are kept. Its sessions are
/// ended, because they would keep the former name and not be found when the user is dropped.
pub(super) async fn rename<D: Dialect>(session: &mut AdminSession, user: &UserName, to: &UserName) -> Result<()> {
    let (account, wanted) = (require::<D>(session, user).await?, Account::allowed(to)?);
    if account == wanted {
        return Ok(());
    }
    if exists::<D>(session, &wanted).await? {
        return Err(taken(to));
    }
    sweep_drafts(session).await?;
    let mut renamed = format!("RENAME USER {} TO {}", account.quoted(), wanted.quoted());
    if definers::is_definer(session, &account).await? {
        let stay = Account::draft(0);
        session.run(&format!("CREATE USER {} {} ACCOUNT LOCK", stay.quoted(), D::unusable_password())).await?;
        for granted in privileges::granted_patterns(session, &account).await? {
            session.run(&format!("GRANT ALL ON {}.* TO {}", identifier(&granted), stay.quoted())).await?;
        }
        renamed.push_str(&format!(", {} TO {}", stay.quoted(), account.quoted()));
    }
    remove_locked_out::<D>(session, &wanted).await?;
    session.run(&renamed).await?;
    end_sessions(session, |found| found.user == account.name).await
}

/// Changes a password.
pub(super) async fn set_password<D: Dialect>(
    session: &mut AdminSession,
    user: &UserName,
    secret: &SecretString,
) -> Result<()> {
    let account = require::<D>(session, user).await?;
    let password = password::<D>(secret).await?;
    session.run(&format!("ALTER USER {} {password} ACCOUNT UNLOCK", account.quoted())).await
}

/// Grants a user access to databases.
pub(super) async fn grant<D: Dialect>(session: &mut AdminSession, user: &UserName, databases: &[String]) -> Result<()> {
    let account = require::<D>(session, user).await?;
    databases::require(session, databases).await?;
    privileges::grant_all::<D>(session, &account, databases).await
}

/// Revokes a user's access to a database and ends its sessions there.
pub(super) async fn revoke<D: Dialect>(session: &mut AdminSession, user: &UserName, database: &str) -> Result<()> {
    let account = require::<D>(session, user).await?;
    if check_letters(database).is_err() {
        return Ok(());
    }
    privileges::revoke_all::<D>(session, &account, database).await?;
    privileges::revoke_global::<D>(session, &account, database).await?;
    // Sessions do not tell which of several accounts of a name they belong to; one ended needlessly
    // can reconnect.
    end_sessions(session, |found| found.user == account.name && found.database.as_deref() == Some(database)).await
}

/// Drops a user and ends its sessions. Objects that it defined keep working.
pub(super) async fn remove<D: Dialect>(session: &mut AdminSession, user: &UserName) -> Result<()> {
    let account = Account::of(user);
    if exists::<D>(session, &account).await? {
        if definers::is_definer(session, &account).await? {
            definers::lock_out::<D>(session, &account).await?;
        } else {
            session.run(&format!("DROP USER IF EXISTS {}", account.quoted())).await?;
        }
        end_sessions(session, |found| found.user == account.name).await?;
    }
    definers::sweep::<D>(session).await
}

/// Creates accounts under draft names and renames all of them at once when they are complete.
async fn make<D: Dialect>(session: &mut AdminSession, users: &[NewUser], accounts: &[Account]) -> Result<()> {
    if users.is_empty() {
        return Ok(());
    }
    let mut names = Vec::with_capacity(users.len());
    for (number, (user, account)) in users.iter().zip(accounts).enumerate() {
        let draft = Account::draft(number);
        session.run(&format!("CREATE USER {} {}", draft.quoted(), password::<D>(&user.password).await?)).await?;
        privileges::grant_all::<D>(session, &draft, &user.databases).await?;
        remove_locked_out::<D>(session, account).await?;
        names.push(format!("{} TO {}", draft.quoted(), account.quoted()));
    }
    let named = session.run(&format!("RENAME USER {}", names.join(", "))).await;
    if named.is_err() {
        // Some servers rename as many as they can.
        for (number, account) in accounts.iter().enumerate() {
            let draft = Account::draft(number);
            if !session.any(&format!("SELECT 1 FROM mysql.user WHERE {}", draft.condition())).await? {
                session.run(&format!("DROP USER IF EXISTS {}", account.quoted())).await?;
            }
        }
    }
    named
}

/// Removes the locked account that a dropped user of this name left.
async fn remove_locked_out<D: Dialect>(session: &mut AdminSession, account: &Account) -> Result<()> {
    let stayed = format!("SELECT 1 FROM mysql.user WHERE {} AND {}", is_locked_out::<D>(), account.condition());
    match session.any(&stayed).await? {
        true => session.run(&format!("DROP USER IF EXISTS {}", account.quoted())).await,
        false => Ok(()),
    }
}

async fn with_databases<D: Dialect>(session: &mut AdminSession, accounts: Vec<Account>) -> Result<Vec<User>> {
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let there: BTreeSet<_> = databases::names(session).await?.into_iter().collect();
    let of: Vec<_> = accounts.iter().map(|it| format!("({}, {})", literal(&it.name), literal(&it.host))).collect();
    let sql = format!("SELECT User, Host, Db FROM mysql.db WHERE (User, Host) IN ({})", of.join(", "));
    let mut rights = BTreeSet::new();
    for row in session.rows(&sql).await? {
        if let Ok([Some(name), Some(host), Some(granted)]) = <[_; 3]>::try_from(row) {
            rights.insert((Account { name, host }, D::database_name(&granted)));
        }
    }
    let user = |account: Account| {
        let of = rights.iter().filter(|(whose, database)| *whose == account && there.contains(database));
        let databases = of.map(|(_, database)| database.clone()).collect();
        User::new(account.into_user(), databases)
    };
    Ok(accounts.into_iter().map(user).collect())
}

/// Returns the account of one of the tenant's users;
/// [`NotFound`](trove_core::error::Kind::NotFound) if there is none.
async fn require<D: Dialect>(session: &mut AdminSession, user: &UserName) -> Result<Account> {
    let account = Account::of(user);
    if exists::<D>(session, &account).await? { Ok(account) } else { Err(missing(user)) }
}

async fn exists<D: Dialect>(session: &mut AdminSession, account: &Account) -> Result<bool> {
    let sql = format!("SELECT 1 FROM mysql.user WHERE {} AND {}", is_tenants::<D>(), account.condition());
    Ok(check_letters(&account.name).is_ok() && session.any(&sql).await?)
}

fn bytes(literal: &str) -> String {
    format!("CAST({literal} AS BINARY)")
}

fn missing(user: &UserName) -> Error {
    Error::not_found(format!("there is no user {:?}", user.to_string()))
}

fn taken(user: &UserName) -> Error {
    Error::conflict(format!("user {:?} already exists", user.to_string()))
}
