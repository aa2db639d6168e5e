//! Calls that are given up at any of their awaits, and made again by another process.

use std::cell::{Cell, RefCell};

use super::tenant::{PASSWORD, accounts, databases, secret};
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
        accounts(
            "accounts::dropped",
            cases![
                a_dropped_create_users_can_be_repeated,
                a_dropped_set_password_can_be_repeated,
                a_dropped_rename_user_can_be_repeated,
                a_dropped_drop_user_can_be_repeated,
                a_dropped_enable_root_can_be_repeated,
                a_dropped_disable_root_can_be_repeated,
            ],
        ),
        databases(
            "accounts::dropped",
            cases![
                a_dropped_create_databases_can_be_repeated,
                a_dropped_drop_database_can_be_repeated,
                a_dropped_grant_can_be_repeated,
                a_dropped_revoke_can_be_repeated,
            ],
        ),
    ]
}

/// Gives a call up at each of its awaits, each time for a name of its own, and makes it again.
///
/// `ready` makes for a name what there has to be before, `done` is given what came of the second call, and looks.
async fn made_up_for(
    fixture: &ServerFixture,
    ready: impl AsyncFn(&str),
    call: impl AsyncFn(&dyn Accounts, &Cx, &str) -> Result<()>,
    done: impl AsyncFn(&str, Result<()>),
) {
    let (round, cx) = (Cell::new(0), RefCell::new(fixture.cx()));
    let name = || fixture.unique_name(&format!("drop{}_", round.get()));
    ready(&name()).await;
    let first = || {
        let (name, cx) = (name(), cx.borrow().clone());
        let call = &call;
        async move { call(fixture.accounts(), &cx, &name).await.unwrap_or_else(|error| panic!("{error:?}")) }
    };
    let again = async |_| {
        let (other, key) = (fixture.reattach(), cx.borrow().clone());
        let name_now = name();
        let again = call(other.abilities().accounts.expect("the ability was shown"), &key, &name_now).await;
        done(&name_now, again).await;
        round.set(round.get() + 1);
        cx.replace(fixture.cx());
        ready(&name()).await;
    };
    fixture.drop_at_every_await(first, again).await;
    // And at last one that is not given up.
    first().await;
    done(&name(), Ok(())).await;
}

async fn nothing(_: &str) {}

/// The call that was given up may have done it all, or nothing; never a half.
fn whole(result: Result<()>, otherwise: Kind) {
    if let Err(error) = result {
        assert_eq!(error.kind(), otherwise, "{error:?}");
    }
}

async fn a_dropped_create_users_can_be_repeated(fixture: &ServerFixture) {
    let second = |name: &str| format!("{name}b");
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        let users = [name.to_owned(), second(name)].map(|name| fixture.new_user(&name, &name, "app"));
        accounts.create_users(cx, &users).await
    };
    let done = async |name: &str, again| {
        whole(again, Kind::Conflict);
        for name in [name, &second(name)] {
            assert!(fixture.can_log_in(name, name, "app").await, "{name} was half created");
        }
        fixture.drop_all(&[name, &second(name)]).await;
    };
    let before = fixture.users().await;
    made_up_for(fixture, nothing, call, done).await;
    assert_eq!(fixture.users().await, before);
}

async fn a_dropped_set_password_can_be_repeated(fixture: &ServerFixture) {
    let user = fixture.create_tenant("changed").await;
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        accounts.set_password(cx, &(&user).into(), &secret(name)).await
    };
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        assert!(fixture.can_log_in(&user, name, &user).await, "the new password does not let in");
        assert!(!fixture.can_log_in(&user, PASSWORD, &user).await, "the old password lets in");
    };
    made_up_for(fixture, nothing, call, done).await;
    fixture.drop_all(&[&user]).await;
}

async fn a_dropped_rename_user_can_be_repeated(fixture: &ServerFixture) {
    let former = |name: &str| format!("{name}former");
    let ready = async |name: &str| {
        let user = fixture.new_user(&former(name), PASSWORD, "app");
        fixture.accounts().create_users(&fixture.cx(), &[user]).await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        accounts.rename_user(cx, &former(name).into(), &name.into()).await
    };
    let done = async |name: &str, again| {
        // Once it was renamed there is nobody of the former name.
        whole(again, Kind::NotFound);
        assert!(fixture.can_log_in(name, PASSWORD, "app").await, "it is not called so");
        assert!(!fixture.can_log_in(&former(name), PASSWORD, "app").await, "it is still called so");
        fixture.drop_all(&[name]).await;
    };
    made_up_for(fixture, ready, call, done).await;
}

async fn a_dropped_drop_user_can_be_repeated(fixture: &ServerFixture) {
    let ready = async |name: &str| {
        let user = fixture.new_user(name, PASSWORD, "app");
        fixture.accounts().create_users(&fixture.cx(), &[user]).await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| accounts.drop_user(cx, &name.into()).await;
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        assert!(!fixture.can_log_in(name, PASSWORD, "app").await, "it logs in");
        assert_eq!(error_kind(fixture.accounts().user(&fixture.cx(), &name.into()).await), Kind::NotFound);
        // Nor is anything left that hinders the next of its name.
        ready(name).await;
        assert!(fixture.can_log_in(name, PASSWORD, "app").await, "the next of its name cannot log in");
        fixture.drop_all(&[name]).await;
    };
    made_up_for(fixture, ready, call, done).await;
}

async fn a_dropped_enable_root_can_be_repeated(fixture: &ServerFixture) {
    let root = fixture.make_root("r00t").await;
    fixture.end_root().await;
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        accounts.enable_root(cx, &secret(name)).await.map(|named| assert_eq!(named, root))
    };
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        assert!(fixture.has_root().await);
        assert!(fixture.can_log_in(&root, name, "app").await, "root is not let in");
        fixture.end_root().await;
    };
    made_up_for(fixture, nothing, call, done).await;
}

async fn a_dropped_disable_root_can_be_repeated(fixture: &ServerFixture) {
    let root = fixture.make_root("r00t").await;
    let ready = async |name: &str| drop(fixture.make_root(name).await);
    let call = async |accounts: &dyn Accounts, cx: &Cx, _: &str| accounts.disable_root(cx).await;
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        assert!(!fixture.has_root().await);
        assert!(!fixture.can_log_in(&root, name, "app").await, "root logs in");
    };
    made_up_for(fixture, ready, call, done).await;
    assert!(!fixture.has_root().await);
}

async fn a_dropped_create_databases_can_be_repeated(fixture: &ServerFixture) {
    let second = |name: &str| format!("{name}b");
    let before = fixture.databases().await;
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        let databases = [name.to_owned(), second(name)].map(NewDatabase::new);
        accounts.create_databases(cx, &databases).await
    };
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        let new = NewUser::new(name, PASSWORD).granted(name).granted(second(name));
        fixture.accounts().create_users(&fixture.cx(), &[new]).await.unwrap();
        for database in [name, &second(name)] {
            let mut session = fixture.log_in(name, PASSWORD, database).await;
            session.put("a", "b").await.unwrap_or_else(|error| panic!("{database} is half created: {error:?}"));
        }
        fixture.drop_all(&[name, &second(name)]).await;
    };
    made_up_for(fixture, nothing, call, done).await;
    assert_eq!(fixture.databases().await, before);
}

async fn a_dropped_drop_database_can_be_repeated(fixture: &ServerFixture) {
    let before = fixture.databases().await;
    let ready = async |name: &str| {
        fixture.create_databases_if_supported(&[name]).await;
        let user = NewUser::new(name, PASSWORD).granted(name);
        fixture.accounts().create_users(&fixture.cx(), &[user]).await.unwrap();
        fixture.log_in(name, PASSWORD, name).await.put("old", "yes").await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| accounts.drop_database(cx, name).await;
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        assert!(fixture.databases().await.iter().all(|database| database.name != name), "it is listed");
        assert_eq!(fixture.accounts().user(&fixture.cx(), &name.into()).await.unwrap(), User::new(name, Vec::new()));
        fixture.drop_all(&[name]).await;
    };
    made_up_for(fixture, ready, call, done).await;
    assert_eq!(fixture.databases().await, before);
}

async fn a_dropped_grant_can_be_repeated(fixture: &ServerFixture) {
    let database = fixture.create_tenant("granted").await;
    let ready = async |name: &str| {
        fixture.accounts().create_users(&fixture.cx(), &[NewUser::new(name, PASSWORD)]).await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        accounts.grant(cx, &name.into(), &[database.clone(), "app".to_owned()]).await
    };
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        for database in [&database, "app"] {
            assert!(fixture.can_log_in(name, PASSWORD, database).await, "{database} was not granted");
        }
        fixture.drop_all(&[name]).await;
    };
    made_up_for(fixture, ready, call, done).await;
    fixture.drop_all(&[&database]).await;
}

async fn a_dropped_revoke_can_be_repeated(fixture: &ServerFixture) {
    let database = fixture.create_tenant("revoked").await;
    let ready = async |name: &str| {
        let user = NewUser::new(name, PASSWORD).granted(&database).granted("app");
        fixture.accounts().create_users(&fixture.cx(), &[user]).await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| accounts.revoke(cx, &name.into(), &database).await;
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        assert!(!fixture.can_log_in(name, PASSWORD, &database).await, "the right is still there");
        assert_eq!(fixture.rights(name).await, ["app"]);
        fixture.drop_all(&[name]).await;
    };
    made_up_for(fixture, ready, call, done).await;
    fixture.drop_all(&[&database]).await;
}
