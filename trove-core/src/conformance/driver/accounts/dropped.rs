//! Calls that are given up at any of their awaits, and made again by another process.

use std::cell::{Cell, RefCell};

use super::tenant::{PASSWORD, accounts, databases, secret};
use crate::{
    conformance::{
        case::cases,
        driver::{Trial, suite::Group, trial::refused},
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
                creating_users_is_made_up_for,
                setting_a_password_is_made_up_for,
                renaming_a_user_is_made_up_for,
                dropping_a_user_is_made_up_for,
                enabling_root_is_made_up_for,
                disabling_root_is_made_up_for,
            ],
        ),
        databases(
            "accounts::dropped",
            cases![
                creating_databases_is_made_up_for,
                dropping_a_database_is_made_up_for,
                granting_is_made_up_for,
                revoking_is_made_up_for,
            ],
        ),
    ]
}

/// Gives a call up at each of its awaits, each time for a name of its own, and makes it again.
///
/// `ready` makes for a name what there has to be before, `done` is given what came of the second call, and looks.
async fn made_up_for(
    trial: &Trial,
    ready: impl AsyncFn(&str),
    call: impl AsyncFn(&dyn Accounts, &Cx, &str) -> Result<()>,
    done: impl AsyncFn(&str, Result<()>),
) {
    let (round, cx) = (Cell::new(0), RefCell::new(trial.cx()));
    let name = || trial.name(&format!("drop{}_", round.get()));
    ready(&name()).await;
    let first = || {
        let (name, cx) = (name(), cx.borrow().clone());
        let call = &call;
        async move { call(trial.accounts(), &cx, &name).await.unwrap_or_else(|error| panic!("{error:?}")) }
    };
    let again = async |_| {
        let (other, key) = (trial.reattached(), cx.borrow().clone());
        let name_now = name();
        let again = call(other.abilities().accounts.expect("the ability was shown"), &key, &name_now).await;
        done(&name_now, again).await;
        round.set(round.get() + 1);
        cx.replace(trial.cx());
        ready(&name()).await;
    };
    trial.dropped_everywhere(first, again).await;
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

async fn creating_users_is_made_up_for(trial: &Trial) {
    let second = |name: &str| format!("{name}b");
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        let users = [name.to_owned(), second(name)].map(|name| trial.new_user(&name, &name, "app"));
        accounts.create_users(cx, &users).await
    };
    let done = async |name: &str, again| {
        whole(again, Kind::Conflict);
        for name in [name, &second(name)] {
            assert!(trial.lets_in(name, name, "app").await, "{name} was half created");
        }
        trial.forget(&[name, &second(name)]).await;
    };
    let before = trial.users().await;
    made_up_for(trial, nothing, call, done).await;
    assert_eq!(trial.users().await, before);
}

async fn setting_a_password_is_made_up_for(trial: &Trial) {
    let user = trial.make_tenant("changed").await;
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        accounts.set_password(cx, &(&user).into(), &secret(name)).await
    };
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        assert!(trial.lets_in(&user, name, &user).await, "the new password does not let in");
        assert!(!trial.lets_in(&user, PASSWORD, &user).await, "the old password lets in");
    };
    made_up_for(trial, nothing, call, done).await;
    trial.forget(&[&user]).await;
}

async fn renaming_a_user_is_made_up_for(trial: &Trial) {
    let former = |name: &str| format!("{name}former");
    let ready = async |name: &str| {
        let user = trial.new_user(&former(name), PASSWORD, "app");
        trial.accounts().create_users(&trial.cx(), &[user]).await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        accounts.rename_user(cx, &former(name).into(), &name.into()).await
    };
    let done = async |name: &str, again| {
        // Once it was renamed there is nobody of the former name.
        whole(again, Kind::NotFound);
        assert!(trial.lets_in(name, PASSWORD, "app").await, "it is not called so");
        assert!(!trial.lets_in(&former(name), PASSWORD, "app").await, "it is still called so");
        trial.forget(&[name]).await;
    };
    made_up_for(trial, ready, call, done).await;
}

async fn dropping_a_user_is_made_up_for(trial: &Trial) {
    let ready = async |name: &str| {
        let user = trial.new_user(name, PASSWORD, "app");
        trial.accounts().create_users(&trial.cx(), &[user]).await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| accounts.drop_user(cx, &name.into()).await;
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        assert!(!trial.lets_in(name, PASSWORD, "app").await, "it logs in");
        assert_eq!(refused(trial.accounts().user(&trial.cx(), &name.into()).await), Kind::NotFound);
        // Nor is anything left that hinders the next of its name.
        ready(name).await;
        assert!(trial.lets_in(name, PASSWORD, "app").await, "the next of its name cannot log in");
        trial.forget(&[name]).await;
    };
    made_up_for(trial, ready, call, done).await;
}

async fn enabling_root_is_made_up_for(trial: &Trial) {
    let root = trial.make_root("r00t").await;
    trial.end_root().await;
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        accounts.enable_root(cx, &secret(name)).await.map(|named| assert_eq!(named, root))
    };
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        assert!(trial.has_root().await);
        assert!(trial.lets_in(&root, name, "app").await, "root is not let in");
        trial.end_root().await;
    };
    made_up_for(trial, nothing, call, done).await;
}

async fn disabling_root_is_made_up_for(trial: &Trial) {
    let root = trial.make_root("r00t").await;
    let ready = async |name: &str| drop(trial.make_root(name).await);
    let call = async |accounts: &dyn Accounts, cx: &Cx, _: &str| accounts.disable_root(cx).await;
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        assert!(!trial.has_root().await);
        assert!(!trial.lets_in(&root, name, "app").await, "root logs in");
    };
    made_up_for(trial, ready, call, done).await;
    assert!(!trial.has_root().await);
}

async fn creating_databases_is_made_up_for(trial: &Trial) {
    let second = |name: &str| format!("{name}b");
    let before = trial.databases().await;
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        let databases = [name.to_owned(), second(name)].map(NewDatabase::new);
        accounts.create_databases(cx, &databases).await
    };
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        let new = NewUser::new(name, PASSWORD).granted(name).granted(second(name));
        trial.accounts().create_users(&trial.cx(), &[new]).await.unwrap();
        for database in [name, &second(name)] {
            let mut session = trial.enter(name, PASSWORD, database).await;
            session.put("a", "b").await.unwrap_or_else(|error| panic!("{database} is half created: {error:?}"));
        }
        trial.forget(&[name, &second(name)]).await;
    };
    made_up_for(trial, nothing, call, done).await;
    assert_eq!(trial.databases().await, before);
}

async fn dropping_a_database_is_made_up_for(trial: &Trial) {
    let before = trial.databases().await;
    let ready = async |name: &str| {
        trial.make_databases(&[name]).await;
        let user = NewUser::new(name, PASSWORD).granted(name);
        trial.accounts().create_users(&trial.cx(), &[user]).await.unwrap();
        trial.enter(name, PASSWORD, name).await.put("old", "yes").await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| accounts.drop_database(cx, name).await;
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        assert!(trial.databases().await.iter().all(|database| database.name != name), "it is listed");
        assert_eq!(trial.accounts().user(&trial.cx(), &name.into()).await.unwrap(), User::new(name, Vec::new()));
        trial.forget(&[name]).await;
    };
    made_up_for(trial, ready, call, done).await;
    assert_eq!(trial.databases().await, before);
}

async fn granting_is_made_up_for(trial: &Trial) {
    let database = trial.make_tenant("granted").await;
    let ready = async |name: &str| {
        trial.accounts().create_users(&trial.cx(), &[NewUser::new(name, PASSWORD)]).await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| {
        accounts.grant(cx, &name.into(), &[database.clone(), "app".to_owned()]).await
    };
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        for database in [&database, "app"] {
            assert!(trial.lets_in(name, PASSWORD, database).await, "{database} was not granted");
        }
        trial.forget(&[name]).await;
    };
    made_up_for(trial, ready, call, done).await;
    trial.forget(&[&database]).await;
}

async fn revoking_is_made_up_for(trial: &Trial) {
    let database = trial.make_tenant("revoked").await;
    let ready = async |name: &str| {
        let user = NewUser::new(name, PASSWORD).granted(&database).granted("app");
        trial.accounts().create_users(&trial.cx(), &[user]).await.unwrap();
    };
    let call = async |accounts: &dyn Accounts, cx: &Cx, name: &str| accounts.revoke(cx, &name.into(), &database).await;
    let done = async |name: &str, again: Result<()>| {
        again.unwrap();
        assert!(!trial.lets_in(name, PASSWORD, &database).await, "the right is still there");
        assert_eq!(trial.rights(name).await, ["app"]);
        trial.forget(&[name]).await;
    };
    made_up_for(trial, ready, call, done).await;
    trial.forget(&[&database]).await;
}
