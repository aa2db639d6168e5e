use super::tenant::{PASSWORD, accounts, databases, ended, names, secret};
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
        accounts(
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
        databases(
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
    /// Lets root in with this password, or leaves the case where the engine has no root.
    pub(super) async fn make_root(&self, password: &str) -> String {
        match self.accounts().enable_root(&self.cx(), &secret(password)).await {
            Ok(name) => name,
            Err(error) if error.kind() == Kind::Unsupported => skip("the engine has no root for tenants"),
            Err(error) => panic!("enable_root: {error:?}"),
        }
    }

    pub(super) async fn end_root(&self) {
        self.accounts().disable_root(&self.cx()).await.unwrap();
    }

    pub(super) async fn has_root(&self) -> bool {
        self.accounts().root_enabled(&self.cx()).await.unwrap()
    }
}

async fn root_can_log_in_only_while_enabled(fixture: &ServerFixture) {
    assert!(!fixture.has_root().await, "root is enabled from the beginning");
    let root = fixture.make_root("r00t").await;
    assert!(fixture.has_root().await);
    assert!(fixture.can_log_in(&root, "r00t", "app").await);
    assert!(!fixture.can_log_in(&root, "wrong", "app").await, "a wrong password lets root in");
    assert!(!fixture.can_log_in(&root, "", "app").await, "no password lets root in");
    fixture.end_root().await;
    assert!(!fixture.has_root().await);
    assert!(!fixture.can_log_in(&root, "r00t", "app").await, "a disabled root logs in");
    assert!(!fixture.can_log_in(&root, "", "app").await, "a disabled root logs in without a password");
}

async fn disabling_root_ends_its_sessions(fixture: &ServerFixture) {
    let root = fixture.make_root("r00t").await;
    let mut sessions = [fixture.log_in(&root, "r00t", "app").await, fixture.log_in(&root, "r00t", "app").await];
    let mut app = fixture.app_session().await;
    fixture.end_root().await;
    for session in &mut sessions {
        ended(session, "root was disabled").await;
    }
    app.get("a").await.expect("the session of a user ended");
}

async fn enabling_root_again_replaces_its_password(fixture: &ServerFixture) {
    let root = fixture.make_root("first").await;
    assert_eq!(fixture.make_root("second").await, root);
    assert!(fixture.can_log_in(&root, "second", "app").await);
    assert!(!fixture.can_log_in(&root, "first", "app").await, "root's old password lets in");
    fixture.end_root().await;
    fixture.make_root("third").await;
    assert!(fixture.has_root().await);
    assert!(fixture.can_log_in(&root, "third", "app").await, "a root that was disabled cannot be enabled again");
    assert!(!fixture.can_log_in(&root, "second", "app").await, "root's old password lets in");
    fixture.end_root().await;
}

async fn disabling_a_disabled_root_is_ok(fixture: &ServerFixture) {
    fixture.make_root("r00t").await;
    for _ in 0..3 {
        fixture.end_root().await;
        assert!(!fixture.has_root().await);
    }
}

async fn root_is_not_listed_as_a_user(fixture: &ServerFixture) {
    let before = fixture.users().await;
    let root = fixture.make_root("r00t").await;
    let (user, accounts) = ((&root).into(), fixture.accounts());
    assert_eq!(fixture.users().await, before, "root is listed: {root}");
    assert!(!names(&before).contains(&root.as_str()));
    assert_eq!(error_kind(accounts.user(&fixture.cx(), &user).await), Kind::NotFound);
    assert_eq!(error_kind(accounts.set_password(&fixture.cx(), &user, &secret("other")).await), Kind::NotFound);
    assert_eq!(
        error_kind(accounts.rename_user(&fixture.cx(), &user, &fixture.unique_name("mine").into()).await),
        Kind::NotFound
    );
    // Whether it is refused or finds nothing to drop, nothing comes of it.
    let _ = accounts.drop_user(&fixture.cx(), &user).await;
    assert!(fixture.can_log_in(&root, "r00t", "app").await, "root was dropped as a user");
    fixture.end_root().await;
    assert_eq!(fixture.users().await, before);
}

async fn objects_of_root_outlive_its_disabling(fixture: &ServerFixture) {
    let (root, text) = (fixture.make_root("r00t").await, fixture.unique_name("root"));
    let mut app = fixture.app_session().await;
    app.put(&text, "the user's").await.unwrap();
    fixture.log_in(&root, "r00t", "app").await.put(&text, "root's").await.expect("root cannot change what users make");
    fixture.end_root().await;
    assert_eq!(app.get(&text).await.unwrap().as_deref(), Some("root's"));
}

async fn the_state_of_root_is_visible_to_every_process(fixture: &ServerFixture) {
    let other = fixture.reattach();
    let other = other.abilities().accounts.expect("the ability was shown");
    let root = fixture.make_root("r00t").await;
    assert!(other.root_enabled(&fixture.cx()).await.unwrap());
    other.disable_root(&fixture.cx()).await.unwrap();
    assert!(!fixture.has_root().await, "another process disabled root");
    let password = secret("again");
    assert_eq!(other.enable_root(&fixture.cx(), &password).await.unwrap(), root);
    assert!(fixture.has_root().await, "another process enabled root");
    assert!(fixture.can_log_in(&root, password.expose_secret(), "app").await);
    fixture.end_root().await;
}

async fn root_can_use_all_databases_including_later_ones(fixture: &ServerFixture) {
    let before = fixture.create_tenant("before").await;
    let root = fixture.make_root("r00t").await;
    let later = fixture.create_tenant("later").await;
    for name in [&before, &later] {
        fixture.log_in(name, PASSWORD, name).await.put("users", "yes").await.unwrap();
    }
    for database in [&before, &later] {
        let mut session = fixture.log_in(&root, "r00t", database).await;
        session.put("roots", "yes").await.unwrap_or_else(|error| panic!("root in {database}: {error:?}"));
    }
    let read = fixture.log_in(&later, PASSWORD, &later).await.get("roots").await.unwrap();
    assert_eq!(read.as_deref(), Some("yes"), "what root makes its users cannot use");
    fixture.end_root().await;
    fixture.drop_all(&[&before, &later]).await;
}

async fn root_is_independent_of_databases_and_users(fixture: &ServerFixture) {
    let name = fixture.create_tenant("gone").await;
    let root = fixture.make_root("r00t").await;
    fixture.log_in(&name, PASSWORD, &name).await.put("users", "yes").await.unwrap();
    fixture.log_in(&root, "r00t", &name).await.put("roots", "yes").await.unwrap();
    fixture.drop_all(&[&name]).await;
    assert!(fixture.has_root().await);
    assert!(fixture.can_log_in(&root, "r00t", "app").await);
    assert!(!fixture.can_log_in(&root, "r00t", &name).await, "a dropped database can be used");
    fixture.end_root().await;
}

async fn root_cannot_write_into_system_databases(fixture: &ServerFixture) {
    let own = fixture.account_rules().map(|rules| rules.reserved_databases).unwrap_or_default();
    let root = fixture.make_root("r00t").await;
    for database in own {
        // Some engines let root in there, to look.
        let login = ClientLogin::new(&root, "r00t").database(&database);
        if let Ok(mut session) = fixture.testbed().connect(&fixture.host, &login).await {
            assert!(session.put("a", "b").await.is_err(), "root writes into {database}");
        }
    }
    fixture.end_root().await;
    assert!(!fixture.has_root().await);
}
