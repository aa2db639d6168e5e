//! The tenant's root: it has full access to the tenant's databases, and none that leads to the
//! administrator, to files or to the server itself. Its privileges depend on the
//! [dialect](Dialect::root_grants).

use trove_core::{error::Result, secret::SecretString};

use super::{
    account::{Account, is_disguised, is_tenants, is_unlisted, query_accounts, sweep_drafts},
    definers, password,
    sessions::{ClientSession, end_sessions},
};
use crate::mysql_family::{AdminSession, Dialect, ROOT, literal};

/// Creates root anew, so that nothing remains of what it had done to its own account, and lets it log in.
pub(super) async fn enable<D: Dialect>(session: &mut AdminSession, secret: &SecretString) -> Result<String> {
    let (root, password) = (Account::root().quoted(), password::<D>(secret).await?);
    sweep_drafts(session).await?;
    let [new, former] = [0, 1].map(|number| Account::draft(number).quoted());
    session.run(&format!("CREATE USER {new} {} ACCOUNT LOCK", D::unusable_password())).await?;
    for grant in D::root_grants(&new) {
        session.run(&grant).await?;
    }
    // The objects of the former root belong to the new one, because their definer is a name.
    let replaced = if exists(session).await? { format!("{root} TO {former}, ") } else { String::new() };
    session.run(&format!("RENAME USER {replaced}{new} TO {root}")).await?;
    sweep_drafts(session).await?;
    session.run(&format!("ALTER USER {root} {password} ACCOUNT UNLOCK")).await?;
    Ok(ROOT.to_owned())
}

/// Prevents root from logging in, ends its sessions, and removes or disables what root made that acts on its own. What
/// remains is listed among the users, or needs one of them.
pub(super) async fn disable<D: Dialect>(session: &mut AdminSession) -> Result<()> {
    // A session of root could undo this until the session has ended.
    for _ in 0..2 {
        // Dropped last, so that a repeated call finds those whose sessions may go on.
        let disguised = select(session, &is_disguised::<D>()).await?;
        for account in &disguised {
            session.run(&format!("ALTER USER {} ACCOUNT LOCK", account.quoted())).await?;
        }
        if exists(session).await? {
            definers::lock_out::<D>(session, &Account::root()).await?;
        }
        let unlisted = select(session, &is_unlisted::<D>()).await?;
        for account in &unlisted {
            definers::render_harmless::<D>(session, account).await?;
        }
        let users = select(session, &is_tenants::<D>()).await?;
        // The session of an anonymous account has any name that the client gave, even that of a user.
        let ended = |client: &ClientSession| {
            let is = |accounts: &[Account]| accounts.iter().any(|account| account.name == client.user);
            is(&unlisted) || client.is_remote && (!disguised.is_empty() || !is(&users))
        };
        end_sessions(session, ended).await?;
        for account in &disguised {
            session.run(&format!("DROP USER IF EXISTS {}", account.quoted())).await?;
        }
    }
    Ok(())
}

async fn select(session: &mut AdminSession, condition: &str) -> Result<Vec<Account>> {
    query_accounts(session, &format!("SELECT User, Host FROM mysql.user WHERE {condition}")).await
}

/// Returns true if root can log in.
pub(super) async fn enabled<D: Dialect>(session: &mut AdminSession) -> Result<bool> {
    let no_hash = literal(D::UNUSABLE_HASH);
    let is = Account::root().condition();
    session.any(&format!("SELECT 1 FROM mysql.user WHERE {is} AND authentication_string <> {no_hash}")).await
}

async fn exists(session: &mut AdminSession) -> Result<bool> {
    session.any(&format!("SELECT 1 FROM mysql.user WHERE {}", Account::root().condition())).await
}
