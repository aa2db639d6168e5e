//! The tenant's root: it has full access to the tenant's databases, and none that leads to the
//! administrator, to files or to the server itself. Its privileges depend on the
//! [dialect](Dialect::root_grants).

use trove_core::{error::Result, secret::SecretString};

use super::{
    account::{Account, sweep_drafts},
    definers, password,
    sessions::end_sessions,
};
use crate::mysql_family::{AdminSession, Dialect, ROOT, literal};

/// Sets root's password and lets it log in.
pub(super) async fn enable<D: Dialect>(session: &mut AdminSession, secret: &SecretString) -> Result<String> {
    let (root, password) = (Account::root(), password::<D>(secret).await?);
    if !exists(session).await? {
        sweep_drafts(session).await?;
        let draft = Account::draft(0).quoted();
        session.run(&format!("CREATE USER {draft} {} ACCOUNT LOCK", D::unusable_password())).await?;
        for grant in D::root_grants(&draft) {
            session.run(&grant).await?;
        }
        session.run(&format!("RENAME USER {draft} TO {}", root.quoted())).await?;
    }
    session.run(&format!("ALTER USER {} {password} ACCOUNT UNLOCK", root.quoted())).await?;
    Ok(ROOT.to_owned())
}

/// Prevents root from logging in and ends its sessions.
pub(super) async fn disable<D: Dialect>(session: &mut AdminSession) -> Result<()> {
    // A session of root could enable it again until the session has ended.
    for _ in 0..2 {
        if exists(session).await? {
            definers::lock_out::<D>(session, &Account::root()).await?;
            end_sessions(session, |found| found.user == ROOT).await?;
        }
    }
    Ok(())
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
