use super::tenant::{PASSWORD, databases, ended};
use crate::{
    conformance::{
        case::cases,
        driver::{Trial, suite::Group, trial::refused},
    },
    error::Kind,
    model::NewUser,
};

pub(super) fn groups() -> Vec<Group> {
    vec![databases(
        "accounts::rights",
        cases![
            a_user_uses_what_it_was_granted_and_nothing_else,
            a_right_granted_again_stays,
            several_databases_are_granted_at_once,
            an_absent_database_is_not_granted,
            users_of_an_absent_database_are_not_created,
            a_revoked_right_ends_the_sessions_there_only,
            revoking_takes_nothing_from_others,
            revoking_a_right_that_is_not_there_is_ok,
            a_right_is_granted_again_after_it_was_revoked,
            rights_are_told_in_order_of_name,
        ],
    )]
}

async fn a_user_uses_what_it_was_granted_and_nothing_else(trial: &Trial) {
    let (name, bare) = (trial.make_tenant("mine").await, trial.name("bare"));
    let other = trial.make_named_tenant(format!("{name}_")).await;
    trial.accounts().create_users(&trial.cx(), &[NewUser::new(&bare, "x")]).await.unwrap();
    for (user, password, own) in [(&name, PASSWORD, Some(&name)), (&other, PASSWORD, Some(&other)), (&bare, "x", None)]
    {
        for database in [&name, &other, &"app".to_owned()] {
            let let_in = trial.lets_in(user, password, database).await;
            assert_eq!(let_in, own == Some(database), "{user} in {database}");
        }
        assert_eq!(trial.rights(user).await, own.into_iter().cloned().collect::<Vec<_>>());
    }
    trial.forget(&[&name, &other, &bare]).await;
}

async fn a_right_granted_again_stays(trial: &Trial) {
    let name = trial.make_tenant("granted").await;
    let mut session = trial.enter(&name, PASSWORD, &name).await;
    for _ in 0..2 {
        trial.accounts().grant(&trial.cx(), &(&name).into(), &[name.clone(), name.clone()]).await.unwrap();
    }
    session.put("a", "b").await.expect("the session ended");
    assert_eq!(trial.rights(&name).await, [name.as_str()]);
    trial.forget(&[&name]).await;
}

async fn several_databases_are_granted_at_once(trial: &Trial) {
    let name = trial.make_tenant("wide").await;
    let more = ["more", "most"].map(|name| trial.name(name));
    trial.make_databases(&[&more[0], &more[1]]).await;
    trial.accounts().grant(&trial.cx(), &(&name).into(), &more).await.unwrap();
    for database in [&name, &more[0], &more[1]] {
        assert!(trial.lets_in(&name, PASSWORD, database).await, "{database}");
    }
    trial.forget(&[&name, &more[0], &more[1]]).await;
}

async fn an_absent_database_is_not_granted(trial: &Trial) {
    let name = trial.make_tenant("hopes").await;
    let databases = ["app".to_owned(), trial.name("nowhere")];
    assert_eq!(refused(trial.accounts().grant(&trial.cx(), &(&name).into(), &databases).await), Kind::NotFound);
    assert_eq!(trial.rights(&name).await, [name.as_str()], "some of them were granted");
    // A database that comes later is not granted by that.
    trial.make_databases(&[&databases[1]]).await;
    assert!(!trial.lets_in(&name, PASSWORD, &databases[1]).await);
    trial.forget(&[&name, &databases[1]]).await;
}

async fn users_of_an_absent_database_are_not_created(trial: &Trial) {
    let before = trial.users().await;
    let lost = NewUser::new(trial.name("lost"), "x").granted(trial.name("nowhere"));
    let users = [NewUser::new(trial.name("found"), "x").granted("app"), lost];
    assert_eq!(refused(trial.accounts().create_users(&trial.cx(), &users).await), Kind::NotFound);
    assert_eq!(trial.users().await, before, "some of them were created");
}

async fn a_revoked_right_ends_the_sessions_there_only(trial: &Trial) {
    let (name, more) = (trial.make_tenant("revoked").await, trial.name("kept"));
    trial.make_databases(&[&more]).await;
    trial.accounts().grant(&trial.cx(), &(&name).into(), std::slice::from_ref(&more)).await.unwrap();
    let (mut here, mut there) = (trial.enter(&name, PASSWORD, &name).await, trial.enter(&name, PASSWORD, &more).await);
    for _ in 0..2 {
        trial.accounts().revoke(&trial.cx(), &(&name).into(), &name).await.unwrap();
    }
    ended(&mut here, "its right was revoked").await;
    there.put("a", "b").await.expect("a session in another database ended");
    assert!(!trial.lets_in(&name, PASSWORD, &name).await, "it can still use the database");
    assert_eq!(trial.rights(&name).await, [more.as_str()]);
    trial.forget(&[&name, &more]).await;
}

async fn revoking_takes_nothing_from_others(trial: &Trial) {
    let name = trial.make_tenant("one").await;
    let other = format!("{name}_");
    trial.accounts().create_users(&trial.cx(), &[NewUser::new(&other, "x").granted(&name)]).await.unwrap();
    let mut session = trial.enter(&other, "x", &name).await;
    trial.accounts().revoke(&trial.cx(), &(&name).into(), &name).await.unwrap();
    session.put("a", "b").await.expect("the session of another user ended");
    assert!(trial.lets_in(&other, "x", &name).await);
    trial.forget(&[&name, &other]).await;
}

async fn revoking_a_right_that_is_not_there_is_ok(trial: &Trial) {
    let name = trial.make_tenant("poor").await;
    for database in ["app", &trial.name("nowhere")] {
        trial.accounts().revoke(&trial.cx(), &(&name).into(), database).await.unwrap();
    }
    assert_eq!(trial.rights(&name).await, [name.as_str()]);
    trial.app().await;
    trial.forget(&[&name]).await;
}

async fn a_right_is_granted_again_after_it_was_revoked(trial: &Trial) {
    let name = trial.make_tenant("returns").await;
    trial.enter(&name, PASSWORD, &name).await.put("kept", "yes").await.unwrap();
    trial.accounts().revoke(&trial.cx(), &(&name).into(), &name).await.unwrap();
    trial.accounts().grant(&trial.cx(), &(&name).into(), std::slice::from_ref(&name)).await.unwrap();
    let mut session = trial.enter(&name, PASSWORD, &name).await;
    assert_eq!(session.get("kept").await.unwrap().as_deref(), Some("yes"));
    session.put("kept", "still").await.unwrap();
    trial.forget(&[&name]).await;
}

async fn rights_are_told_in_order_of_name(trial: &Trial) {
    let name = trial.make_tenant("orderly").await;
    let more = ["B", "a", "Z", "b", "_"].map(|name| trial.name(name));
    trial.make_databases(&more.iter().map(String::as_str).collect::<Vec<_>>()).await;
    trial.accounts().grant(&trial.cx(), &(&name).into(), &more).await.unwrap();
    let mut expected = [more.as_slice(), std::slice::from_ref(&name)].concat();
    expected.sort();
    assert_eq!(trial.rights(&name).await, expected);
    let listed = trial.users().await.into_iter().find(|user| user.user.name == name).expect("it is listed");
    assert_eq!(listed.databases, expected);
    trial.forget(&expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
}
