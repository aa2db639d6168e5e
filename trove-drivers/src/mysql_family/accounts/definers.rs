//! Accounts that views, routines, triggers and events run as.
//!
//! With such an account all that runs as it would stop running. So in place of one that is dropped or called otherwise
//! there stays an account of the same name and the same rights that nobody can log in as. It goes with the last thing
//! that runs as it, and is taken over by a new user of its name.

use trove_core::error::Result;

use super::{
    names::{Account, is_shut_out},
    users,
};
use crate::mysql_family::{Dialect, Session, literal};

/// How many are looked at in one call.
const SWEEP: u32 = 100;

/// True where anything runs as this account.
pub(super) async fn needs(session: &mut Session, account: &Account) -> Result<bool> {
    let definer = literal(&account.mark());
    for kind in ["VIEWS", "ROUTINES", "TRIGGERS", "EVENTS"] {
        if session.any(&format!("SELECT 1 FROM information_schema.{kind} WHERE DEFINER = {definer} LIMIT 1")).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Keeps everybody from logging in as this account.
pub(super) async fn shut_out<D: Dialect>(session: &mut Session, account: &Account) -> Result<()> {
    session.run(&format!("ALTER USER {} {} ACCOUNT LOCK", account.quoted(), D::no_password())).await
}

/// Drops the accounts that nothing runs as any more.
pub(super) async fn sweep<D: Dialect>(session: &mut Session) -> Result<()> {
    let sql = format!("SELECT User, Host FROM mysql.user WHERE {} LIMIT {SWEEP}", is_shut_out::<D>());
    for account in users::accounts(session, &sql).await? {
        if !needs(session, &account).await? {
            session.run(&format!("DROP USER IF EXISTS {}", account.quoted())).await?;
        }
    }
    Ok(())
}
