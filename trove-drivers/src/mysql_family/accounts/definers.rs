//! Accounts that are the definers of views, routines, triggers and events.
//!
//! Without their definer these objects stop working. So a definer that is dropped or renamed leaves a
//! locked account of the same name and privileges on data. It is removed with the last object that it
//! defines, or taken over by a new user of its name. Its events, which run without a session, are
//! disabled.

use trove_core::error::Result;

use super::{
    account::{Account, is_locked_out, query_accounts},
    privileges::NO_SUCH_GRANT,
};
use crate::mysql_family::{AdminSession, Dialect, identifier, literal};

/// How many locked accounts are checked in one call.
const SWEEP: u32 = 100;

/// Returns true if the account is the definer of any object.
pub(super) async fn is_definer(session: &mut AdminSession, account: &Account) -> Result<bool> {
    let definer = literal(&account.mark());
    for kind in ["VIEWS", "ROUTINES", "TRIGGERS", "EVENTS"] {
        if session.any(&format!("SELECT 1 FROM information_schema.{kind} WHERE DEFINER = {definer} LIMIT 1")).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Prevents everybody from logging in as this account, and from administering accounts through the objects that it
/// defines.
pub(super) async fn lock_out<D: Dialect>(session: &mut AdminSession, account: &Account) -> Result<()> {
    session.run(&format!("ALTER USER {} {} ACCOUNT LOCK", account.quoted(), D::unusable_password())).await?;
    render_harmless::<D>(session, account).await
}

/// Disables the events of an account, and revokes its privileges to administer accounts.
pub(super) async fn render_harmless<D: Dialect>(session: &mut AdminSession, account: &Account) -> Result<()> {
    for revoke in D::revoke_administration(&account.quoted()) {
        session.run_ignoring(&NO_SUCH_GRANT, &revoke).await?;
    }
    let definer = literal(&account.mark());
    let sql = format!(
        "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE DEFINER = {definer} AND STATUS = 'ENABLED'"
    );
    for row in session.rows(&sql).await? {
        if let Ok([Some(database), Some(event)]) = <[_; 2]>::try_from(row) {
            // Without the clause, the administrator would become the definer.
            let event = format!("{}.{}", identifier(&database), identifier(&event));
            session.run(&format!("ALTER DEFINER = {} EVENT {event} DISABLE", account.quoted())).await?;
        }
    }
    Ok(())
}

/// Drops the locked accounts that define nothing any more.
pub(super) async fn sweep<D: Dialect>(session: &mut AdminSession) -> Result<()> {
    let sql = format!("SELECT User, Host FROM mysql.user WHERE {} LIMIT {SWEEP}", is_locked_out::<D>());
    for account in query_accounts(session, &sql).await? {
        if !is_definer(session, &account).await? {
            session.run(&format!("DROP USER IF EXISTS {}", account.quoted())).await?;
        }
    }
    Ok(())
}
