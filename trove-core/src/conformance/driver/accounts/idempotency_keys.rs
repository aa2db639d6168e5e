//! Operation keys that were used before. A key is the idempotency key of a call: the operation, its
//! step and the name of the call.

use super::fixture::{PASSWORD, accounts_group, databases_group, secret};
use crate::{
    conformance::{
        case::cases,
        driver::{ServerFixture, fixture::error_kind, group::Group},
    },
    datastore::Accounts,
    error::Kind,
    model::{NewDatabase, NewUser},
};

pub(super) fn groups() -> Vec<Group> {
    let groups = [
        accounts_group(
            "accounts::idempotency_keys",
            cases![a_key_reused_for_another_user_is_a_conflict, a_key_is_distinct_for_each_step],
        ),
        databases_group("accounts::idempotency_keys", cases![a_key_reused_for_another_database_is_a_conflict]),
    ];
    groups.map(Group::common).into()
}

async fn a_key_reused_for_another_user_is_a_conflict(fixture: &ServerFixture) {
    let (one, two, before) =
        (fixture.create_tenant("one").await, fixture.create_tenant("two").await, fixture.users().await);
    let names = [(&one).into(), (&two).into(), fixture.unique_name("new").into()];
    let other = fixture.reattach();
    let other = other.abilities().accounts.expect("the ability is present");
    let cx = fixture.cx();
    fixture.accounts().create_users(&cx, &[]).await.unwrap();
    assert_eq!(error_kind(other.create_users(&cx, &[NewUser::new(&names[2], "x")]).await), Kind::Conflict);
    fixture.accounts().set_password(&cx, &names[0], &secret(PASSWORD)).await.unwrap();
    assert_eq!(error_kind(other.set_password(&cx, &names[1], &secret("x")).await), Kind::Conflict);
    fixture.accounts().rename_user(&cx, &names[0], &names[0]).await.unwrap();
    assert_eq!(error_kind(other.rename_user(&cx, &names[1], &names[2]).await), Kind::Conflict);
    fixture.accounts().drop_user(&cx, &fixture.unique_name("absent").into()).await.unwrap();
    assert_eq!(error_kind(other.drop_user(&cx, &names[1]).await), Kind::Conflict);
    assert_eq!(fixture.users().await, before, "a rejected call took effect");
    assert!(fixture.can_log_in(&two, PASSWORD, &two).await, "a rejected call took effect");
    fixture.drop_all(&[&one, &two]).await;
}

async fn a_key_reused_for_another_database_is_a_conflict(fixture: &ServerFixture) {
    let (one, two) = (fixture.create_tenant("one").await, fixture.create_tenant("two").await);
    let (databases, users) = (fixture.databases().await, fixture.users().await);
    let (user, only) = ((&one).into(), |name: &String| [name.clone()]);
    let cx = fixture.cx();
    let other = fixture.reattach();
    let other = other.abilities().accounts.expect("the ability is present");
    fixture.accounts().create_databases(&cx, &[NewDatabase::new(&one)]).await.unwrap();
    let new = [NewDatabase::new(fixture.unique_name("new"))];
    assert_eq!(error_kind(other.create_databases(&cx, &new).await), Kind::Conflict);
    fixture.accounts().grant(&cx, &user, &only(&one)).await.unwrap();
    assert_eq!(error_kind(other.grant(&cx, &user, &only(&two)).await), Kind::Conflict);
    fixture.accounts().revoke(&cx, &user, &two).await.unwrap();
    assert_eq!(error_kind(other.revoke(&cx, &user, &one).await), Kind::Conflict);
    fixture.accounts().drop_database(&cx, &fixture.unique_name("absent")).await.unwrap();
    assert_eq!(error_kind(other.drop_database(&cx, &two).await), Kind::Conflict);
    assert_eq!((fixture.databases().await, fixture.users().await), (databases, users), "a rejected call took effect");
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
