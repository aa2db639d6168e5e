use super::fixture::{PASSWORD, accounts_group, assert_session_ended, secret, user_names};
use crate::{
    conformance::{
        case::cases,
        driver::{ServerFixture, fixture::error_kind, group::Group},
    },
    error::Kind,
    model::{NewUser, User},
};

pub(super) fn groups() -> Vec<Group> {
    vec![accounts_group(
        "accounts::users",
        cases![
            creating_an_existing_user_is_a_conflict,
            creating_users_is_atomic,
            creating_a_user_twice_in_one_call_is_a_conflict,
            creating_no_users_is_ok,
            an_absent_user_is_not_found,
            dropping_an_absent_user_is_ok,
            dropping_a_user_ends_its_sessions,
            dropping_a_user_leaves_others_alone,
            a_recreated_user_inherits_nothing,
            objects_of_a_user_outlive_it,
            a_renamed_user_keeps_its_password_and_privileges,
            dropping_a_renamed_user_ends_its_sessions,
            renaming_to_a_taken_name_is_a_conflict,
            renaming_an_absent_user_is_not_found,
            renaming_to_the_same_name_changes_nothing,
            two_users_can_swap_names,
            system_users_are_hidden_and_protected,
        ],
    )]
}

async fn creating_an_existing_user_is_a_conflict(fixture: &ServerFixture) {
    let name = fixture.create_tenant("twice").await;
    let before = fixture.users().await;
    let again = [NewUser::new(&name, "other")];
    assert_eq!(error_kind(fixture.accounts().create_users(&fixture.cx(), &again).await), Kind::Conflict);
    assert_eq!(fixture.users().await, before);
    assert!(fixture.can_log_in(&name, PASSWORD, &name).await, "the password of the existing user was changed");
    assert!(!fixture.can_log_in(&name, "other", &name).await, "the password of the existing user was changed");
    fixture.drop_all(&[&name]).await;
}

async fn creating_users_is_atomic(fixture: &ServerFixture) {
    let (taken, first, last) =
        (fixture.create_tenant("taken").await, fixture.unique_name("first"), fixture.unique_name("last"));
    let before = fixture.users().await;
    let users = [&first, &taken, &last].map(|name| NewUser::new(name, "x"));
    assert_eq!(error_kind(fixture.accounts().create_users(&fixture.cx(), &users).await), Kind::Conflict);
    assert_eq!(fixture.users().await, before, "some users were created");
    // The failed call left nothing that prevents the creation of the others.
    fixture.accounts().create_users(&fixture.cx(), &[users[0].clone(), users[2].clone()]).await.unwrap();
    fixture.drop_all(&[&taken, &first, &last]).await;
}

async fn creating_a_user_twice_in_one_call_is_a_conflict(fixture: &ServerFixture) {
    let before = fixture.users().await;
    let users = ["one", "two"].map(|password| NewUser::new(fixture.unique_name("both"), password));
    assert_eq!(error_kind(fixture.accounts().create_users(&fixture.cx(), &users).await), Kind::Conflict);
    assert_eq!(fixture.users().await, before);
}

async fn creating_no_users_is_ok(fixture: &ServerFixture) {
    let before = fixture.users().await;
    fixture.accounts().create_users(&fixture.cx(), &[]).await.unwrap();
    assert_eq!(fixture.users().await, before);
}

async fn an_absent_user_is_not_found(fixture: &ServerFixture) {
    let (absent, accounts) = (fixture.unique_name("absent").into(), fixture.accounts());
    assert_eq!(error_kind(accounts.user(&fixture.cx(), &absent).await), Kind::NotFound);
    assert_eq!(error_kind(accounts.set_password(&fixture.cx(), &absent, &secret("x")).await), Kind::NotFound);
    if fixture.has_databases() {
        let app = ["app".to_owned()];
        assert_eq!(error_kind(accounts.grant(&fixture.cx(), &absent, &app).await), Kind::NotFound);
        assert_eq!(error_kind(accounts.revoke(&fixture.cx(), &absent, "app").await), Kind::NotFound);
    }
    assert_eq!(
        error_kind(accounts.user(&fixture.cx(), &absent).await),
        Kind::NotFound,
        "a failed call created the user"
    );
}

async fn dropping_an_absent_user_is_ok(fixture: &ServerFixture) {
    let before = fixture.users().await;
    for _ in 0..2 {
        fixture.accounts().drop_user(&fixture.cx(), &fixture.unique_name("absent").into()).await.unwrap();
    }
    assert_eq!(fixture.users().await, before);
}

async fn dropping_a_user_ends_its_sessions(fixture: &ServerFixture) {
    let before = fixture.users().await;
    let name = fixture.create_tenant("dropped").await;
    let mut sessions = [fixture.log_in(&name, PASSWORD, &name).await, fixture.log_in(&name, PASSWORD, &name).await];
    for _ in 0..2 {
        fixture.accounts().drop_user(&fixture.cx(), &(&name).into()).await.unwrap();
    }
    for session in &mut sessions {
        assert_session_ended(session, "its user was dropped").await;
    }
    assert!(!fixture.can_log_in(&name, PASSWORD, &name).await, "the dropped user can log in");
    assert_eq!(error_kind(fixture.accounts().user(&fixture.cx(), &(&name).into()).await), Kind::NotFound);
    assert_eq!(fixture.users().await, before);
    fixture.drop_all(&[&name]).await;
}

async fn dropping_a_user_leaves_others_alone(fixture: &ServerFixture) {
    let name = fixture.create_tenant("one").await;
    let other = fixture.create_named_tenant(format!("{name}_")).await;
    let mut session = fixture.log_in(&other, PASSWORD, &other).await;
    session.put("kept", "yes").await.unwrap();
    fixture.accounts().drop_user(&fixture.cx(), &(&name).into()).await.unwrap();
    assert_eq!(session.get("kept").await.expect("the session of another user ended"), Some("yes".to_owned()));
    assert!(fixture.can_log_in(&other, PASSWORD, &other).await);
    fixture.app_session().await;
    fixture.drop_all(&[&name, &other]).await;
}

async fn a_recreated_user_inherits_nothing(fixture: &ServerFixture) {
    let name = fixture.create_tenant("again").await;
    fixture.accounts().drop_user(&fixture.cx(), &(&name).into()).await.unwrap();
    fixture.accounts().create_users(&fixture.cx(), &[NewUser::new(&name, "new")]).await.unwrap();
    assert!(!fixture.can_log_in(&name, PASSWORD, &name).await, "the new user has the password of the dropped one");
    assert_eq!(fixture.granted_databases(&name).await, [""; 0]);
    if fixture.has_databases() {
        assert!(!fixture.can_log_in(&name, "new", &name).await, "the new user has a privilege of the dropped one");
    }
    fixture.drop_all(&[&name]).await;
}

async fn objects_of_a_user_outlive_it(fixture: &ServerFixture) {
    let name = fixture.create_tenant("maker").await;
    let heir = fixture.unique_name("heir");
    fixture.accounts().create_users(&fixture.cx(), &[fixture.new_user(&heir, "x", &name)]).await.unwrap();
    let text = fixture.unique_name("made");
    fixture.log_in(&name, PASSWORD, &name).await.put(&text, "created").await.unwrap();
    let mut session = fixture.log_in(&heir, "x", &name).await;
    session.put(&text, "changed").await.expect("a user cannot change a row of another user");
    fixture.accounts().drop_user(&fixture.cx(), &(&name).into()).await.unwrap();
    let read = session.get(&text).await.expect("the session of another user ended");
    assert_eq!(read.as_deref(), Some("changed"));
    session.put(&text, "changed again").await.unwrap();
    fixture.drop_all(&[&name, &heir]).await;
}

async fn a_renamed_user_keeps_its_password_and_privileges(fixture: &ServerFixture) {
    let (name, other) = (fixture.create_tenant("former").await, fixture.unique_name("renamed"));
    fixture.log_in(&name, PASSWORD, &name).await.put("mine", "yes").await.unwrap();
    let databases = fixture.granted_databases(&name).await;
    fixture.accounts().rename_user(&fixture.cx(), &(&name).into(), &(&other).into()).await.unwrap();
    let listed = fixture.users().await;
    assert!(!user_names(&listed).contains(&name.as_str()), "{listed:?}");
    assert!(listed.contains(&User::new(&other, databases)), "{listed:?}");
    assert!(!fixture.can_log_in(&name, PASSWORD, &name).await, "the former name can still log in");
    let mut session = fixture.log_in(&other, PASSWORD, &name).await;
    assert_eq!(session.get("mine").await.unwrap().as_deref(), Some("yes"));
    session.put("mine", "still").await.unwrap();
    fixture.drop_all(&[&name, &other]).await;
}

async fn dropping_a_renamed_user_ends_its_sessions(fixture: &ServerFixture) {
    let (name, other) = (fixture.create_tenant("older").await, fixture.unique_name("newer"));
    let mut session = fixture.log_in(&name, PASSWORD, &name).await;
    fixture.accounts().rename_user(&fixture.cx(), &(&name).into(), &(&other).into()).await.unwrap();
    fixture.accounts().drop_user(&fixture.cx(), &(&other).into()).await.unwrap();
    assert_session_ended(&mut session, "its user was renamed and dropped").await;
    fixture.drop_all(&[&name]).await;
}

async fn renaming_to_a_taken_name_is_a_conflict(fixture: &ServerFixture) {
    let (name, taken) = (fixture.create_tenant("wants").await, fixture.create_tenant("taken").await);
    let before = fixture.users().await;
    let renamed = fixture.accounts().rename_user(&fixture.cx(), &(&name).into(), &(&taken).into()).await;
    assert_eq!(error_kind(renamed), Kind::Conflict);
    assert_eq!(fixture.users().await, before);
    for user in [&name, &taken] {
        assert!(fixture.can_log_in(user, PASSWORD, user).await, "{user} can no longer log in");
    }
    fixture.drop_all(&[&name, &taken]).await;
}

async fn renaming_an_absent_user_is_not_found(fixture: &ServerFixture) {
    let before = fixture.users().await;
    let (absent, free) = (fixture.unique_name("absent").into(), fixture.unique_name("free").into());
    assert_eq!(error_kind(fixture.accounts().rename_user(&fixture.cx(), &absent, &free).await), Kind::NotFound);
    assert_eq!(fixture.users().await, before);
}

async fn renaming_to_the_same_name_changes_nothing(fixture: &ServerFixture) {
    let name = fixture.create_tenant("same").await;
    let before = fixture.users().await;
    fixture.accounts().rename_user(&fixture.cx(), &(&name).into(), &(&name).into()).await.unwrap();
    assert_eq!(fixture.users().await, before);
    assert!(fixture.can_log_in(&name, PASSWORD, &name).await);
    fixture.drop_all(&[&name]).await;
}

async fn two_users_can_swap_names(fixture: &ServerFixture) {
    let (one, two, between) =
        (fixture.create_tenant("this").await, fixture.create_tenant("that").await, fixture.unique_name("swap"));
    for (from, to) in [(&one, &between), (&two, &one), (&between, &two)] {
        fixture.accounts().rename_user(&fixture.cx(), &from.into(), &to.into()).await.unwrap();
    }
    for (user, database, other) in [(&one, &two, &one), (&two, &one, &two)] {
        assert!(fixture.can_log_in(user, PASSWORD, database).await, "{user} lost its privilege");
        if fixture.has_databases() {
            assert!(!fixture.can_log_in(user, PASSWORD, other).await, "{user} has the privilege of the other user");
        }
    }
    fixture.drop_all(&[&one, &two]).await;
}

async fn system_users_are_hidden_and_protected(fixture: &ServerFixture) {
    let rules = fixture.account_rules().expect("the driver has accounts");
    let before = fixture.users().await;
    let prefixed = rules.reserved_prefixes.iter().map(|prefix| format!("{prefix}admin"));
    for name in prefixed.chain(rules.reserved_users) {
        assert!(!user_names(&before).contains(&name.as_str()), "{name} is listed");
        let (user, free) = ((&name).into(), fixture.unique_name("mine").into());
        assert_eq!(error_kind(fixture.accounts().user(&fixture.cx(), &user).await), Kind::NotFound, "{name}");
        let password = secret("mine");
        assert_eq!(
            error_kind(fixture.accounts().set_password(&fixture.cx(), &user, &password).await),
            Kind::NotFound,
            "{name}"
        );
        assert_eq!(
            error_kind(fixture.accounts().rename_user(&fixture.cx(), &user, &free).await),
            Kind::NotFound,
            "{name}"
        );
        if fixture.has_databases() {
            let app = ["app".to_owned()];
            assert_eq!(
                error_kind(fixture.accounts().grant(&fixture.cx(), &user, &app).await),
                Kind::NotFound,
                "{name}"
            );
        }
        // The call may succeed or fail, but has no effect.
        let _ = fixture.accounts().drop_user(&fixture.cx(), &user).await;
        assert!(!fixture.can_log_in(&name, "mine", "app").await, "the password of {name} was changed");
    }
    assert_eq!(fixture.users().await, before);
    fixture.accounts().root_enabled(&fixture.cx()).await.expect("the service has lost its access");
    fixture.app_session().await;
}
