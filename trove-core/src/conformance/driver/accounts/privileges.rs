use super::fixture::{PASSWORD, assert_session_ended, databases_group};
use crate::{
    conformance::{
        case::cases,
        driver::{ServerFixture, fixture::error_kind, group::Group},
    },
    error::Kind,
    model::NewUser,
};

pub(super) fn groups() -> Vec<Group> {
    vec![databases_group(
        "accounts::privileges",
        cases![
            a_user_can_use_granted_databases_only,
            granting_again_is_ok,
            several_databases_are_granted_in_one_call,
            granting_an_absent_database_is_not_found,
            creating_a_user_of_an_absent_database_is_not_found,
            revoking_ends_the_sessions_in_that_database_only,
            revoking_leaves_other_users_alone,
            revoking_an_absent_privilege_is_ok,
            a_revoked_privilege_can_be_granted_again,
            privileges_are_listed_in_order,
        ],
    )]
}

async fn a_user_can_use_granted_databases_only(fixture: &ServerFixture) {
    let (name, bare) = (fixture.create_tenant("mine").await, fixture.unique_name("bare"));
    let other = fixture.create_named_tenant(format!("{name}_")).await;
    fixture.accounts().create_users(&fixture.cx(), &[NewUser::new(&bare, "x")]).await.unwrap();
    for (user, password, granted) in
        [(&name, PASSWORD, Some(&name)), (&other, PASSWORD, Some(&other)), (&bare, "x", None)]
    {
        for database in [&name, &other, &"app".to_owned()] {
            let accepted = fixture.can_log_in(user, password, database).await;
            assert_eq!(accepted, granted == Some(database), "{user} in {database}");
        }
        assert_eq!(fixture.granted_databases(user).await, granted.into_iter().cloned().collect::<Vec<_>>());
    }
    fixture.drop_all(&[&name, &other, &bare]).await;
}

async fn granting_again_is_ok(fixture: &ServerFixture) {
    let name = fixture.create_tenant("granted").await;
    let mut session = fixture.log_in(&name, PASSWORD, &name).await;
    for _ in 0..2 {
        fixture.accounts().grant(&fixture.cx(), &(&name).into(), &[name.clone(), name.clone()]).await.unwrap();
    }
    session.put("a", "b").await.expect("the session ended");
    assert_eq!(fixture.granted_databases(&name).await, [name.as_str()]);
    fixture.drop_all(&[&name]).await;
}

async fn several_databases_are_granted_in_one_call(fixture: &ServerFixture) {
    let name = fixture.create_tenant("wide").await;
    let more = ["more", "most"].map(|name| fixture.unique_name(name));
    fixture.create_databases_if_supported(&[&more[0], &more[1]]).await;
    fixture.accounts().grant(&fixture.cx(), &(&name).into(), &more).await.unwrap();
    for database in [&name, &more[0], &more[1]] {
        assert!(fixture.can_log_in(&name, PASSWORD, database).await, "{database}");
    }
    fixture.drop_all(&[&name, &more[0], &more[1]]).await;
}

async fn granting_an_absent_database_is_not_found(fixture: &ServerFixture) {
    let name = fixture.create_tenant("hopes").await;
    let databases = ["app".to_owned(), fixture.unique_name("nowhere")];
    assert_eq!(error_kind(fixture.accounts().grant(&fixture.cx(), &(&name).into(), &databases).await), Kind::NotFound);
    assert_eq!(fixture.granted_databases(&name).await, [name.as_str()], "some databases were granted");
    // The failed grant does not apply to a database that is created later.
    fixture.create_databases_if_supported(&[&databases[1]]).await;
    assert!(!fixture.can_log_in(&name, PASSWORD, &databases[1]).await);
    fixture.drop_all(&[&name, &databases[1]]).await;
}

async fn creating_a_user_of_an_absent_database_is_not_found(fixture: &ServerFixture) {
    let before = fixture.users().await;
    let invalid = NewUser::new(fixture.unique_name("invalid"), "x").granted(fixture.unique_name("nowhere"));
    let users = [NewUser::new(fixture.unique_name("valid"), "x").granted("app"), invalid];
    assert_eq!(error_kind(fixture.accounts().create_users(&fixture.cx(), &users).await), Kind::NotFound);
    assert_eq!(fixture.users().await, before, "some users were created");
}

async fn revoking_ends_the_sessions_in_that_database_only(fixture: &ServerFixture) {
    let (name, more) = (fixture.create_tenant("revoked").await, fixture.unique_name("kept"));
    fixture.create_databases_if_supported(&[&more]).await;
    fixture.accounts().grant(&fixture.cx(), &(&name).into(), std::slice::from_ref(&more)).await.unwrap();
    let (mut revoked, mut kept) =
        (fixture.log_in(&name, PASSWORD, &name).await, fixture.log_in(&name, PASSWORD, &more).await);
    for _ in 0..2 {
        fixture.accounts().revoke(&fixture.cx(), &(&name).into(), &name).await.unwrap();
    }
    assert_session_ended(&mut revoked, "its privilege was revoked").await;
    kept.put("a", "b").await.expect("a session in another database ended");
    assert!(!fixture.can_log_in(&name, PASSWORD, &name).await, "the user can still log in to the database");
    assert_eq!(fixture.granted_databases(&name).await, [more.as_str()]);
    fixture.drop_all(&[&name, &more]).await;
}

async fn revoking_leaves_other_users_alone(fixture: &ServerFixture) {
    let name = fixture.create_tenant("one").await;
    let other = format!("{name}_");
    fixture.accounts().create_users(&fixture.cx(), &[NewUser::new(&other, "x").granted(&name)]).await.unwrap();
    let mut session = fixture.log_in(&other, "x", &name).await;
    fixture.accounts().revoke(&fixture.cx(), &(&name).into(), &name).await.unwrap();
    session.put("a", "b").await.expect("the session of another user ended");
    assert!(fixture.can_log_in(&other, "x", &name).await);
    fixture.drop_all(&[&name, &other]).await;
}

async fn revoking_an_absent_privilege_is_ok(fixture: &ServerFixture) {
    let name = fixture.create_tenant("poor").await;
    for database in ["app", &fixture.unique_name("nowhere")] {
        fixture.accounts().revoke(&fixture.cx(), &(&name).into(), database).await.unwrap();
    }
    assert_eq!(fixture.granted_databases(&name).await, [name.as_str()]);
    fixture.app_session().await;
    fixture.drop_all(&[&name]).await;
}

async fn a_revoked_privilege_can_be_granted_again(fixture: &ServerFixture) {
    let name = fixture.create_tenant("returns").await;
    fixture.log_in(&name, PASSWORD, &name).await.put("kept", "yes").await.unwrap();
    fixture.accounts().revoke(&fixture.cx(), &(&name).into(), &name).await.unwrap();
    fixture.accounts().grant(&fixture.cx(), &(&name).into(), std::slice::from_ref(&name)).await.unwrap();
    let mut session = fixture.log_in(&name, PASSWORD, &name).await;
    assert_eq!(session.get("kept").await.unwrap().as_deref(), Some("yes"));
    session.put("kept", "still").await.unwrap();
    fixture.drop_all(&[&name]).await;
}

async fn privileges_are_listed_in_order(fixture: &ServerFixture) {
    let name = fixture.create_tenant("orderly").await;
    let more = ["B", "a", "Z", "b", "_"].map(|name| fixture.unique_name(name));
    fixture.create_databases_if_supported(&more.iter().map(String::as_str).collect::<Vec<_>>()).await;
    fixture.accounts().grant(&fixture.cx(), &(&name).into(), &more).await.unwrap();
    let mut expected = [more.as_slice(), std::slice::from_ref(&name)].concat();
    expected.sort();
    assert_eq!(fixture.granted_databases(&name).await, expected);
    let listed = fixture.users().await.into_iter().find(|user| user.user.name == name).expect("the user is listed");
    assert_eq!(listed.databases, expected);
    fixture.drop_all(&expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
}
