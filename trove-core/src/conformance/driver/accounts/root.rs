use super::fixture::{PASSWORD, accounts_group, assert_session_ended, databases_group, secret, user_names};
use crate::{
    conformance::{
        case::{cases, skip},
        driver::{ClientLogin, ServerFixture, fixture::error_kind, group::Group},
    },
    error::Kind,
    secret::ExposeSecret,
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        accounts_group(
            "accounts::root",
            cases![
                root_can_log_in_only_while_enabled,
                disabling_root_ends_its_sessions,
                enabling_root_again_replaces_its_password,
                disabling_a_disabled_root_is_ok,
                root_is_not_listed_as_a_user,
                objects_of_root_outlive_its_disabling,
                the_state_of_root_is_visible_to_every_process,
            ],
        ),
        databases_group(
            "accounts::root",
            cases![
                root_can_use_all_databases_including_later_ones,
                root_is_independent_of_databases_and_users,
                root_cannot_write_into_system_databases
            ],
        ),
    ]
}

impl ServerFixture {
    /// Enables root with this password and returns its name. Skips the case if the engine has no
    /// root user.
    pub(super) async fn enable_root_user(&self, password: &str) -> String {
        match self.accounts().enable_root(&self.cx(), &secret(password)).await {
            Ok(name) => name,
            Err(error) if error.kind() == Kind::Unsupported => skip("the engine has no root user"),
            Err(error) => panic!("enable_root: {error:?}"),
        }
    }

    pub(super) async fn disable_root_user(&self) {
        self.accounts().disable_root(&self.cx()).await.unwrap();
    }

    pub(super) async fn root_user_enabled(&self) -> bool {
        self.accounts().root_enabled(&self.cx()).await.unwrap()
    }
}

async fn root_can_log_in_only_while_enabled(fixture: &ServerFixture) {
    assert!(!fixture.root_user_enabled().await, "root is enabled initially");
    let root = fixture.enable_root_user("r00t").await;
    assert!(fixture.root_user_enabled().await);
    assert!(fixture.can_log_in(&root, "r00t", "app").await);
    assert!(!fixture.can_log_in(&root, "wrong", "app").await, "root can log in with a wrong password");
    assert!(!fixture.can_log_in(&root, "", "app").await, "root can log in without a password");
    fixture.disable_root_user().await;
    assert!(!fixture.root_user_enabled().await);
    assert!(!fixture.can_log_in(&root, "r00t", "app").await, "the disabled root can log in");
    assert!(!fixture.can_log_in(&root, "", "app").await, "the disabled root can log in without a password");
}

async fn disabling_root_ends_its_sessions(fixture: &ServerFixture) {
    let root = fixture.enable_root_user("r00t").await;
    let mut sessions = [fixture.log_in(&root, "r00t", "app").await, fixture.log_in(&root, "r00t", "app").await];
    let mut app = fixture.app_session().await;
    fixture.disable_root_user().await;
    for session in &mut sessions {
        assert_session_ended(session, "root was disabled").await;
    }
    app.get("a").await.expect("the session of a user ended");
}

async fn enabling_root_again_replaces_its_password(fixture: &ServerFixture) {
    let root = fixture.enable_root_user("first").await;
    assert_eq!(fixture.enable_root_user("second").await, root);
    assert!(fixture.can_log_in(&root, "second", "app").await);
    assert!(!fixture.can_log_in(&root, "first", "app").await, "the old password of root is still accepted");
    fixture.disable_root_user().await;
    fixture.enable_root_user("third").await;
    assert!(fixture.root_user_enabled().await);
    assert!(fixture.can_log_in(&root, "third", "app").await, "root cannot log in after it was enabled again");
    assert!(!fixture.can_log_in(&root, "second", "app").await, "the old password of root is still accepted");
    fixture.disable_root_user().await;
}

async fn disabling_a_disabled_root_is_ok(fixture: &ServerFixture) {
    fixture.enable_root_user("r00t").await;
    for _ in 0..3 {
        fixture.disable_root_user().await;
        assert!(!fixture.root_user_enabled().await);
    }
}

async fn root_is_not_listed_as_a_user(fixture: &ServerFixture) {
    let before = fixture.users().await;
    let root = fixture.enable_root_user("r00t").await;
    let (user, accounts) = ((&root).into(), fixture.accounts());
    assert_eq!(fixture.users().await, before, "root is listed: {root}");
    assert!(!user_names(&before).contains(&root.as_str()));
    assert_eq!(error_kind(accounts.user(&fixture.cx(), &user).await), Kind::NotFound);
    assert_eq!(error_kind(accounts.set_password(&fixture.cx(), &user, &secret("other")).await), Kind::NotFound);
    assert_eq!(
        error_kind(accounts.rename_user(&fixture.cx(), &user, &fixture.unique_name("mine").into()).await),
        Kind::NotFound
    );
    // The call may succeed or fail, but has no effect.
    let _ = accounts.drop_user(&fixture.cx(), &user).await;
    assert!(fixture.can_log_in(&root, "r00t", "app").await, "root was dropped as a user");
    fixture.disable_root_user().await;
    assert_eq!(fixture.users().await, before);
}

async fn objects_of_root_outlive_its_disabling(fixture: &ServerFixture) {
    let (root, text) = (fixture.enable_root_user("r00t").await, fixture.unique_name("root"));
    let mut app = fixture.app_session().await;
    app.put(&text, "of the user").await.unwrap();
    fixture.log_in(&root, "r00t", "app").await.put(&text, "of root").await.expect("root cannot change a row of a user");
    fixture.disable_root_user().await;
    assert_eq!(app.get(&text).await.unwrap().as_deref(), Some("of root"));
}

async fn the_state_of_root_is_visible_to_every_process(fixture: &ServerFixture) {
    let other = fixture.reattach();
    let other = other.abilities().accounts.expect("the ability is present");
    let root = fixture.enable_root_user("r00t").await;
    assert!(other.root_enabled(&fixture.cx()).await.unwrap());
    other.disable_root(&fixture.cx()).await.unwrap();
    assert!(!fixture.root_user_enabled().await, "root, which another process disabled, is enabled");
    let password = secret("again");
    assert_eq!(other.enable_root(&fixture.cx(), &password).await.unwrap(), root);
    assert!(fixture.root_user_enabled().await, "root, which another process enabled, is disabled");
    assert!(fixture.can_log_in(&root, password.expose_secret(), "app").await);
    fixture.disable_root_user().await;
}

async fn root_can_use_all_databases_including_later_ones(fixture: &ServerFixture) {
    let before = fixture.create_tenant("before").await;
    let root = fixture.enable_root_user("r00t").await;
    let later = fixture.create_tenant("later").await;
    for name in [&before, &later] {
        fixture.log_in(name, PASSWORD, name).await.put("users", "yes").await.unwrap();
    }
    for database in [&before, &later] {
        let mut session = fixture.log_in(&root, "r00t", database).await;
        session.put("roots", "yes").await.unwrap_or_else(|error| panic!("root in {database}: {error:?}"));
    }
    let read = fixture.log_in(&later, PASSWORD, &later).await.get("roots").await.unwrap();
    assert_eq!(read.as_deref(), Some("yes"), "a user cannot read a row of root");
    fixture.disable_root_user().await;
    fixture.drop_all(&[&before, &later]).await;
}

async fn root_is_independent_of_databases_and_users(fixture: &ServerFixture) {
    let name = fixture.create_tenant("dropped").await;
    let root = fixture.enable_root_user("r00t").await;
    fixture.log_in(&name, PASSWORD, &name).await.put("users", "yes").await.unwrap();
    fixture.log_in(&root, "r00t", &name).await.put("roots", "yes").await.unwrap();
    fixture.drop_all(&[&name]).await;
    assert!(fixture.root_user_enabled().await);
    assert!(fixture.can_log_in(&root, "r00t", "app").await);
    assert!(!fixture.can_log_in(&root, "r00t", &name).await, "root can log in to a dropped database");
    fixture.disable_root_user().await;
}

async fn root_cannot_write_into_system_databases(fixture: &ServerFixture) {
    let system_databases = fixture.account_rules().map(|rules| rules.reserved_databases).unwrap_or_default();
    let root = fixture.enable_root_user("r00t").await;
    for database in system_databases {
        // Some engines let root read system databases.
        let login = ClientLogin::new(&root, "r00t").database(&database);
        if let Ok(mut session) = fixture.testbed().connect(&fixture.host, &login).await {
            assert!(session.put("a", "b").await.is_err(), "root can write into {database}");
        }
    }
    fixture.disable_root_user().await;
    assert!(!fixture.root_user_enabled().await);
}
