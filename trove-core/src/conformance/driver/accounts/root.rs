use super::tenant::{PASSWORD, accounts, databases, ended, names, secret};
use crate::{
    conformance::{
        case::{cases, skip},
        driver::{Login, Trial, suite::Group, trial::refused},
    },
    error::Kind,
    secret::ExposeSecret,
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        accounts(
            "accounts::root",
            cases![
                root_logs_in_only_while_it_is_enabled,
                a_disabled_root_has_no_session_left,
                root_enabled_again_has_the_new_password_only,
                disabling_a_root_that_is_not_enabled_is_ok,
                root_is_no_user_of_the_tenants,
                what_root_makes_stays,
                roots_state_is_what_every_process_sees,
            ],
        ),
        databases(
            "accounts::root",
            cases![
                root_uses_all_databases_those_made_later_too,
                root_drops_with_no_database_or_user,
                root_writes_nothing_into_the_engines_own_databases
            ],
        ),
    ]
}

impl Trial {
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

async fn root_logs_in_only_while_it_is_enabled(trial: &Trial) {
    assert!(!trial.has_root().await, "root is enabled from the beginning");
    let root = trial.make_root("r00t").await;
    assert!(trial.has_root().await);
    assert!(trial.lets_in(&root, "r00t", "app").await);
    assert!(!trial.lets_in(&root, "wrong", "app").await, "a wrong password lets root in");
    assert!(!trial.lets_in(&root, "", "app").await, "no password lets root in");
    trial.end_root().await;
    assert!(!trial.has_root().await);
    assert!(!trial.lets_in(&root, "r00t", "app").await, "a disabled root logs in");
    assert!(!trial.lets_in(&root, "", "app").await, "a disabled root logs in without a password");
}

async fn a_disabled_root_has_no_session_left(trial: &Trial) {
    let root = trial.make_root("r00t").await;
    let mut sessions = [trial.enter(&root, "r00t", "app").await, trial.enter(&root, "r00t", "app").await];
    let mut app = trial.app().await;
    trial.end_root().await;
    for session in &mut sessions {
        ended(session, "root was disabled").await;
    }
    app.get("a").await.expect("the session of a user ended");
}

async fn root_enabled_again_has_the_new_password_only(trial: &Trial) {
    let root = trial.make_root("first").await;
    assert_eq!(trial.make_root("second").await, root);
    assert!(trial.lets_in(&root, "second", "app").await);
    assert!(!trial.lets_in(&root, "first", "app").await, "root's old password lets in");
    trial.end_root().await;
    trial.make_root("third").await;
    assert!(trial.has_root().await);
    assert!(trial.lets_in(&root, "third", "app").await, "a root that was disabled cannot be enabled again");
    assert!(!trial.lets_in(&root, "second", "app").await, "root's old password lets in");
    trial.end_root().await;
}

async fn disabling_a_root_that_is_not_enabled_is_ok(trial: &Trial) {
    trial.make_root("r00t").await;
    for _ in 0..3 {
        trial.end_root().await;
        assert!(!trial.has_root().await);
    }
}

async fn root_is_no_user_of_the_tenants(trial: &Trial) {
    let before = trial.users().await;
    let root = trial.make_root("r00t").await;
    let (user, accounts) = ((&root).into(), trial.accounts());
    assert_eq!(trial.users().await, before, "root is listed: {root}");
    assert!(!names(&before).contains(&root.as_str()));
    assert_eq!(refused(accounts.user(&trial.cx(), &user).await), Kind::NotFound);
    assert_eq!(refused(accounts.set_password(&trial.cx(), &user, &secret("other")).await), Kind::NotFound);
    assert_eq!(refused(accounts.rename_user(&trial.cx(), &user, &trial.name("mine").into()).await), Kind::NotFound);
    // Whether it is refused or finds nothing to drop, nothing comes of it.
    let _ = accounts.drop_user(&trial.cx(), &user).await;
    assert!(trial.lets_in(&root, "r00t", "app").await, "root was dropped as a user");
    trial.end_root().await;
    assert_eq!(trial.users().await, before);
}

async fn what_root_makes_stays(trial: &Trial) {
    let (root, text) = (trial.make_root("r00t").await, trial.name("root"));
    let mut app = trial.app().await;
    app.put(&text, "the user's").await.unwrap();
    trial.enter(&root, "r00t", "app").await.put(&text, "root's").await.expect("root cannot change what users make");
    trial.end_root().await;
    assert_eq!(app.get(&text).await.unwrap().as_deref(), Some("root's"));
}

async fn roots_state_is_what_every_process_sees(trial: &Trial) {
    let other = trial.reattached();
    let other = other.abilities().accounts.expect("the ability was shown");
    let root = trial.make_root("r00t").await;
    assert!(other.root_enabled(&trial.cx()).await.unwrap());
    other.disable_root(&trial.cx()).await.unwrap();
    assert!(!trial.has_root().await, "another process disabled root");
    let password = secret("again");
    assert_eq!(other.enable_root(&trial.cx(), &password).await.unwrap(), root);
    assert!(trial.has_root().await, "another process enabled root");
    assert!(trial.lets_in(&root, password.expose_secret(), "app").await);
    trial.end_root().await;
}

async fn root_uses_all_databases_those_made_later_too(trial: &Trial) {
    let before = trial.make_tenant("before").await;
    let root = trial.make_root("r00t").await;
    let later = trial.make_tenant("later").await;
    for name in [&before, &later] {
        trial.enter(name, PASSWORD, name).await.put("users", "yes").await.unwrap();
    }
    for database in [&before, &later] {
        let mut session = trial.enter(&root, "r00t", database).await;
        session.put("roots", "yes").await.unwrap_or_else(|error| panic!("root in {database}: {error:?}"));
    }
    let read = trial.enter(&later, PASSWORD, &later).await.get("roots").await.unwrap();
    assert_eq!(read.as_deref(), Some("yes"), "what root makes its users cannot use");
    trial.end_root().await;
    trial.forget(&[&before, &later]).await;
}

async fn root_drops_with_no_database_or_user(trial: &Trial) {
    let name = trial.make_tenant("gone").await;
    let root = trial.make_root("r00t").await;
    trial.enter(&name, PASSWORD, &name).await.put("users", "yes").await.unwrap();
    trial.enter(&root, "r00t", &name).await.put("roots", "yes").await.unwrap();
    trial.forget(&[&name]).await;
    assert!(trial.has_root().await);
    assert!(trial.lets_in(&root, "r00t", "app").await);
    assert!(!trial.lets_in(&root, "r00t", &name).await, "a dropped database can be used");
    trial.end_root().await;
}

async fn root_writes_nothing_into_the_engines_own_databases(trial: &Trial) {
    let own = trial.rules().map(|rules| rules.reserved_databases).unwrap_or_default();
    let root = trial.make_root("r00t").await;
    for database in own {
        // Some engines let root in there, to look.
        let login = Login::new(&root, "r00t").database(&database);
        if let Ok(mut session) = trial.testbed().connect(&trial.host, &login).await {
            assert!(session.put("a", "b").await.is_err(), "root writes into {database}");
        }
    }
    trial.end_root().await;
    assert!(!trial.has_root().await);
}
