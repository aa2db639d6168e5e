//! Checks the answers of agents about accounts: an agent may be compromised, and its answers reach
//! the caller. Control characters are escaped rather than stripped, since a user of the database may
//! have created such a name.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::protocol::{AccountsCall, AccountsReply};
use crate::{
    error::{Error, Result},
    model::{Database, Page, PageRequest, User, UserName},
};

/// The maximum length of a name, in characters; more than the engines permit.
pub(super) const MAX_NAME: usize = 1000;
/// The maximum number of databases that one user may access.
pub(super) const MAX_DATABASES: usize = 10_000;
/// The start of a marker that is encoded, because the entry contains control characters.
const ENCODED: &str = "base64:";

/// Decodes the marker of a request for a page, as [`sanitize_reply`] encoded it.
pub(crate) fn decode_marker(call: &mut AccountsCall) {
    let (AccountsCall::Databases(request) | AccountsCall::Users(request)) = call else { return };
    let encoded = request.after.as_deref().and_then(|after| after.strip_prefix(ENCODED));
    let decoded = encoded.and_then(|encoded| String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok());
    if decoded.is_some() {
        request.after = decoded;
    }
}

/// Checks that a reply belongs to the call and keeps within its page and the limits, and escapes
/// control characters.
pub(crate) fn sanitize_reply(call: &AccountsCall, reply: AccountsReply) -> Result<AccountsReply> {
    Ok(match (call, reply) {
        (AccountsCall::Databases(request), AccountsReply::Databases(found)) => {
            AccountsReply::Databases(page(request, found, database)?)
        }
        (AccountsCall::Users(request), AccountsReply::Users(found)) => {
            AccountsReply::Users(page(request, found, user)?)
        }
        (AccountsCall::User(_), AccountsReply::User(found)) => AccountsReply::User(user(found)?),
        (AccountsCall::EnableRoot(_), AccountsReply::Root(name)) => AccountsReply::Root(text(&name)?),
        (AccountsCall::RootEnabled, AccountsReply::Flag(enabled)) => AccountsReply::Flag(enabled),
        (call, AccountsReply::Done) if call.action().is_some() && !matches!(call, AccountsCall::EnableRoot(_)) => {
            AccountsReply::Done
        }
        (_, reply) => return Err(reply.unexpected()),
    })
}

fn page<T>(request: &PageRequest, page: Page<T>, item: impl Fn(T) -> Result<T>) -> Result<Page<T>> {
    limited(page.items.len(), usize::try_from(request.limit).unwrap_or(usize::MAX))?;
    let items = page.items.into_iter().map(item).collect::<Result<_>>()?;
    Ok(Page { items, next: page.next.map(marker).transpose()? })
}

fn marker(next: String) -> Result<String> {
    // The marker of a user has a name and a host.
    limited(next.chars().count(), 2 * MAX_NAME + 1)?;
    let encode = next.starts_with(ENCODED) || next.chars().any(char::is_control);
    Ok(if encode { format!("{ENCODED}{}", BASE64_STANDARD.encode(next)) } else { next })
}

fn database(Database { name, character_set, collation }: Database) -> Result<Database> {
    let optional = |value: Option<String>| value.as_deref().map(text).transpose();
    Ok(Database { name: text(&name)?, character_set: optional(character_set)?, collation: optional(collation)? })
}

fn user(User { user: UserName { name, host }, databases }: User) -> Result<User> {
    limited(databases.len(), MAX_DATABASES)?;
    let user = UserName { name: text(&name)?, host: host.as_deref().map(text).transpose()? };
    Ok(User { user, databases: databases.iter().map(|name| text(name)).collect::<Result<_>>()? })
}

/// Returns a name with control characters escaped.
fn text(name: &str) -> Result<String> {
    limited(name.chars().count(), MAX_NAME)?;
    let escape = |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.into() };
    Ok(name.chars().map(escape).collect())
}

fn limited(count: usize, limit: usize) -> Result<()> {
    if count <= limit { Ok(()) } else { Err(Error::internal("the guest sent a reply that exceeds its limits")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretString;

    fn databases(limit: u32, names: &[&str], next: Option<&str>) -> Result<Page<Database>> {
        let items = names.iter().map(|name| Database::new(*name)).collect();
        let page = Page { items, next: next.map(str::to_owned) };
        let call = AccountsCall::Databases(PageRequest { limit, after: None });
        match sanitize_reply(&call, AccountsReply::Databases(page))? {
            AccountsReply::Databases(page) => Ok(page),
            other => Err(other.unexpected()),
        }
    }

    #[test]
    fn control_characters_are_escaped_and_markers_survive_the_round_trip() {
        let weird = "a\u{1b}[31m";
        let page = databases(2, &["plain", weird], Some(weird)).unwrap();
        assert_eq!(page.items[1].name, "a\\u{1b}[31m");
        for after in [weird, "base64:", "base64:YQ==", "pl\\ain"] {
            let next = databases(1, &[], Some(after)).unwrap().next.unwrap();
            assert!(!next.chars().any(char::is_control));
            let mut call = AccountsCall::Users(PageRequest { limit: 1, after: Some(next) });
            decode_marker(&mut call);
            assert!(
                matches!(&call, AccountsCall::Users(request) if request.after.as_deref() == Some(after)),
                "{call:?}"
            );
        }
    }

    #[test]
    fn replies_beyond_their_limits_or_to_other_calls_are_rejected() {
        let long = "x".repeat(MAX_NAME + 1);
        assert!(databases(1, &["a", "b"], None).is_err());
        assert!(databases(1, &[&long], None).is_err());
        assert!(databases(1, &["a"], Some(&long.repeat(2))).is_err());
        let user = |databases: usize| User::new("a", vec!["d".to_owned(); databases]);
        let call = AccountsCall::User(UserName::new("a"));
        assert!(sanitize_reply(&call, AccountsReply::User(user(MAX_DATABASES))).is_ok());
        assert!(sanitize_reply(&call, AccountsReply::User(user(MAX_DATABASES + 1))).is_err());
        let enable = AccountsCall::EnableRoot(SecretString::from("secret"));
        for (call, reply) in [
            (&call, AccountsReply::Done),
            (&enable, AccountsReply::Done),
            (&enable, AccountsReply::Root(long)),
            (&AccountsCall::DisableRoot, AccountsReply::Flag(true)),
            (&AccountsCall::RootEnabled, AccountsReply::User(user(0))),
        ] {
            assert!(sanitize_reply(call, reply.clone()).is_err(), "{call:?} {reply:?}");
        }
    }
}
