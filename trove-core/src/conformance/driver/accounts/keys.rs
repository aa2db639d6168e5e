//! Former owners, and keys that were used before.

use super::tenant::{PASSWORD, accounts, databases, secret};
use crate::{
    conformance::{
        case::cases,
        driver::{ServerFixture, fixture::error_kind, group::Group},
    },
    datastore::{Accounts, Cx},
    error::Kind,
    id::OperationId,
    model::{NewDatabase, NewUser},
};

pub(super) fn groups() -> Vec<Group> {
    let groups = vec![
        accounts(
            "accounts::keys",
            cases![
                a_stale_epoch_cannot_change_users,
                a_stale_epoch_cannot_change_root,
                a_stale_epoch_may_read,
                a_key_reused_for_another_user_is_a_conflict,
                a_key_is_distinct_for_each_step,
            ],
        ),
        databases(
            "accounts::keys",
            cases![a_stale_epoch_cannot_change_databases, a_key_reused_for_another_database_is_a_conflict],
        ),
    ];
    groups.into_iter().map(Group::shared_by_drivers).collect()
}

/// One who owned the server before the present owner did.
fn former() -> Cx {
    Cx::new(OperationId::new_v4(), 0)
}

async fn a_stale_epoch_cannot_change_users(fixture: &ServerFixture) {
    let name = fixture.create_tenant("owned").await;
    let (user, before) = ((&name).into(), fixture.users().await);
    let other = fixture.reattach();
    for accounts in [fixture.accounts(), other.abilities().accounts.expect("the ability was shown")] {
        let new = [NewUser::new(fixture.unique_name("new"), "x")];
        assert_eq!(error_kind(accounts.create_users(&former(), &new).await), Kind::Fenced);
        assert_eq!(error_kind(accounts.set_password(&former(), &user, &secret("x")).await), Kind::Fenced);
        assert_eq!(
            error_kind(accounts.rename_user(&former(), &user, &fixture.unique_name("new").into()).await),
            Kind::Fenced
        );
        assert_eq!(error_kind(accounts.drop_user(&former(), &user).await), Kind::Fenced);
    }
    assert_eq!(fixture.users().await, before);
    assert!(fixture.can_log_in(&name, PASSWORD, &name).await, "its password was changed");
    fixture.drop_all(&[&name]).await;
}

async fn a_stale_epoch_cannot_change_databases(fixture: &ServerFixture) {
    let (name, more) = (fixture.create_tenant("owned").await, [fixture.unique_name("more")]);
    let (user, before) = ((&name).into(), fixture.databases().await);
    let other = fixture.reattach();
    for accounts in [fixture.accounts(), other.abilities().accounts.expect("the ability was shown")] {
        let new = [NewDatabase::new(&more[0])];
        assert_eq!(error_kind(accounts.create_databases(&former(), &new).await), Kind::Fenced);
        assert_eq!(error_kind(accounts.grant(&former(), &user, &["app".to_owned()]).await), Kind::Fenced);
        assert_eq!(error_kind(accounts.revoke(&former(), &user, &name).await), Kind::Fenced);
        assert_eq!(error_kind(accounts.drop_database(&former(), &name).await), Kind::Fenced);
    }
    assert_eq!(fixture.databases().await, before);
    assert_eq!(fixture.rights(&name).await, [name.as_str()]);
    fixture.drop_all(&[&name]).await;
}

async fn a_stale_epoch_cannot_change_root(fixture: &ServerFixture) {
    let other = fixture.reattach();
    for accounts in [fixture.accounts(), other.abilities().accounts.expect("the ability was shown")] {
        assert_eq!(error_kind(accounts.enable_root(&former(), &secret("x")).await), Kind::Fenced);
        assert!(!accounts.root_enabled(&former()).await.unwrap(), "a former owner enabled root");
        assert_eq!(error_kind(accounts.disable_root(&former()).await), Kind::Fenced);
    }
}

async fn a_stale_epoch_may_read(fixture: &ServerFixture) {
    let accounts = fixture.accounts();
    assert_eq!(accounts.user(&former(), &"app".into()).await.unwrap().user, "app".into());
    accounts.users(&former(), &Default::default()).await.unwrap();
    accounts.databases(&former(), &Default::default()).await.unwrap();
    accounts.root_enabled(&former()).await.unwrap();
    // That changed nobody's turn.
    accounts.drop_user(&fixture.cx(), &fixture.unique_name("absent").into()).await.unwrap();
}

async fn a_key_reused_for_another_user_is_a_conflict(fixture: &ServerFixture) {
    let (one, two, before) =
        (fixture.create_tenant("one").await, fixture.create_tenant("two").await, fixture.users().await);
    let names = [(&one).into(), (&two).into(), fixture.unique_name("new").into()];
    let other = fixture.reattach();
    let other = other.abilities().accounts.expect("the ability was shown");
    let cx = fixture.cx();
    fixture.accounts().create_users(&cx, &[]).await.unwrap();
    assert_eq!(error_kind(other.create_users(&cx, &[NewUser::new(&names[2], "x")]).await), Kind::Conflict);
    fixture.accounts().set_password(&cx, &names[0], &secret(PASSWORD)).await.unwrap();
    assert_eq!(error_kind(other.set_password(&cx, &names[1], &secret("x")).await), Kind::Conflict);
    fixture.accounts().rename_user(&cx, &names[0], &names[0]).await.unwrap();
    assert_eq!(error_kind(other.rename_user(&cx, &names[1], &names[2]).await), Kind::Conflict);
    fixture.accounts().drop_user(&cx, &fixture.unique_name("absent").into()).await.unwrap();
    assert_eq!(error_kind(other.drop_user(&cx, &names[1]).await), Kind::Conflict);
    assert_eq!(fixture.users().await, before, "what was refused was done");
    assert!(fixture.can_log_in(&two, PASSWORD, &two).await, "what was refused was done");
    fixture.drop_all(&[&one, &two]).await;
}

async fn a_key_reused_for_another_database_is_a_conflict(fixture: &ServerFixture) {
    let (one, two) = (fixture.create_tenant("one").await, fixture.create_tenant("two").await);
    let (databases, users) = (fixture.databases().await, fixture.users().await);
    let (user, of) = ((&one).into(), |name: &String| [name.clone()]);
    let cx = fixture.cx();
    let other = fixture.reattach();
    let other = other.abilities().accounts.expect("the ability was shown");
    fixture.accounts().create_databases(&cx, &[NewDatabase::new(&one)]).await.unwrap();
    let new = [NewDatabase::new(fixture.unique_name("new"))];
    assert_eq!(error_kind(other.create_databases(&cx, &new).await), Kind::Conflict);
    fixture.accounts().grant(&cx, &user, &of(&one)).await.unwrap();
    assert_eq!(error_kind(other.grant(&cx, &user, &of(&two)).await), Kind::Conflict);
    fixture.accounts().revoke(&cx, &user, &two).await.unwrap();
    assert_eq!(error_kind(other.revoke(&cx, &user, &one).await), Kind::Conflict);
    fixture.accounts().drop_database(&cx, &fixture.unique_name("absent")).await.unwrap();
    assert_eq!(error_kind(other.drop_database(&cx, &two).await), Kind::Conflict);
    assert_eq!((fixture.databases().await, fixture.users().await), (databases, users), "what was refused was done");
    fixture.drop_all(&[&one, &two]).await;
}

async fn a_key_is_distinct_for_each_step(fixture: &ServerFixture) {
    let (one, two, cx) = (fixture.create_tenant("one").await, fixture.create_tenant("two").await, fixture.cx());
    let accounts: &dyn Accounts = fixture.accounts();
    accounts.set_password(&cx, &(&one).into(), &secret("x")).await.unwrap();
    accounts.set_password(&cx.clone().with_step("second"), &(&two).into(), &secret("y")).await.unwrap();
    assert!(fixture.can_log_in(&one, "x", &one).await && fixture.can_log_in(&two, "y", &two).await);
    fixture.drop_all(&[&one, &two]).await;
}
