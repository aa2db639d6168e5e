//! Calls with a stale epoch.

use super::fixture::{PASSWORD, accounts_group, databases_group, secret};
use crate::{
    conformance::{
        case::cases,
        driver::{ServerFixture, fixture::error_kind, group::Group},
    },
    datastore::Cx,
    error::Kind,
    id::OperationId,
    model::{NewDatabase, NewUser},
};

pub(super) fn groups() -> Vec<Group> {
    let groups = [
        accounts_group(
            "accounts::fencing",
            cases![a_stale_epoch_cannot_change_users, a_stale_epoch_cannot_change_root, a_stale_epoch_may_read],
        ),
        databases_group("accounts::fencing", cases![a_stale_epoch_cannot_change_databases]),
    ];
    groups.map(Group::common).into()
}

/// Returns the context of an operation whose owner was superseded.
fn stale_cx() -> Cx {
    Cx::new(OperationId::new_v4(), 0)
}

async fn a_stale_epoch_cannot_change_users(fixture: &ServerFixture) {
    let name = fixture.create_tenant("owned").await;
    let (user, before) = ((&name).into(), fixture.users().await);
    let other = fixture.reattach();
    for accounts in [fixture.accounts(), other.abilities().accounts.expect("the ability is present")] {
        let new = [NewUser::new(fixture.unique_name("new"), "x")];
        assert_eq!(error_kind(accounts.create_users(&stale_cx(), &new).await), Kind::Fenced);
        assert_eq!(error_kind(accounts.set_password(&stale_cx(), &user, &secret("x")).await), Kind::Fenced);
        assert_eq!(
            error_kind(accounts.rename_user(&stale_cx(), &user, &fixture.unique_name("new").into()).await),
            Kind::Fenced
        );
        assert_eq!(error_kind(accounts.drop_user(&stale_cx(), &user).await), Kind::Fenced);
    }
    assert_eq!(fixture.users().await, before);
    assert!(fixture.can_log_in(&name, PASSWORD, &name).await, "the password was changed");
    fixture.drop_all(&[&name]).await;
}

async fn a_stale_epoch_cannot_change_databases(fixture: &ServerFixture) {
    let (name, more) = (fixture.create_tenant("owned").await, [fixture.unique_name("more")]);
    let (user, before) = ((&name).into(), fixture.databases().await);
    let other = fixture.reattach();
    for accounts in [fixture.accounts(), other.abilities().accounts.expect("the ability is present")] {
        let new = [NewDatabase::new(&more[0])];
        assert_eq!(error_kind(accounts.create_databases(&stale_cx(), &new).await), Kind::Fenced);
        assert_eq!(error_kind(accounts.grant(&stale_cx(), &user, &["app".to_owned()]).await), Kind::Fenced);
        assert_eq!(error_kind(accounts.revoke(&stale_cx(), &user, &name).await), Kind::Fenced);
        assert_eq!(error_kind(accounts.drop_database(&stale_cx(), &name).await), Kind::Fenced);
    }
    assert_eq!(fixture.databases().await, before);
    assert_eq!(fixture.granted_databases(&name).await, [name.as_str()]);
    fixture.drop_all(&[&name]).await;
}

async fn a_stale_epoch_cannot_change_root(fixture: &ServerFixture) {
    let other = fixture.reattach();
    for accounts in [fixture.accounts(), other.abilities().accounts.expect("the ability is present")] {
        assert_eq!(error_kind(accounts.enable_root(&stale_cx(), &secret("x")).await), Kind::Fenced);
        assert!(!accounts.root_enabled(&stale_cx()).await.unwrap(), "a stale epoch enabled root");
        assert_eq!(error_kind(accounts.disable_root(&stale_cx()).await), Kind::Fenced);
    }
}

async fn a_stale_epoch_may_read(fixture: &ServerFixture) {
    let accounts = fixture.accounts();
    assert_eq!(accounts.user(&stale_cx(), &"app".into()).await.unwrap().user, "app".into());
    accounts.users(&stale_cx(), &Default::default()).await.unwrap();
    accounts.databases(&stale_cx(), &Default::default()).await.unwrap();
    accounts.root_enabled(&stale_cx()).await.unwrap();
    // The reads did not change the current epoch.
    accounts.drop_user(&fixture.cx(), &fixture.unique_name("absent").into()).await.unwrap();
}
