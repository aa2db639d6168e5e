//! Accounts: names, hosts, and the conditions that select them.

use trove_core::{error::Result, model::UserName};

use crate::mysql_family::{AdminSession, Dialect, ROOT, check_letters, check_quotes, literal, rules};

/// The host pattern of an account that may connect from anywhere.
const ANYWHERE: &str = "%";

/// The users of the service and of the server.
const OWN_USERS: [&str; 5] = ["trove_admin", "mysql.infoschema", "mysql.session", "mysql.sys", "mariadb.sys"];

/// The prefix of draft accounts, followed by a number.
const DRAFT: &str = "trove_new_";

/// An account: a user name and the host it may connect from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) host: String,
}

impl Account {
    /// Returns the account of a user. Servers store hosts in lower case.
    pub(super) fn of(user: &UserName) -> Self {
        let host = user.host.as_deref().unwrap_or(ANYWHERE).to_ascii_lowercase();
        Self { name: user.name.clone(), host }
    }

    /// Returns the account of a new user.
    ///
    /// # Errors
    ///
    /// [`Invalid`](trove_core::error::Kind::Invalid) if the name is not allowed.
    pub(super) fn allowed(user: &UserName) -> Result<Self> {
        rules(user.name.len()).check_user(user)?;
        check_letters(&user.name)?;
        check_quotes(&user.name)?;
        Ok(Self::of(user))
    }

    /// Returns the draft account of this number.
    pub(super) fn draft(number: usize) -> Self {
        Self { name: format!("{DRAFT}{number}"), host: ANYWHERE.to_owned() }
    }

    /// Returns the account of the tenant's root.
    pub(super) fn root() -> Self {
        Self { name: ROOT.to_owned(), host: ANYWHERE.to_owned() }
    }

    pub(super) fn into_user(self) -> UserName {
        let user = UserName::new(self.name);
        if self.host == ANYWHERE { user } else { user.at(self.host) }
    }

    /// Returns the account as statements name it.
    pub(super) fn quoted(&self) -> String {
        format!("{}@{}", literal(&self.name), literal(&self.host))
    }

    /// Returns the condition that selects the account's rows.
    pub(super) fn condition(&self) -> String {
        format!("User = {} AND Host = {}", literal(&self.name), literal(&self.host))
    }

    /// Returns the position of the account in a listing, for
    /// [`next`](trove_core::model::Page::next). No host contains an `@`.
    pub(super) fn mark(&self) -> String {
        format!("{}@{}", self.name, self.host)
    }

    pub(super) fn from_mark(mark: &str) -> Self {
        let (name, host) = mark.rsplit_once('@').unwrap_or((mark, ""));
        Self { name: name.to_owned(), host: host.to_owned() }
    }
}

/// Returns the condition that selects the tenant's users in `mysql.user`: all accounts that may log in or be changed,
/// except root and those of the service and the server. The tenant's root may have created some with reserved names.
pub(super) fn is_tenants<D: Dialect>() -> String {
    format!("{} AND NOT ({})", is_foreign::<D>(), has_no_login::<D>())
}

/// Returns the condition that selects dropped users that are still definers.
pub(super) fn is_locked_out<D: Dialect>() -> String {
    format!("{} AND {}", is_foreign::<D>(), has_no_login::<D>())
}

/// Returns the condition that selects the accounts that are not listed, although objects may belong to them: roles,
/// dropped users, and a root that is disabled.
pub(super) fn is_unlisted<D: Dialect>() -> String {
    format!("NOT ({}) AND NOT ({}) AND NOT ({})", is_own(), is_draft(), is_tenants::<D>())
}

/// Returns the condition that selects accounts that would be taken for root or for any user: those named root that
/// connect from particular hosts, and anonymous ones.
pub(super) fn is_disguised<D: Dialect>() -> String {
    let root = literal(ROOT);
    format!("NOT ({}) AND (User = '' OR User = {root} AND Host <> {})", D::IS_ROLE, literal(ANYWHERE))
}

/// Returns the condition that selects unfinished accounts.
fn is_draft() -> String {
    format!("LEFT(User, {}) = {}", DRAFT.len(), literal(DRAFT))
}

/// Returns the condition that selects the accounts of the service and of the server. They use the socket, which the
/// tenant cannot reach.
fn is_own() -> String {
    format!("Host = 'localhost' AND User IN ({})", OWN_USERS.map(literal).join(", "))
}

fn is_foreign<D: Dialect>() -> String {
    let (own, draft, root) = (is_own(), is_draft(), Account::root().condition());
    format!("NOT ({own}) AND NOT ({draft}) AND NOT ({root}) AND User <> '' AND NOT ({})", D::IS_ROLE)
}

fn has_no_login<D: Dialect>() -> String {
    format!("COALESCE(authentication_string, '') = {} AND {}", literal(D::UNUSABLE_HASH), D::IS_LOCKED)
}

/// Returns the accounts that a query of user and host finds.
pub(super) async fn query_accounts(session: &mut AdminSession, sql: &str) -> Result<Vec<Account>> {
    let rows = session.rows(sql).await?.into_iter().filter_map(|row| match <[_; 2]>::try_from(row) {
        Ok([Some(name), Some(host)]) => Some(Account { name, host }),
        _ => None,
    });
    Ok(rows.collect())
}

/// Drops the draft accounts that an interrupted call left behind.
pub(super) async fn sweep_drafts(session: &mut AdminSession) -> Result<()> {
    for draft in query_accounts(session, &format!("SELECT User, Host FROM mysql.user WHERE {}", is_draft())).await? {
        session.run(&format!("DROP USER IF EXISTS {}", draft.quoted())).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_marks_round_trip() {
        for user in [UserName::new("a@b"), UserName::new("a").at("10.0.0.%"), UserName::new("@").at("2001:DB8::1")] {
            let account = Account::of(&user);
            assert_eq!(Account::from_mark(&account.mark()), account);
        }
        assert_eq!(Account::of(&UserName::new("a").at("%")).into_user(), UserName::new("a"));
        assert!(Account::allowed(&"'".into()).is_ok());
        for bad in ["🐘", "Root", "''", "'app'", "trove_x"] {
            assert!(Account::allowed(&bad.into()).is_err(), "{bad}");
        }
    }
}
