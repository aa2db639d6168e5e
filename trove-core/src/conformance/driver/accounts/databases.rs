use super::fixture::{PASSWORD, accounts_group, assert_session_ended, databases_group};
use crate::{
    conformance::{
        case::{cases, skip},
        driver::{
            ServerFixture,
            fixture::error_kind,
            group::{Group, Need},
        },
    },
    datastore::Prepare,
    error::Kind,
    model::{NewDatabase, NewUser},
};

pub(super) fn groups() -> Vec<Group> {
    let with_databases = databases_group(
        "accounts::databases",
        cases![
            creating_an_existing_database_keeps_its_contents,
            missing_databases_are_created,
            dropping_an_absent_database_is_ok,
            dropping_a_database_ends_its_sessions,
            dropping_a_database_leaves_others_alone,
            a_recreated_database_is_empty_and_without_privileges,
            a_database_outlives_its_users,
            databases_are_isolated,
            an_existing_database_with_another_character_set_is_a_conflict,
            an_unknown_character_set_is_invalid,
            system_databases_are_hidden_and_protected,
        ],
    );
    let unsupported = cases![databases_are_unsupported_where_there_are_none];
    let without_databases = Group::shared("accounts::databases", &[Need::NoDatabases], unsupported);
    let prepare = accounts_group("accounts::prepare", cases![preparing_again_adds_databases_and_users]);
    vec![with_databases, without_databases, prepare]
}

async fn creating_an_existing_database_keeps_its_contents(fixture: &ServerFixture) {
    let name = fixture.create_tenant("again").await;
    let mut session = fixture.log_in(&name, PASSWORD, &name).await;
    session.put("kept", "yes").await.unwrap();
    for _ in 0..2 {
        fixture.create_databases_if_supported(&[&name]).await;
    }
    assert_eq!(session.get("kept").await.expect("a session in it ended").as_deref(), Some("yes"));
    assert!(fixture.can_log_in(&name, PASSWORD, &name).await, "its user lost the privilege");
    fixture.drop_all(&[&name]).await;
}

async fn missing_databases_are_created(fixture: &ServerFixture) {
    let before = fixture.databases().await;
    let several = ["one", "two", "three"].map(|name| fixture.unique_name(name));
    fixture.create_databases_if_supported(&[&several[1]]).await;
    let all: Vec<_> = several.iter().map(String::as_str).collect();
    fixture.create_databases_if_supported(&all).await;
    assert_eq!(fixture.databases().await.len(), before.len() + 3);
    fixture.drop_all(&all).await;
    assert_eq!(fixture.databases().await, before);
}

async fn dropping_an_absent_database_is_ok(fixture: &ServerFixture) {
    let before = fixture.databases().await;
    for _ in 0..2 {
        fixture.accounts().drop_database(&fixture.cx(), &fixture.unique_name("absent")).await.unwrap();
    }
    assert_eq!(fixture.databases().await, before);
}

async fn dropping_a_database_ends_its_sessions(fixture: &ServerFixture) {
    let before = fixture.databases().await;
    let name = fixture.create_tenant("dropped").await;
    let mut session = fixture.log_in(&name, PASSWORD, &name).await;
    for _ in 0..2 {
        fixture.accounts().drop_database(&fixture.cx(), &name).await.unwrap();
    }
    assert_session_ended(&mut session, "its database was dropped").await;
    assert!(!fixture.can_log_in(&name, PASSWORD, &name).await, "the dropped database accepts a login");
    assert_eq!(fixture.databases().await, before);
    assert_eq!(fixture.granted_databases(&name).await, [""; 0]);
    fixture.drop_all(&[&name]).await;
}

async fn dropping_a_database_leaves_others_alone(fixture: &ServerFixture) {
    let name = fixture.create_tenant("data").await;
    let other = fixture.create_named_tenant(format!("{name}_")).await;
    let mut session = fixture.log_in(&other, PASSWORD, &other).await;
    session.put("kept", "yes").await.unwrap();
    fixture.accounts().drop_database(&fixture.cx(), &name).await.unwrap();
    assert_eq!(session.get("kept").await.expect("a session in another database ended").as_deref(), Some("yes"));
    assert_eq!(fixture.granted_databases(&other).await, [other.as_str()]);
    fixture.drop_all(&[&name, &other]).await;
}

async fn a_recreated_database_is_empty_and_without_privileges(fixture: &ServerFixture) {
    let name = fixture.create_tenant("renewed").await;
    fixture.log_in(&name, PASSWORD, &name).await.put("old", "yes").await.unwrap();
    fixture.accounts().drop_database(&fixture.cx(), &name).await.unwrap();
    fixture.create_databases_if_supported(&[&name]).await;
    assert!(
        !fixture.can_log_in(&name, PASSWORD, &name).await,
        "a privilege on the dropped database applies to the new one"
    );
    assert_eq!(fixture.granted_databases(&name).await, [""; 0]);
    fixture.accounts().grant(&fixture.cx(), &(&name).into(), std::slice::from_ref(&name)).await.unwrap();
    let old = fixture.log_in(&name, PASSWORD, &name).await.get("old").await.unwrap();
    assert_eq!(old, None, "the new database has the contents of the dropped one");
    fixture.drop_all(&[&name]).await;
}

async fn a_database_outlives_its_users(fixture: &ServerFixture) {
    let name = fixture.create_tenant("orphan").await;
    fixture.log_in(&name, PASSWORD, &name).await.put("kept", "yes").await.unwrap();
    fixture.accounts().drop_user(&fixture.cx(), &(&name).into()).await.unwrap();
    let heir = fixture.unique_name("heir");
    fixture.accounts().create_users(&fixture.cx(), &[NewUser::new(&heir, "x").granted(&name)]).await.unwrap();
    let mut session = fixture.log_in(&heir, "x", &name).await;
    assert_eq!(session.get("kept").await.unwrap().as_deref(), Some("yes"));
    session.put("kept", "still").await.expect("another user cannot change a row of a dropped user");
    fixture.drop_all(&[&name, &heir]).await;
}

async fn databases_are_isolated(fixture: &ServerFixture) {
    let (one, two) = (fixture.create_tenant("this").await, fixture.create_tenant("that").await);
    fixture.log_in(&one, PASSWORD, &one).await.put("secret", "of one").await.unwrap();
    let mut session = fixture.log_in(&two, PASSWORD, &two).await;
    assert_eq!(session.get("secret").await.unwrap(), None);
    session.put("secret", "of two").await.unwrap();
    let kept = fixture.log_in(&one, PASSWORD, &one).await.get("secret").await.unwrap();
    assert_eq!(kept.as_deref(), Some("of one"));
    assert_eq!(session.current_user().await.unwrap(), (two.clone(), Some(two.clone())));
    fixture.drop_all(&[&one, &two]).await;
}

async fn an_existing_database_with_another_character_set_is_a_conflict(fixture: &ServerFixture) {
    let name = fixture.unique_name("text");
    fixture.create_databases_if_supported(&[&name]).await;
    let before = fixture.databases().await;
    let found = before.iter().find(|database| database.name == name).expect("the database is listed");
    let (Some(set), Some(collation)) = (&found.character_set, &found.collation) else {
        skip("the engine has no character sets")
    };
    let same = NewDatabase::new(&name).character_set(set).collation(collation);
    fixture
        .accounts()
        .create_databases(&fixture.cx(), &[same])
        .await
        .expect("its own character set and collation are accepted");
    // Invalid where the engine does not have this character set.
    let other = [NewDatabase::new(&name).character_set("latin1")];
    let kind = error_kind(fixture.accounts().create_databases(&fixture.cx(), &other).await);
    assert!([Kind::Conflict, Kind::Invalid].contains(&kind), "{kind:?}");
    let new = fixture.unique_name("latin");
    let created =
        fixture.accounts().create_databases(&fixture.cx(), &[NewDatabase::new(&new).character_set("latin1")]).await;
    assert_eq!(created.is_ok(), kind == Kind::Conflict, "{created:?}");
    fixture.accounts().drop_database(&fixture.cx(), &new).await.unwrap();
    assert_eq!(fixture.databases().await, before);
    fixture.drop_all(&[&name]).await;
}

async fn an_unknown_character_set_is_invalid(fixture: &ServerFixture) {
    let before = fixture.databases().await;
    if before.iter().all(|database| database.character_set.is_none()) {
        skip("the engine has no character sets");
    }
    let new = || NewDatabase::new(fixture.unique_name("charset"));
    for unknown in ["no_such_text", "utf8'; DROP DATABASE app; --", "\\", ""] {
        for requested in [new().character_set(unknown), new().collation(unknown)] {
            let created = fixture.accounts().create_databases(&fixture.cx(), std::slice::from_ref(&requested)).await;
            assert_eq!(error_kind(created), Kind::Invalid, "{requested:?}");
        }
    }
    assert_eq!(fixture.databases().await, before);
}

async fn system_databases_are_hidden_and_protected(fixture: &ServerFixture) {
    let rules = fixture.account_rules().expect("the driver has accounts");
    if rules.reserved_databases.is_empty() {
        skip("the engine has no system databases");
    }
    let name = fixture.create_tenant("curious").await;
    let before = fixture.databases().await;
    for system_database in rules.reserved_databases {
        assert!(before.iter().all(|database| database.name != system_database), "{system_database} is listed");
        assert_eq!(
            error_kind(fixture.accounts().drop_database(&fixture.cx(), &system_database).await),
            Kind::Invalid,
            "{system_database}"
        );
        let granted =
            fixture.accounts().grant(&fixture.cx(), &(&name).into(), std::slice::from_ref(&system_database)).await;
        assert!([Kind::NotFound, Kind::Invalid].contains(&error_kind(granted)), "{system_database}");
        // Some engines let every user read system databases.
        if fixture.can_log_in(&name, PASSWORD, &system_database).await {
            let written = fixture.log_in(&name, PASSWORD, &system_database).await.put("a", "b").await;
            assert!(written.is_err(), "a user can write into {system_database}");
        }
    }
    assert_eq!(fixture.databases().await, before);
    fixture.app_session().await;
    fixture.drop_all(&[&name]).await;
}

async fn databases_are_unsupported_where_there_are_none(fixture: &ServerFixture) {
    let name = fixture.create_tenant("alone").await;
    let databases = [NewDatabase::new(fixture.unique_name("none"))];
    assert_eq!(error_kind(fixture.accounts().create_databases(&fixture.cx(), &databases).await), Kind::Unsupported);
    let granted = fixture.accounts().grant(&fixture.cx(), &(&name).into(), &[fixture.unique_name("none")]).await;
    assert_eq!(error_kind(granted), Kind::Unsupported);
    assert_eq!(fixture.databases().await, []);
    assert_eq!(fixture.granted_databases(&name).await, [""; 0]);
    fixture.drop_all(&[&name]).await;
}

async fn preparing_again_adds_databases_and_users(fixture: &ServerFixture) {
    let (name, more, new) =
        (fixture.create_tenant("prepared").await, fixture.unique_name("more"), fixture.unique_name("new"));
    fixture.log_in(&name, PASSWORD, &name).await.put("kept", "yes").await.unwrap();
    let spec = fixture.spec();
    let (mut databases, mut users) = (spec.databases, spec.users);
    users.extend([fixture.new_user(&name, "other", &more), fixture.new_user(&new, "x", &more)]);
    databases.extend(fixture.has_databases().then(|| NewDatabase::new(&more)));
    let extended = Prepare::new(databases, users);
    let cx = fixture.cx();
    for _ in 0..2 {
        fixture.server.prepare(&cx, &extended).await.unwrap();
    }
    assert!(fixture.can_log_in(&name, "other", &more).await, "an existing user got no new password or privilege");
    assert!(fixture.can_log_in(&new, "x", &more).await, "a user was not created");
    let kept = fixture.log_in(&name, "other", &name).await.get("kept").await.unwrap();
    assert_eq!(kept.as_deref(), Some("yes"), "existing data was lost");
    fixture.app_session().await;
    fixture.drop_all(&[&name, &more, &new]).await;
}
