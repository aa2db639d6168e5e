//! Names that a driver mishandles without correct quoting: names that end a quotation, or that are
//! truncated, normalized or confused with others. Each names a database and a user.

use std::collections::BTreeSet;

use super::fixture::{PASSWORD, accounts_group, assert_session_ended, databases_group, secret};
use crate::{
    conformance::{
        case::{cases, skip},
        driver::{ServerFixture, group::Group},
    },
    error::Kind,
    model::{NewDatabase, NewUser, UserName},
};

/// Declares cases that exercise related names together.
macro_rules! name_cases {
    ($($case:ident: [$($name:expr),* $(,)?];)*) => {
        $(async fn $case(fixture: &ServerFixture) {
            assert_names_work(fixture, &[$($name),*]).await;
        })*

        pub(super) fn groups() -> Vec<Group> {
            let longest = cases![the_longest_names_are_distinct_in_their_last_character];
            let wildcards = cases![privileges_do_not_treat_names_as_patterns];
            vec![
                accounts_group("accounts::identifiers", cases![$($case),*]),
                accounts_group("accounts::identifiers", longest),
                databases_group("accounts::identifiers", wildcards),
            ]
        }
    };
}

// Few names each, because every name creates a database.
name_cases! {
    names_may_contain_quotes: ["o'brien", "double\"quote", "back`tick", "'"];
    names_may_contain_sql_statements: ["x'; DROP DATABASE app; --", "x\"; DROP ROLE app; --", "x`; DROP USER app; --"];
    names_may_contain_backslashes: ["a\\b", "\\'x", "end\\"];
    names_may_contain_comments: ["dash--dash", "/*!50000 x */", "#hash"];
    names_may_contain_dollar_signs: ["$$dollar$$", "${HOME}"];
    names_may_contain_format_specifiers: ["100%s %I %L", "{0}", "?"];
    names_may_contain_wildcards: ["a_b", "axb", "a%", "[a-z]*"];
    names_may_contain_spaces: ["sp ace", "sp  ace", "sp\u{a0}ace"];
    names_may_be_reserved_words: ["select", "NULL", "default", "all"];
    names_may_be_numbers: ["1", "0x10", "1e5"];
    names_may_contain_path_and_shell_syntax: ["../../etc", "..", "$(id)", "a|b>c"];
    names_may_contain_uri_syntax: ["user.name@host", "a:b@c/d", "a=b&c?d#e", "pre%41"];
    names_may_contain_non_ascii_letters: ["grüße", "名前データ", "ﬁ", "שלום"];
    names_may_contain_emoji: ["🐘", "👩\u{200d}👧"];
    names_are_not_unicode_normalized: ["é", "e\u{301}"];
    names_may_contain_invisible_characters: ["ab", "a\u{200b}b", "a\u{202e}b"];
    names_are_case_sensitive: ["case", "Case", "CASE"];
    names_may_be_a_single_letter: ["x", "é"];
    names_with_a_common_prefix_are_distinct: ["pre", "prefix", "pre_fix"];
}

async fn the_longest_names_are_distinct_in_their_last_character(fixture: &ServerFixture) {
    let rules = fixture.account_rules().expect("the driver has accounts");
    let longest = |letter: &str, bytes: usize, last: &str| letter.repeat((bytes - 1) / letter.len()) + last;
    for letter in ["x", "é", "_"] {
        let pair = ["y", "z"].map(|last| {
            let name = |bytes| longest(letter, bytes, last);
            (name(rules.max_database_bytes), name(rules.max_user_bytes))
        });
        // An engine may limit characters instead of bytes. It may reject one of the names, and then
        // there is nothing to compare.
        let _ = exercise_names(fixture, &pair).await;
    }
}

/// A privilege on a name that contains a wildcard does not apply to names that match it.
async fn privileges_do_not_treat_names_as_patterns(fixture: &ServerFixture) {
    let all = ["a_b", "axb", "a%", "abc", "a\\_b"].map(|name| fixture.unique_name(name));
    fixture.create_databases_if_supported(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let users = [&all[0], &all[2], &all[4]].map(|name| NewUser::new(name, PASSWORD).granted(name));
    fixture.accounts().create_users(&fixture.cx(), &users).await.unwrap();
    for user in [&all[0], &all[2], &all[4]] {
        for database in &all {
            assert_eq!(fixture.can_log_in(user, PASSWORD, database).await, user == database, "{user} in {database}");
        }
        fixture.accounts().revoke(&fixture.cx(), &user.into(), user).await.unwrap();
    }
    for user in [&all[0], &all[2], &all[4]] {
        assert!(!fixture.can_log_in(user, PASSWORD, user).await, "{user} still has its privilege");
    }
    fixture.drop_all(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn assert_names_work(fixture: &ServerFixture, names: &[&str]) {
    let pairs: Vec<_> = names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect();
    if !exercise_names(fixture, &pairs).await {
        skip("the engine rejects all of these names");
    }
}

/// Creates, uses, changes and drops databases and their users. Returns false if the engine rejects
/// all names as [`Invalid`](Kind::Invalid), as it may do with names that it cannot represent.
async fn exercise_names(fixture: &ServerFixture, pairs: &[(String, String)]) -> bool {
    let (users, databases) = (fixture.users().await, fixture.databases().await);
    let mut created = Vec::new();
    for pair in pairs {
        if create_pair(fixture, pair).await {
            created.push(pair.clone());
        }
    }
    let before: BTreeSet<_> = databases.iter().map(|database| database.name.clone()).collect();
    let mut expected = before.clone();
    expected.extend(created.iter().filter(|_| fixture.has_databases()).map(|(database, _)| database.clone()));
    let listed: Vec<_> = fixture.databases().await.into_iter().map(|database| database.name).collect();
    assert_eq!(listed, expected.into_iter().collect::<Vec<_>>());
    assert_eq!(fixture.users().await.len(), users.len() + created.len());
    for pair in &created {
        use_database(fixture, pair).await;
    }
    for pair in &created {
        change_and_drop(fixture, pair).await;
    }
    assert_eq!(fixture.users().await, users, "users are left over, or others were dropped");
    assert_eq!(fixture.databases().await, databases, "databases are left over, or others were dropped");
    assert!(fixture.can_log_in("app", PASSWORD, "app").await, "user app was affected");
    !created.is_empty()
}

/// Creates a database and its user. Returns false if the engine rejects one of the names; then it
/// has created neither.
async fn create_pair(fixture: &ServerFixture, (database, name): &(String, String)) -> bool {
    let rules = fixture.account_rules().expect("the driver has accounts");
    let user = UserName::new(name);
    if rules.check_user(&user).is_err() || (rules.databases && rules.check_database(database).is_err()) {
        return false;
    }
    if rules.databases {
        let created = fixture.accounts().create_databases(&fixture.cx(), &[NewDatabase::new(database)]).await;
        if let Err(error) = created {
            assert_eq!(error.kind(), Kind::Invalid, "database {database:?}: {error:?}");
            return false;
        }
    }
    let new = fixture.new_user(name, name, database);
    match fixture.accounts().create_users(&fixture.cx(), &[new]).await {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind(), Kind::Invalid, "user {name:?}: {error:?}");
            fixture.drop_all(&[database]).await;
            false
        }
    }
}

/// Uses a database as its user.
async fn use_database(fixture: &ServerFixture, (database, name): &(String, String)) {
    let mut session = fixture.log_in(name, name, database).await;
    session.put("owner", name).await.unwrap_or_else(|error| panic!("{name:?}: {error:?}"));
    let selected = fixture.has_databases().then(|| database.clone());
    assert_eq!(session.current_user().await.unwrap(), (name.clone(), selected.clone()));
    assert!(!fixture.can_log_in(name, "wrong", database).await, "{name:?} can log in with a wrong password");
    if fixture.has_databases() {
        assert!(!fixture.can_log_in(name, name, "app").await, "{name:?} can log in to the database of another user");
    }
    let user = fixture.accounts().user(&fixture.cx(), &name.into()).await.unwrap();
    assert_eq!((user.user, user.databases), (UserName::new(name), Vec::from_iter(selected)));
}

/// Changes and drops a database and its user, while the others exist.
async fn change_and_drop(fixture: &ServerFixture, (database, name): &(String, String)) {
    let (accounts, user, changed) = (fixture.accounts(), UserName::new(name), format!("{name}{name}"));
    accounts.set_password(&fixture.cx(), &user, &secret(&changed)).await.unwrap();
    let mut session = fixture.log_in(name, &changed, database).await;
    if fixture.has_databases() {
        assert_eq!(
            session.get("owner").await.unwrap().as_deref(),
            Some(name.as_str()),
            "another user wrote into the database"
        );
        accounts.revoke(&fixture.cx(), &user, database).await.unwrap();
        assert_session_ended(&mut session, "its privilege was revoked").await;
        accounts.grant(&fixture.cx(), &user, std::slice::from_ref(database)).await.unwrap();
    }
    let other = UserName::new(fixture.unique_name("plain"));
    accounts.rename_user(&fixture.cx(), &user, &other).await.unwrap();
    accounts.rename_user(&fixture.cx(), &other, &user).await.unwrap();
    assert!(
        fixture.can_log_in(name, &changed, database).await,
        "{name:?} lost its password or privilege when it was renamed"
    );
    for _ in 0..2 {
        accounts.drop_user(&fixture.cx(), &user).await.unwrap();
    }
    assert!(!fixture.can_log_in(name, &changed, database).await, "the dropped user {name:?} can log in");
    if fixture.has_databases() {
        accounts.drop_database(&fixture.cx(), database).await.unwrap();
    }
}
