//! Concurrent calls to one server.

use futures_util::future::{join, join_all};

use super::fixture::{PASSWORD, accounts_group, databases_group, secret, user_names};
use crate::{
    conformance::{
        case::cases,
        driver::{ServerFixture, group::Group},
    },
    error::Kind,
    model::{NewDatabase, NewUser},
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        accounts_group(
            "accounts::concurrency",
            cases![
                users_created_concurrently_all_exist,
                one_of_two_concurrent_creations_of_a_user_is_a_conflict,
                concurrent_password_changes_leave_one_password,
                a_user_can_be_dropped_concurrently,
            ],
        ),
        databases_group(
            "accounts::concurrency",
            cases![
                databases_created_concurrently_all_exist,
                granting_while_the_database_is_dropped_leaves_no_privilege
            ],
        ),
    ]
}

async fn users_created_concurrently_all_exist(fixture: &ServerFixture) {
    let new: Vec<_> = (0..6).map(|number| fixture.unique_name(&format!("u{number}_"))).collect();
    let created = join_all(new.iter().map(async |name| {
        let user = fixture.new_user(name, name, "app");
        fixture.accounts().create_users(&fixture.cx(), &[user]).await
    }));
    for created in created.await {
        created.unwrap();
    }
    let found = fixture.users().await;
    assert!(new.iter().all(|name| user_names(&found).contains(&name.as_str())), "{found:?}");
    for name in &new {
        assert!(fixture.can_log_in(name, name, "app").await, "{name}");
    }
    let dropped =
        join_all(new.iter().map(async |name| fixture.accounts().drop_user(&fixture.cx(), &name.into()).await));
    for dropped in dropped.await {
        dropped.unwrap();
    }
    let found = fixture.users().await;
    assert!(!new.iter().any(|name| user_names(&found).contains(&name.as_str())), "{found:?}");
}

async fn one_of_two_concurrent_creations_of_a_user_is_a_conflict(fixture: &ServerFixture) {
    let name = fixture.unique_name("race");
    let create = async |password: &'static str| {
        let user = fixture.new_user(&name, password, "app");
        fixture.accounts().create_users(&fixture.cx(), &[user]).await
    };
    let (one, two) = join(create("one"), create("two")).await;
    let winner = match (one, two) {
        (Ok(()), Err(error)) if error.kind() == Kind::Conflict => "one",
        (Err(error), Ok(())) if error.kind() == Kind::Conflict => "two",
        both => panic!("expected one success and one conflict: {both:?}"),
    };
    for password in ["one", "two"] {
        assert_eq!(fixture.can_log_in(&name, password, "app").await, password == winner, "{password}");
    }
    fixture.drop_all(&[&name]).await;
}

async fn concurrent_password_changes_leave_one_password(fixture: &ServerFixture) {
    let name = fixture.create_tenant("changed").await;
    let set = async |password: &str| {
        fixture.accounts().set_password(&fixture.cx(), &(&name).into(), &secret(password)).await.unwrap();
    };
    join(set("one"), set("two")).await;
    let accepted = [fixture.can_log_in(&name, "one", &name).await, fixture.can_log_in(&name, "two", &name).await];
    assert!(accepted[0] != accepted[1], "passwords accepted: {accepted:?}");
    assert!(!fixture.can_log_in(&name, PASSWORD, &name).await, "the old password is still accepted");
    fixture.drop_all(&[&name]).await;
}

async fn a_user_can_be_dropped_concurrently(fixture: &ServerFixture) {
    let name = fixture.create_tenant("dropped").await;
    let drop = async || fixture.accounts().drop_user(&fixture.cx(), &(&name).into()).await;
    let (one, two) = join(drop(), drop()).await;
    one.unwrap();
    two.unwrap();
    assert!(!fixture.can_log_in(&name, PASSWORD, &name).await);
    fixture.drop_all(&[&name]).await;
}

async fn databases_created_concurrently_all_exist(fixture: &ServerFixture) {
    let new: Vec<_> = (0..4).map(|number| fixture.unique_name(&format!("d{number}_"))).collect();
    let create =
        async |name: &String| fixture.accounts().create_databases(&fixture.cx(), &[NewDatabase::new(name)]).await;
    // One database is requested twice.
    for created in join_all(new.iter().chain(&new[..1]).map(create)).await {
        created.unwrap();
    }
    let found = fixture.databases().await;
    assert!(new.iter().all(|name| found.iter().any(|database| database.name == *name)), "{found:?}");
    let dropped = join_all(new.iter().map(async |name| fixture.accounts().drop_database(&fixture.cx(), name).await));
    for dropped in dropped.await {
        dropped.unwrap();
    }
}

async fn granting_while_the_database_is_dropped_leaves_no_privilege(fixture: &ServerFixture) {
    let (name, other) = (fixture.create_tenant("dropped").await, fixture.unique_name("other"));
    fixture.accounts().create_users(&fixture.cx(), &[NewUser::new(&other, "x")]).await.unwrap();
    let databases = [name.clone()];
    let (granted, dropped) =
        join(async { fixture.accounts().grant(&fixture.cx(), &(&other).into(), &databases).await }, async {
            fixture.accounts().drop_database(&fixture.cx(), &name).await
        })
        .await;
    dropped.unwrap();
    if let Err(error) = granted {
        assert_eq!(error.kind(), Kind::NotFound, "{error:?}");
    }
    // Whichever call came first, a new database of this name has no privileges.
    fixture.create_databases_if_supported(&[&name]).await;
    assert!(!fixture.can_log_in(&other, "x", &name).await, "a privilege outlived its database");
    assert_eq!(fixture.granted_databases(&other).await, [""; 0]);
    fixture.drop_all(&[&name, &other]).await;
}
