//! Calls that are dropped at one of their awaits and repeated by another process.

use std::cell::{Cell, RefCell};

use super::fixture::{PASSWORD, accounts_group, databases_group, secret};
use crate::{
    conformance::{
        case::cases,
        driver::{ServerFixture, fixture::error_kind, group::Group},
    },
    datastore::{Accounts, Cx},
    error::{Kind, Result},
    model::{NewDatabase, NewUser, User},
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        accounts_group(
            "accounts::cancellation",
            cases![
                create_users_can_be_repeated_after_cancellation,
                set_password_can_be_repeated_after_cancellation,
                rename_user_can_be_repeated_after_cancellation,
                drop_user_can_be_repeated_after_cancellation,
                enable_root_can_be_repeated_after_cancellation,
                disable_root_can_be_repeated_after_cancellation,
            ],
        ),
        databases_group(
            "accounts::cancellation",
            cases![
                create_databases_can_be_repeated_after_cancellation,
                drop_database_can_be_repeated_after_cancellation,
                grant_can_be_repeated_after_cancellation,
                revoke_can_be_repeated_after_cancellation,
            ],
        ),
    ]
}

/// Drops a call at each of its awaits and repeats it, each time with a new name. Finally makes a
/// call that is not dropped.
///
/// `set_up` creates what the call needs for a name. `check` gets the result of the repeated call,
/// asserts its effect and cleans up.
async fn retry_after_cancellation(
    fixture: &ServerFixture,
    set_up: impl AsyncFn(&str),
    call: impl AsyncFn(&dyn Accounts, &Cx, &str) -> Result<()>,
    check: impl AsyncFn(&str, Result<()>),
) {
    let (round, cx) = (Cell::new(0), RefCell::new(fixture.cx()));
    let name = || fixture.unique_name(&format!("drop{}_", round.get()));
    set_up(&name()).await;
    let first = || {
        let (name, cx) = (name(), cx.borrow().clone());
        let call = &call;
        async move { call(fixture.accounts(), &cx, &name).await.unwrap_or_else(|error| panic!("{error:?}")) }
    };
    let repeat = async |_| {
        let (other, same_cx, same_name) = (fixture.reattach(), cx.borrow().clone(), name());
        let accounts = other.abilities().accounts.expect("the ability is present");
        let repeated = call(accounts, &same_cx, &same_name).await;
        check(&same_name, repeated).await;
        round.set(round.get() + 1);
        cx.replace(fixture.cx());
        set_up(&name()).await;
    };
    fixture.drop_at_every_await(first, repeat).await;
    first().await;
    check(&name(), Ok(())).await;
}

async fn no_setup(_: &str) {}

/// Asserts that the repeated call succeeded, or failed because the dropped one was complete.
fn assert_ok_or(kind: Kind, repeated: Result<()>) {
    if let Err(error) = repeated {
        assert_eq!(error.kind(), kind, "{error:?}");
    }
}

async fn create_users_can_be_repeated_after_cancellation(fixture: &ServerFixture) {
    let second = |name: &str| format!("{name}b");
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        let users = [name.to_owned(), second(name)].map(|name| fixture.new_user(&name, &name, "app"));
        accounts.create_users(cx, &users).await
    };
    let check = async |name: &str, repeated| {
        assert_ok_or(Kind::Conflict, repeated);
        for name in [name, &second(name)] {
            assert!(fixture.can_log_in(name, name, "app").await, "{name} was created incompletely");
        }
        fixture.drop_all(&[name, &second(name)]).await;
    };
    let before = fixture.users().await;
    retry_after_cancellation(fixture, no_setup, call, check).await;
    assert_eq!(fixture.users().await, before);
}

async fn set_password_can_be_repeated_after_cancellation(fixture: &ServerFixture) {
    let user = fixture.create_tenant("changed").await;
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        accounts.set_password(cx, &(&user).into(), &secret(name)).await
    };
    let check = async |name: &str, repeated: Result<()>| {
        repeated.unwrap();
        assert!(fixture.can_log_in(&user, name, &user).await, "the new password is rejected");
        assert!(!fixture.can_log_in(&user, PASSWORD, &user).await, "the old password is still accepted");
    };
    retry_after_cancellation(fixture, no_setup, call, check).await;
    fixture.drop_all(&[&user]).await;
}

async fn rename_user_can_be_repeated_after_cancellation(fixture: &ServerFixture) {
    let old = |name: &str| format!("{name}old");
    let set_up = async |name: &str| {
        let user = fixture.new_user(&old(name), PASSWORD, "app");
        fixture.accounts().create_users(&fixture.cx(), &[user]).await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        accounts.rename_user(cx, &old(name).into(), &name.into()).await
    };
    let check = async |name: &str, repeated| {
        assert_ok_or(Kind::NotFound, repeated);
        assert!(fixture.can_log_in(name, PASSWORD, "app").await, "the new name is rejected");
        assert!(!fixture.can_log_in(&old(name), PASSWORD, "app").await, "the old name is still accepted");
        fixture.drop_all(&[name]).await;
    };
    retry_after_cancellation(fixture, set_up, call, check).await;
}

async fn drop_user_can_be_repeated_after_cancellation(fixture: &ServerFixture) {
    let set_up = async |name: &str| {
        let user = fixture.new_user(name, PASSWORD, "app");
        fixture.accounts().create_users(&fixture.cx(), &[user]).await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| accounts.drop_user(cx, &name.into()).await;
    let check = async |name: &str, repeated: Result<()>| {
        repeated.unwrap();
        assert!(!fixture.can_log_in(name, PASSWORD, "app").await, "the dropped user can log in");
        assert_eq!(error_kind(fixture.accounts().user(&fixture.cx(), &name.into()).await), Kind::NotFound);
        // A new user can have the same name.
        set_up(name).await;
        assert!(fixture.can_log_in(name, PASSWORD, "app").await, "a new user of the same name cannot log in");
        fixture.drop_all(&[name]).await;
    };
    retry_after_cancellation(fixture, set_up, call, check).await;
}

async fn enable_root_can_be_repeated_after_cancellation(fixture: &ServerFixture) {
    let root = fixture.enable_root_user("r00t").await;
    fixture.disable_root_user().await;
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        accounts.enable_root(cx, &secret(name)).await.map(|enabled| assert_eq!(enabled, root))
    };
    let check = async |name: &str, repeated: Result<()>| {
        repeated.unwrap();
        assert!(fixture.root_user_enabled().await);
        assert!(fixture.can_log_in(&root, name, "app").await, "root cannot log in");
        fixture.disable_root_user().await;
    };
    retry_after_cancellation(fixture, no_setup, call, check).await;
}

async fn disable_root_can_be_repeated_after_cancellation(fixture: &ServerFixture) {
    let root = fixture.enable_root_user("r00t").await;
    let set_up = async |name: &str| drop(fixture.enable_root_user(name).await);
    let call = async |accounts: &dyn Accounts, cx: &Cx, _: &str| accounts.disable_root(cx).await;
    let check = async |name: &str, repeated: Result<()>| {
        repeated.unwrap();
        assert!(!fixture.root_user_enabled().await);
        assert!(!fixture.can_log_in(&root, name, "app").await, "the disabled root can log in");
    };
    retry_after_cancellation(fixture, set_up, call, check).await;
    assert!(!fixture.root_user_enabled().await);
}

async fn create_databases_can_be_repeated_after_cancellation(fixture: &ServerFixture) {
    let second = |name: &str| format!("{name}b");
    let before = fixture.databases().await;
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        let databases = [name.to_owned(), second(name)].map(NewDatabase::new);
        accounts.create_databases(cx, &databases).await
    };
    let check = async |name: &str, repeated: Result<()>| {
        repeated.unwrap();
        let new = NewUser::new(name, PASSWORD).granted(name).granted(second(name));
        fixture.accounts().create_users(&fixture.cx(), &[new]).await.unwrap();
        for database in [name, &second(name)] {
            let mut session = fixture.log_in(name, PASSWORD, database).await;
            session
                .put("a", "b")
                .await
                .unwrap_or_else(|error| panic!("{database} was created incompletely: {error:?}"));
        }
        fixture.drop_all(&[name, &second(name)]).await;
    };
    retry_after_cancellation(fixture, no_setup, call, check).await;
    assert_eq!(fixture.databases().await, before);
}

async fn drop_database_can_be_repeated_after_cancellation(fixture: &ServerFixture) {
    let before = fixture.databases().await;
    let set_up = async |name: &str| {
        fixture.create_databases_if_supported(&[name]).await;
        let user = NewUser::new(name, PASSWORD).granted(name);
        fixture.accounts().create_users(&fixture.cx(), &[user]).await.unwrap();
        fixture.log_in(name, PASSWORD, name).await.put("old", "yes").await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| accounts.drop_database(cx, name).await;
    let check = async |name: &str, repeated: Result<()>| {
        repeated.unwrap();
        assert!(
            fixture.databases().await.iter().all(|database| database.name != name),
            "the dropped database is listed"
        );
        assert_eq!(fixture.accounts().user(&fixture.cx(), &name.into()).await.unwrap(), User::new(name, Vec::new()));
        fixture.drop_all(&[name]).await;
    };
    retry_after_cancellation(fixture, set_up, call, check).await;
    assert_eq!(fixture.databases().await, before);
}

async fn grant_can_be_repeated_after_cancellation(fixture: &ServerFixture) {
    let database = fixture.create_tenant("granted").await;
    let set_up = async |name: &str| {
        fixture.accounts().create_users(&fixture.cx(), &[NewUser::new(name, PASSWORD)]).await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        accounts.grant(cx, &name.into(), &[database.clone(), "app".to_owned()]).await
    };
    let check = async |name: &str, repeated: Result<()>| {
        repeated.unwrap();
        for database in [&database, "app"] {
            assert!(fixture.can_log_in(name, PASSWORD, database).await, "{database} was not granted");
        }
        fixture.drop_all(&[name]).await;
    };
    retry_after_cancellation(fixture, set_up, call, check).await;
    fixture.drop_all(&[&database]).await;
}

async fn revoke_can_be_repeated_after_cancellation(fixture: &ServerFixture) {
    let database = fixture.create_tenant("revoked").await;
    let set_up = async |name: &str| {
        let user = NewUser::new(name, PASSWORD).granted(&database).granted("app");
        fixture.accounts().create_users(&fixture.cx(), &[user]).await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| accounts.revoke(cx, &name.into(), &database).await;
    let check = async |name: &str, repeated: Result<()>| {
        repeated.unwrap();
        assert!(!fixture.can_log_in(name, PASSWORD, &database).await, "the privilege was not revoked");
        assert_eq!(fixture.granted_databases(name).await, ["app"]);
        fixture.drop_all(&[name]).await;
    };
    retry_after_cancellation(fixture, set_up, call, check).await;
    fixture.drop_all(&[&database]).await;
}
