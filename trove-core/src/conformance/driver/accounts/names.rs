//! Names that a careless quotation would break out of, shorten, change or mistake. Each is a database and a user.

use std::collections::BTreeSet;

use super::tenant::{PASSWORD, accounts, databases, ended, secret};
use crate::{
    conformance::{
        case::{cases, skip},
        driver::{ServerFixture, group::Group},
    },
    error::Kind,
    model::{NewDatabase, NewUser, UserName},
};

/// Cases of names that belong together.
macro_rules! hostile {
    ($($case:ident: [$($name:expr),* $(,)?];)*) => {
        $(async fn $case(fixture: &ServerFixture) {
            stay_names(fixture, &[$($name),*]).await;
        })*

        pub(super) fn groups() -> Vec<Group> {
            let long = cases![the_longest_names_are_distinct_in_their_last_character];
            let own = cases![privileges_do_not_treat_names_as_patterns];
            vec![
                accounts("accounts::names", cases![$($case),*]),
                accounts("accounts::names", long),
                databases("accounts::names", own),
            ]
        }
    };
}

// A few of each: a server makes a database of every one.
hostile! {
    names_may_contain_quotes: ["o'brien", "double\"quote", "back`tick", "'"];
    statements_are_part_of_a_name: ["x'; DROP DATABASE app; --", "x\"; DROP ROLE app; --", "x`; DROP USER app; --"];
    names_may_contain_backslashes: ["a\\b", "\\'x", "end\\"];
    names_may_contain_comments: ["dash--dash", "/*!50000 x */", "#hash"];
    dollars_are_part_of_a_name: ["$$dollar$$", "${HOME}"];
    formats_are_part_of_a_name: ["100%s %I %L", "{0}", "?"];
    patterns_are_part_of_a_name: ["a_b", "axb", "a%", "[a-z]*"];
    names_may_contain_spaces: ["sp ace", "sp  ace", "sp\u{a0}ace"];
    reserved_words_are_names: ["select", "NULL", "default", "all"];
    numbers_are_names: ["1", "0x10", "1e5"];
    paths_and_shells_are_part_of_a_name: ["../../etc", "..", "$(id)", "a|b>c"];
    names_may_contain_uri_syntax: ["user.name@host", "a:b@c/d", "a=b&c?d#e", "pre%41"];
    foreign_letters_are_part_of_a_name: ["grüße", "名前データ", "ﬁ", "שלום"];
    emoji_are_part_of_a_name: ["🐘", "👩\u{200d}👧"];
    composed_and_combining_letters_are_two_names: ["é", "e\u{301}"];
    names_may_contain_invisible_characters: ["ab", "a\u{200b}b", "a\u{202e}b"];
    names_are_case_sensitive: ["case", "Case", "CASE"];
    one_letter_is_a_name: ["x", "é"];
    a_name_that_begins_like_another_is_another: ["pre", "prefix", "pre_fix"];
}

async fn the_longest_names_are_distinct_in_their_last_character(fixture: &ServerFixture) {
    let rules = fixture.account_rules().expect("there are accounts");
    let longest = |letter: &str, bytes: usize, last: &str| letter.repeat((bytes - 1) / letter.len()) + last;
    for letter in ["x", "é", "_"] {
        let pair = ["y", "z"].map(|last| {
            let of = |bytes| longest(letter, bytes, last);
            (of(rules.max_database_bytes), of(rules.max_user_bytes))
        });
        // An engine may count letters otherwise than bytes; one refusal leaves nothing to compare.
        let _ = keep_apart(fixture, &pair).await;
    }
}

/// What is granted on a name with a wildcard in it opens no other that would match.
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
        assert!(!fixture.can_log_in(user, PASSWORD, user).await, "{user} keeps a right");
    }
    fixture.drop_all(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn stay_names(fixture: &ServerFixture, names: &[&str]) {
    let pairs: Vec<_> = names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect();
    if !keep_apart(fixture, &pairs).await {
        skip("the engine refuses all of these names");
    }
}

/// Takes databases and their users through all that can be done with them; false where the engine refuses all the
/// names, which it may, as [`Invalid`](Kind::Invalid), where it cannot write them down.
async fn keep_apart(fixture: &ServerFixture, pairs: &[(String, String)]) -> bool {
    let (users, databases) = (fixture.users().await, fixture.databases().await);
    let mut kept = Vec::new();
    for pair in pairs {
        if accepted(fixture, pair).await {
            kept.push(pair.clone());
        }
    }
    let before: BTreeSet<_> = databases.iter().map(|database| database.name.clone()).collect();
    let mut expected = before.clone();
    expected.extend(kept.iter().filter(|_| fixture.has_databases()).map(|(database, _)| database.clone()));
    let listed: Vec<_> = fixture.databases().await.into_iter().map(|database| database.name).collect();
    assert_eq!(listed, expected.into_iter().collect::<Vec<_>>());
    assert_eq!(fixture.users().await.len(), users.len() + kept.len());
    for pair in &kept {
        lives(fixture, pair).await;
    }
    for pair in &kept {
        goes(fixture, pair).await;
    }
    assert_eq!(fixture.users().await, users, "users are left, or more are gone");
    assert_eq!(fixture.databases().await, databases, "databases are left, or more are gone");
    assert!(fixture.can_log_in("app", PASSWORD, "app").await, "something else was hit");
    !kept.is_empty()
}

/// Creates a database and its user, or sees that the engine refuses them and makes neither.
async fn accepted(fixture: &ServerFixture, (database, name): &(String, String)) -> bool {
    let rules = fixture.account_rules().expect("there are accounts");
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
async fn lives(fixture: &ServerFixture, (database, name): &(String, String)) {
    let mut session = fixture.log_in(name, name, database).await;
    session.put("whose", name).await.unwrap_or_else(|error| panic!("{name:?}: {error:?}"));
    let chosen = fixture.has_databases().then(|| database.clone());
    assert_eq!(session.current_user().await.unwrap(), (name.clone(), chosen.clone()));
    assert!(!fixture.can_log_in(name, "wrong", database).await, "{name:?} with a wrong password");
    if fixture.has_databases() {
        assert!(!fixture.can_log_in(name, name, "app").await, "{name:?} in another's database");
    }
    let user = fixture.accounts().user(&fixture.cx(), &name.into()).await.unwrap();
    assert_eq!((user.user, user.databases), (UserName::new(name), Vec::from_iter(chosen)));
}

/// Changes and drops what is there, when all the others are there, too.
async fn goes(fixture: &ServerFixture, (database, name): &(String, String)) {
    let (accounts, user, changed) = (fixture.accounts(), UserName::new(name), format!("{name}{name}"));
    accounts.set_password(&fixture.cx(), &user, &secret(&changed)).await.unwrap();
    let mut session = fixture.log_in(name, &changed, database).await;
    if fixture.has_databases() {
        assert_eq!(session.get("whose").await.unwrap().as_deref(), Some(name.as_str()), "another wrote here");
        accounts.revoke(&fixture.cx(), &user, database).await.unwrap();
        ended(&mut session, "its right was revoked").await;
        accounts.grant(&fixture.cx(), &user, std::slice::from_ref(database)).await.unwrap();
    }
    let other = UserName::new(fixture.unique_name("plain"));
    accounts.rename_user(&fixture.cx(), &user, &other).await.unwrap();
    accounts.rename_user(&fixture.cx(), &other, &user).await.unwrap();
    assert!(fixture.can_log_in(name, &changed, database).await, "{name:?} lost something with its name");
    for _ in 0..2 {
        accounts.drop_user(&fixture.cx(), &user).await.unwrap();
    }
    assert!(!fixture.can_log_in(name, &changed, database).await, "{name:?} is still there");
    if fixture.has_databases() {
        accounts.drop_database(&fixture.cx(), database).await.unwrap();
    }
}
