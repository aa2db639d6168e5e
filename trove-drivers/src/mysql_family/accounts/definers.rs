//! Accounts that views, routines, triggers and events run as.
//!
//! With such an account all that runs as it would stop running. So in place of one that is dropped or called otherwise
//! there stays an account of the same name and the same rights that nobody can log in as. It goes with the last thing
//! that runs as it, and is taken over by a new user of its name.

use trove_core::error::Result;

use super::account::{Account, is_locked_out, query_accounts};
use crate::mysql_family::{AdminSession, Dialect, literal};

/// How many are looked at in one call.
const SWEEP: u32 = 100;

/// True where anything runs as this account.
pub(super) async fn is_definer(session: &mut AdminSession, account: &Account) -> Result<bool> {
    let definer = literal(&account.mark());
    for kind in ["VIEWS", "ROUTINES", "TRIGGERS", "EVENTS"] {
        if session.any(&format!("SELECT 1 FROM information_schema.{kind} WHERE DEFINER = {definer} LIMIT 1")).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Keeps everybody from logging in as this account.
pub(super) async fn lock_out<D: Dialect>(session: &mut AdminSession, account: &Account) -> Result<()> {
    session.run(&format!("ALTER USER {} {} ACCOUNT LOCK", account.quoted(), D::unusable_password())).await
}

/// Drops the accounts that nothing runs as any more.
pub(super) async fn sweep<D: Dialect>(session: &mut AdminSession) -> Result<()> {
    let sql = format!("SELECT User, Host FROM mysql.user WHERE {} LIMIT {SWEEP}", is_locked_out::<D>());
    for account in query_accounts(session, &sql).await? {
        if !is_definer(session, &account).await? {
            session.run(&format!("DROP USER IF EXISTS {}", account.quoted())).await?;
        }
    }
    Ok(())
}
