use super::tenant::{PASSWORD, databases, ended};
use crate::{
    conformance::{
        case::{cases, skip},
        driver::{
            Trial,
            suite::{Group, Need, Place},
            trial::refused,
        },
    },
    datastore::Prepare,
    error::Kind,
    model::{NewDatabase, NewUser},
};

pub(super) fn groups() -> Vec<Group> {
    let own = databases(
        "accounts::databases",
        cases![
            a_database_created_again_keeps_all_it_has,
            those_that_are_missing_of_several_are_created,
            dropping_an_absent_database_is_ok,
            a_dropped_database_takes_its_sessions_along,
            dropping_a_database_leaves_the_others_alone,
            a_database_created_again_is_empty_and_nobodys,
            a_database_outlives_its_users,
            databases_do_not_share_what_they_hold,
            a_database_with_another_character_set_is_a_conflict,
            an_unknown_character_set_is_invalid,
            the_engines_own_databases_are_nobodys,
        ],
    );
    let without = cases![without_databases_none_can_be_made_or_granted];
    let without = Group { name: "accounts::databases", place: Place::Shared, needs: &[Need::Accounts], cases: without };
    let prepared = cases![another_preparation_adds_databases_and_users];
    let prepared =
        Group { name: "accounts::prepared", place: Place::Shared, needs: &[Need::Accounts], cases: prepared };
    vec![own, without, prepared]
}

async fn a_database_created_again_keeps_all_it_has(trial: &Trial) {
    let name = trial.make_tenant("again").await;
    let mut session = trial.enter(&name, PASSWORD, &name).await;
    session.put("kept", "yes").await.unwrap();
    for _ in 0..2 {
        trial.make_databases(&[&name]).await;
    }
    assert_eq!(session.get("kept").await.expect("its sessions ended").as_deref(), Some("yes"));
    assert!(trial.lets_in(&name, PASSWORD, &name).await, "its user lost the right");
    trial.forget(&[&name]).await;
}

async fn those_that_are_missing_of_several_are_created(trial: &Trial) {
    let before = trial.databases().await;
    let several = ["one", "two", "three"].map(|name| trial.name(name));
    trial.make_databases(&[&several[1]]).await;
    let all: Vec<_> = several.iter().map(String::as_str).collect();
    trial.make_databases(&all).await;
    assert_eq!(trial.databases().await.len(), before.len() + 3);
    trial.forget(&all).await;
    assert_eq!(trial.databases().await, before);
}

async fn dropping_an_absent_database_is_ok(trial: &Trial) {
    let before = trial.databases().await;
    for _ in 0..2 {
        trial.accounts().drop_database(&trial.cx(), &trial.name("absent")).await.unwrap();
    }
    assert_eq!(trial.databases().await, before);
}

async fn a_dropped_database_takes_its_sessions_along(trial: &Trial) {
    let before = trial.databases().await;
    let name = trial.make_tenant("dropped").await;
    let mut session = trial.enter(&name, PASSWORD, &name).await;
    for _ in 0..2 {
        trial.accounts().drop_database(&trial.cx(), &name).await.unwrap();
    }
    ended(&mut session, "its database was dropped").await;
    assert!(!trial.lets_in(&name, PASSWORD, &name).await, "the database can still be used");
    assert_eq!(trial.databases().await, before);
    assert_eq!(trial.rights(&name).await, [""; 0]);
    trial.forget(&[&name]).await;
}

async fn dropping_a_database_leaves_the_others_alone(trial: &Trial) {
    let name = trial.make_tenant("data").await;
    let other = trial.make_named_tenant(format!("{name}_")).await;
    let mut session = trial.enter(&other, PASSWORD, &other).await;
    session.put("kept", "yes").await.unwrap();
    trial.accounts().drop_database(&trial.cx(), &name).await.unwrap();
    assert_eq!(session.get("kept").await.expect("the session of another ended").as_deref(), Some("yes"));
    assert_eq!(trial.rights(&other).await, [other.as_str()]);
    trial.forget(&[&name, &other]).await;
}

async fn a_database_created_again_is_empty_and_nobodys(trial: &Trial) {
    let name = trial.make_tenant("renewed").await;
    trial.enter(&name, PASSWORD, &name).await.put("old", "yes").await.unwrap();
    trial.accounts().drop_database(&trial.cx(), &name).await.unwrap();
    trial.make_databases(&[&name]).await;
    assert!(!trial.lets_in(&name, PASSWORD, &name).await, "a right on the former is one on this");
    assert_eq!(trial.rights(&name).await, [""; 0]);
    trial.accounts().grant(&trial.cx(), &(&name).into(), std::slice::from_ref(&name)).await.unwrap();
    let old = trial.enter(&name, PASSWORD, &name).await.get("old").await.unwrap();
    assert_eq!(old, None, "it holds what the former held");
    trial.forget(&[&name]).await;
}

async fn a_database_outlives_its_users(trial: &Trial) {
    let name = trial.make_tenant("orphan").await;
    trial.enter(&name, PASSWORD, &name).await.put("kept", "yes").await.unwrap();
    trial.accounts().drop_user(&trial.cx(), &(&name).into()).await.unwrap();
    let heir = trial.name("heir");
    trial.accounts().create_users(&trial.cx(), &[NewUser::new(&heir, "x").granted(&name)]).await.unwrap();
    let mut session = trial.enter(&heir, "x", &name).await;
    assert_eq!(session.get("kept").await.unwrap().as_deref(), Some("yes"));
    session.put("kept", "still").await.expect("what a dropped user made cannot be changed");
    trial.forget(&[&name, &heir]).await;
}

async fn databases_do_not_share_what_they_hold(trial: &Trial) {
    let (one, two) = (trial.make_tenant("this").await, trial.make_tenant("that").await);
    trial.enter(&one, PASSWORD, &one).await.put("secret", "of one").await.unwrap();
    let mut session = trial.enter(&two, PASSWORD, &two).await;
    assert_eq!(session.get("secret").await.unwrap(), None);
    session.put("secret", "of two").await.unwrap();
    let kept = trial.enter(&one, PASSWORD, &one).await.get("secret").await.unwrap();
    assert_eq!(kept.as_deref(), Some("of one"));
    assert_eq!(session.whoami().await.unwrap(), (two.clone(), Some(two.clone())));
    trial.forget(&[&one, &two]).await;
}

async fn a_database_with_another_character_set_is_a_conflict(trial: &Trial) {
    let name = trial.name("text");
    trial.make_databases(&[&name]).await;
    let before = trial.databases().await;
    let found = before.iter().find(|database| database.name == name).expect("it is listed");
    let (Some(set), Some(collation)) = (&found.character_set, &found.collation) else {
        skip("the engine has no character sets")
    };
    let same = NewDatabase::new(&name).character_set(set).collation(collation);
    trial.accounts().create_databases(&trial.cx(), &[same]).await.expect("it is asked for as it is");
    // An engine that has no such character set says so.
    let other = [NewDatabase::new(&name).character_set("latin1")];
    let kind = refused(trial.accounts().create_databases(&trial.cx(), &other).await);
    assert!([Kind::Conflict, Kind::Invalid].contains(&kind), "{kind:?}");
    let new = trial.name("latin");
    let created =
        trial.accounts().create_databases(&trial.cx(), &[NewDatabase::new(&new).character_set("latin1")]).await;
    assert_eq!(created.is_ok(), kind == Kind::Conflict, "{created:?}");
    trial.accounts().drop_database(&trial.cx(), &new).await.unwrap();
    assert_eq!(trial.databases().await, before);
    trial.forget(&[&name]).await;
}

async fn an_unknown_character_set_is_invalid(trial: &Trial) {
    let before = trial.databases().await;
    let known = before.iter().any(|database| database.character_set.is_some());
    if !known {
        skip("the engine has no character sets");
    }
    let new = || NewDatabase::new(trial.name("strange"));
    for strange in ["no_such_text", "utf8'; DROP DATABASE app; --", "\\", ""] {
        for asked in [new().character_set(strange), new().collation(strange)] {
            let created = trial.accounts().create_databases(&trial.cx(), std::slice::from_ref(&asked)).await;
            assert_eq!(refused(created), Kind::Invalid, "{asked:?}");
        }
    }
    assert_eq!(trial.databases().await, before);
}

async fn the_engines_own_databases_are_nobodys(trial: &Trial) {
    let rules = trial.rules().expect("there are accounts");
    if rules.reserved_databases.is_empty() {
        skip("the engine has no databases of its own");
    }
    let name = trial.make_tenant("curious").await;
    let before = trial.databases().await;
    for own in rules.reserved_databases {
        assert!(before.iter().all(|database| database.name != own), "{own} is listed");
        assert_eq!(refused(trial.accounts().drop_database(&trial.cx(), &own).await), Kind::Invalid, "{own}");
        let granted = trial.accounts().grant(&trial.cx(), &(&name).into(), std::slice::from_ref(&own)).await;
        assert!([Kind::NotFound, Kind::Invalid].contains(&refused(granted)), "{own}");
        // Some engines let everybody in there, to look.
        if trial.lets_in(&name, PASSWORD, &own).await {
            let written = trial.enter(&name, PASSWORD, &own).await.put("a", "b").await;
            assert!(written.is_err(), "a user writes into {own}");
        }
    }
    assert_eq!(trial.databases().await, before);
    trial.app().await;
    trial.forget(&[&name]).await;
}

async fn without_databases_none_can_be_made_or_granted(trial: &Trial) {
    if trial.has_databases() {
        skip("the engine has databases");
    }
    let name = trial.make_tenant("alone").await;
    let databases = [NewDatabase::new(trial.name("none"))];
    assert_eq!(refused(trial.accounts().create_databases(&trial.cx(), &databases).await), Kind::Unsupported);
    let granted = trial.accounts().grant(&trial.cx(), &(&name).into(), &[trial.name("none")]).await;
    assert_eq!(refused(granted), Kind::Unsupported);
    assert_eq!(trial.databases().await, []);
    assert_eq!(trial.rights(&name).await, [""; 0]);
    trial.forget(&[&name]).await;
}

async fn another_preparation_adds_databases_and_users(trial: &Trial) {
    let (name, more, new) = (trial.make_tenant("prepared").await, trial.name("more"), trial.name("new"));
    trial.enter(&name, PASSWORD, &name).await.put("kept", "yes").await.unwrap();
    let app = trial.spec();
    let (mut databases, mut users) = (app.databases, app.users);
    users.extend([trial.new_user(&name, "other", &more), trial.new_user(&new, "x", &more)]);
    databases.extend(trial.has_databases().then(|| NewDatabase::new(&more)));
    let again = Prepare::new(databases, users);
    let cx = trial.cx();
    for _ in 0..2 {
        trial.server.prepare(&cx, &again).await.unwrap();
    }
    assert!(trial.lets_in(&name, "other", &more).await, "a user was not given what was asked for");
    assert!(trial.lets_in(&new, "x", &more).await, "a user was not created");
    let kept = trial.enter(&name, "other", &name).await.get("kept").await.unwrap();
    assert_eq!(kept.as_deref(), Some("yes"), "what there was before is lost");
    trial.app().await;
    trial.forget(&[&name, &more, &new]).await;
}
