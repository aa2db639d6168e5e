//! Former owners, and keys that were used before.

use super::tenant::{PASSWORD, accounts, databases, secret};
use crate::{
    conformance::{
        case::cases,
        driver::{Trial, suite::Group, trial::refused},
    },
    datastore::{Accounts, Cx},
    error::Kind,
    id::OperationId,
    model::{NewDatabase, NewUser},
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        accounts(
            "accounts::keys",
            cases![
                a_former_owner_changes_no_user,
                a_former_owner_changes_no_root,
                a_former_owner_may_look,
                a_key_is_used_for_one_user_only,
                a_step_of_its_own_makes_a_key_another,
            ],
        ),
        databases("accounts::keys", cases![a_former_owner_changes_no_database, a_key_is_used_for_one_database_only]),
    ]
}

/// One who owned the server before the present owner did.
fn former() -> Cx {
    Cx::new(OperationId::new_v4(), 0)
}

async fn a_former_owner_changes_no_user(trial: &Trial) {
    let name = trial.make_tenant("owned").await;
    let (user, before) = ((&name).into(), trial.users().await);
    let other = trial.reattached();
    for accounts in [trial.accounts(), other.abilities().accounts.expect("the ability was shown")] {
        let new = [NewUser::new(trial.name("new"), "x")];
        assert_eq!(refused(accounts.create_users(&former(), &new).await), Kind::Fenced);
        assert_eq!(refused(accounts.set_password(&former(), &user, &secret("x")).await), Kind::Fenced);
        assert_eq!(refused(accounts.rename_user(&former(), &user, &trial.name("new").into()).await), Kind::Fenced);
        assert_eq!(refused(accounts.drop_user(&former(), &user).await), Kind::Fenced);
    }
    assert_eq!(trial.users().await, before);
    assert!(trial.lets_in(&name, PASSWORD, &name).await, "its password was changed");
    trial.forget(&[&name]).await;
}

async fn a_former_owner_changes_no_database(trial: &Trial) {
    let (name, more) = (trial.make_tenant("owned").await, [trial.name("more")]);
    let (user, before) = ((&name).into(), trial.databases().await);
    let other = trial.reattached();
    for accounts in [trial.accounts(), other.abilities().accounts.expect("the ability was shown")] {
        let new = [NewDatabase::new(&more[0])];
        assert_eq!(refused(accounts.create_databases(&former(), &new).await), Kind::Fenced);
        assert_eq!(refused(accounts.grant(&former(), &user, &["app".to_owned()]).await), Kind::Fenced);
        assert_eq!(refused(accounts.revoke(&former(), &user, &name).await), Kind::Fenced);
        assert_eq!(refused(accounts.drop_database(&former(), &name).await), Kind::Fenced);
    }
    assert_eq!(trial.databases().await, before);
    assert_eq!(trial.rights(&name).await, [name.as_str()]);
    trial.forget(&[&name]).await;
}

async fn a_former_owner_changes_no_root(trial: &Trial) {
    let other = trial.reattached();
    for accounts in [trial.accounts(), other.abilities().accounts.expect("the ability was shown")] {
        assert_eq!(refused(accounts.enable_root(&former(), &secret("x")).await), Kind::Fenced);
        assert!(!accounts.root_enabled(&former()).await.unwrap(), "a former owner enabled root");
        assert_eq!(refused(accounts.disable_root(&former()).await), Kind::Fenced);
    }
}

async fn a_former_owner_may_look(trial: &Trial) {
    let accounts = trial.accounts();
    assert_eq!(accounts.user(&former(), &"app".into()).await.unwrap().user, "app".into());
    accounts.users(&former(), &Default::default()).await.unwrap();
    accounts.databases(&former(), &Default::default()).await.unwrap();
    accounts.root_enabled(&former()).await.unwrap();
    // That changed nobody's turn.
    accounts.drop_user(&trial.cx(), &trial.name("absent").into()).await.unwrap();
}

async fn a_key_is_used_for_one_user_only(trial: &Trial) {
    let (one, two, before) = (trial.make_tenant("one").await, trial.make_tenant("two").await, trial.users().await);
    let names = [(&one).into(), (&two).into(), trial.name("new").into()];
    let other = trial.reattached();
    let other = other.abilities().accounts.expect("the ability was shown");
    let cx = trial.cx();
    trial.accounts().create_users(&cx, &[]).await.unwrap();
    assert_eq!(refused(other.create_users(&cx, &[NewUser::new(&names[2], "x")]).await), Kind::Conflict);
    trial.accounts().set_password(&cx, &names[0], &secret(PASSWORD)).await.unwrap();
    assert_eq!(refused(other.set_password(&cx, &names[1], &secret("x")).await), Kind::Conflict);
    trial.accounts().rename_user(&cx, &names[0], &names[0]).await.unwrap();
    assert_eq!(refused(other.rename_user(&cx, &names[1], &names[2]).await), Kind::Conflict);
    trial.accounts().drop_user(&cx, &trial.name("absent").into()).await.unwrap();
    assert_eq!(refused(other.drop_user(&cx, &names[1]).await), Kind::Conflict);
    assert_eq!(trial.users().await, before, "what was refused was done");
    assert!(trial.lets_in(&two, PASSWORD, &two).await, "what was refused was done");
    trial.forget(&[&one, &two]).await;
}

async fn a_key_is_used_for_one_database_only(trial: &Trial) {
    let (one, two) = (trial.make_tenant("one").await, trial.make_tenant("two").await);
    let (databases, users) = (trial.databases().await, trial.users().await);
    let (user, of) = ((&one).into(), |name: &String| [name.clone()]);
    let cx = trial.cx();
    let other = trial.reattached();
    let other = other.abilities().accounts.expect("the ability was shown");
    trial.accounts().create_databases(&cx, &[NewDatabase::new(&one)]).await.unwrap();
    let new = [NewDatabase::new(trial.name("new"))];
    assert_eq!(refused(other.create_databases(&cx, &new).await), Kind::Conflict);
    trial.accounts().grant(&cx, &user, &of(&one)).await.unwrap();
    assert_eq!(refused(other.grant(&cx, &user, &of(&two)).await), Kind::Conflict);
    trial.accounts().revoke(&cx, &user, &two).await.unwrap();
    assert_eq!(refused(other.revoke(&cx, &user, &one).await), Kind::Conflict);
    trial.accounts().drop_database(&cx, &trial.name("absent")).await.unwrap();
    assert_eq!(refused(other.drop_database(&cx, &two).await), Kind::Conflict);
    assert_eq!((trial.databases().await, trial.users().await), (databases, users), "what was refused was done");
    trial.forget(&[&one, &two]).await;
}

async fn a_step_of_its_own_makes_a_key_another(trial: &Trial) {
    let (one, two, cx) = (trial.make_tenant("one").await, trial.make_tenant("two").await, trial.cx());
    let accounts: &dyn Accounts = trial.accounts();
    accounts.set_password(&cx, &(&one).into(), &secret("x")).await.unwrap();
    accounts.set_password(&cx.clone().with_step("second"), &(&two).into(), &secret("y")).await.unwrap();
    assert!(trial.lets_in(&one, "x", &one).await && trial.lets_in(&two, "y", &two).await);
    trial.forget(&[&one, &two]).await;
}
