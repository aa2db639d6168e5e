//! Calls at the same time, through one process and through two.

use futures_util::future::{join, join_all};

use super::tenant::{PASSWORD, accounts, databases, names, secret};
use crate::{
    conformance::{
        case::cases,
        driver::{Trial, suite::Group},
    },
    error::Kind,
    model::{NewDatabase, NewUser},
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        accounts(
            "accounts::at_once",
            cases![
                users_created_at_once_are_all_there,
                one_of_two_who_create_the_same_user_at_once_is_told,
                passwords_set_at_once_leave_one_of_them,
                a_user_is_dropped_by_two_at_once,
            ],
        ),
        databases(
            "accounts::at_once",
            cases![databases_created_at_once_are_all_there, a_right_is_granted_while_its_database_is_dropped],
        ),
    ]
}

async fn users_created_at_once_are_all_there(trial: &Trial) {
    let new: Vec<_> = (0..6).map(|number| trial.name(&format!("u{number}_"))).collect();
    let created = join_all(new.iter().map(async |name| {
        let user = trial.new_user(name, name, "app");
        trial.accounts().create_users(&trial.cx(), &[user]).await
    }));
    for created in created.await {
        created.unwrap();
    }
    let found = trial.users().await;
    assert!(new.iter().all(|name| names(&found).contains(&name.as_str())), "{found:?}");
    for name in &new {
        assert!(trial.lets_in(name, name, "app").await, "{name}");
    }
    let gone = join_all(new.iter().map(async |name| trial.accounts().drop_user(&trial.cx(), &name.into()).await));
    for gone in gone.await {
        gone.unwrap();
    }
    let found = trial.users().await;
    assert!(!new.iter().any(|name| names(&found).contains(&name.as_str())), "{found:?}");
}

async fn one_of_two_who_create_the_same_user_at_once_is_told(trial: &Trial) {
    let name = trial.name("race");
    let create = async |password: &'static str| {
        let user = trial.new_user(&name, password, "app");
        trial.accounts().create_users(&trial.cx(), &[user]).await
    };
    let (one, two) = join(create("one"), create("two")).await;
    let winner = match (one, two) {
        (Ok(()), Err(error)) if error.kind() == Kind::Conflict => "one",
        (Err(error), Ok(())) if error.kind() == Kind::Conflict => "two",
        both => panic!("not one of them was told of the conflict: {both:?}"),
    };
    for password in ["one", "two"] {
        assert_eq!(trial.lets_in(&name, password, "app").await, password == winner, "{password}");
    }
    trial.forget(&[&name]).await;
}

async fn passwords_set_at_once_leave_one_of_them(trial: &Trial) {
    let name = trial.make_tenant("changed").await;
    let set = async |password: &str| {
        trial.accounts().set_password(&trial.cx(), &(&name).into(), &secret(password)).await.unwrap();
    };
    join(set("one"), set("two")).await;
    let let_in = [trial.lets_in(&name, "one", &name).await, trial.lets_in(&name, "two", &name).await];
    assert!(let_in[0] != let_in[1], "{let_in:?}");
    assert!(!trial.lets_in(&name, PASSWORD, &name).await, "the old password lets in");
    trial.forget(&[&name]).await;
}

async fn a_user_is_dropped_by_two_at_once(trial: &Trial) {
    let name = trial.make_tenant("dropped").await;
    let drop = async || trial.accounts().drop_user(&trial.cx(), &(&name).into()).await;
    let (one, two) = join(drop(), drop()).await;
    one.unwrap();
    two.unwrap();
    assert!(!trial.lets_in(&name, PASSWORD, &name).await);
    trial.forget(&[&name]).await;
}

async fn databases_created_at_once_are_all_there(trial: &Trial) {
    let new: Vec<_> = (0..4).map(|number| trial.name(&format!("d{number}_"))).collect();
    let create = async |name: &String| trial.accounts().create_databases(&trial.cx(), &[NewDatabase::new(name)]).await;
    // One of them twice.
    for created in join_all(new.iter().chain(&new[..1]).map(create)).await {
        created.unwrap();
    }
    let found = trial.databases().await;
    assert!(new.iter().all(|name| found.iter().any(|database| database.name == *name)), "{found:?}");
    let gone = join_all(new.iter().map(async |name| trial.accounts().drop_database(&trial.cx(), name).await));
    for gone in gone.await {
        gone.unwrap();
    }
}

async fn a_right_is_granted_while_its_database_is_dropped(trial: &Trial) {
    let (name, other) = (trial.make_tenant("falls").await, trial.name("other"));
    trial.accounts().create_users(&trial.cx(), &[NewUser::new(&other, "x")]).await.unwrap();
    let databases = [name.clone()];
    let (granted, dropped) =
        join(async { trial.accounts().grant(&trial.cx(), &(&other).into(), &databases).await }, async {
            trial.accounts().drop_database(&trial.cx(), &name).await
        })
        .await;
    dropped.unwrap();
    if let Err(error) = granted {
        assert_eq!(error.kind(), Kind::NotFound, "{error:?}");
    }
    // Whoever came first, no right is left on what comes next.
    trial.make_databases(&[&name]).await;
    assert!(!trial.lets_in(&other, "x", &name).await, "a right outlived its database");
    assert_eq!(trial.rights(&other).await, [""; 0]);
    trial.forget(&[&name, &other]).await;
}
