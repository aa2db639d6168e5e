use super::tenant::{PASSWORD, accounts, ended, names, secret};
use crate::{
    conformance::{
        case::cases,
        driver::{Trial, suite::Group, trial::refused},
    },
    error::Kind,
    model::{NewUser, User},
};

pub(super) fn groups() -> Vec<Group> {
    vec![accounts(
        "accounts::users",
        cases![
            a_user_that_exists_is_a_conflict,
            users_are_created_all_or_none,
            a_user_twice_in_one_call_is_a_conflict,
            no_users_are_created_by_an_empty_call,
            an_absent_user_is_not_found,
            dropping_an_absent_user_is_ok,
            a_dropped_user_is_gone_with_its_sessions,
            dropping_a_user_leaves_the_others_alone,
            a_user_created_again_has_nothing_of_the_former,
            what_a_user_makes_outlives_it,
            a_renamed_user_keeps_all_but_its_name,
            a_renamed_user_is_dropped_with_its_sessions,
            renaming_to_a_taken_name_is_a_conflict,
            renaming_an_absent_user_is_not_found,
            renaming_to_the_same_name_changes_nothing,
            two_users_swap_their_names,
            the_engines_own_users_are_nobodys,
        ],
    )]
}

async fn a_user_that_exists_is_a_conflict(trial: &Trial) {
    let name = trial.make_tenant("twice").await;
    let before = trial.users().await;
    let again = [NewUser::new(&name, "other")];
    assert_eq!(refused(trial.accounts().create_users(&trial.cx(), &again).await), Kind::Conflict);
    assert_eq!(trial.users().await, before);
    assert!(trial.lets_in(&name, PASSWORD, &name).await, "its password was changed");
    assert!(!trial.lets_in(&name, "other", &name).await, "its password was changed");
    trial.forget(&[&name]).await;
}

async fn users_are_created_all_or_none(trial: &Trial) {
    let (taken, first, last) = (trial.make_tenant("taken").await, trial.name("first"), trial.name("last"));
    let before = trial.users().await;
    let users = [&first, &taken, &last].map(|name| NewUser::new(name, "x"));
    assert_eq!(refused(trial.accounts().create_users(&trial.cx(), &users).await), Kind::Conflict);
    assert_eq!(trial.users().await, before, "some of them were created");
    // What is left of them hinders nobody.
    trial.accounts().create_users(&trial.cx(), &[users[0].clone(), users[2].clone()]).await.unwrap();
    trial.forget(&[&taken, &first, &last]).await;
}

async fn a_user_twice_in_one_call_is_a_conflict(trial: &Trial) {
    let before = trial.users().await;
    let users = ["one", "two"].map(|password| NewUser::new(trial.name("both"), password));
    assert_eq!(refused(trial.accounts().create_users(&trial.cx(), &users).await), Kind::Conflict);
    assert_eq!(trial.users().await, before);
}

async fn no_users_are_created_by_an_empty_call(trial: &Trial) {
    let before = trial.users().await;
    trial.accounts().create_users(&trial.cx(), &[]).await.unwrap();
    assert_eq!(trial.users().await, before);
}

async fn an_absent_user_is_not_found(trial: &Trial) {
    let (absent, accounts) = (trial.name("absent").into(), trial.accounts());
    assert_eq!(refused(accounts.user(&trial.cx(), &absent).await), Kind::NotFound);
    assert_eq!(refused(accounts.set_password(&trial.cx(), &absent, &secret("x")).await), Kind::NotFound);
    if trial.has_databases() {
        let app = ["app".to_owned()];
        assert_eq!(refused(accounts.grant(&trial.cx(), &absent, &app).await), Kind::NotFound);
        assert_eq!(refused(accounts.revoke(&trial.cx(), &absent, "app").await), Kind::NotFound);
    }
    assert_eq!(refused(accounts.user(&trial.cx(), &absent).await), Kind::NotFound, "a call made it");
}

async fn dropping_an_absent_user_is_ok(trial: &Trial) {
    let before = trial.users().await;
    for _ in 0..2 {
        trial.accounts().drop_user(&trial.cx(), &trial.name("absent").into()).await.unwrap();
    }
    assert_eq!(trial.users().await, before);
}

async fn a_dropped_user_is_gone_with_its_sessions(trial: &Trial) {
    let before = trial.users().await;
    let name = trial.make_tenant("dropped").await;
    let mut sessions = [trial.enter(&name, PASSWORD, &name).await, trial.enter(&name, PASSWORD, &name).await];
    for _ in 0..2 {
        trial.accounts().drop_user(&trial.cx(), &(&name).into()).await.unwrap();
    }
    for session in &mut sessions {
        ended(session, "its user was dropped").await;
    }
    assert!(!trial.lets_in(&name, PASSWORD, &name).await, "it can still log in");
    assert_eq!(refused(trial.accounts().user(&trial.cx(), &(&name).into()).await), Kind::NotFound);
    assert_eq!(trial.users().await, before);
    trial.forget(&[&name]).await;
}

async fn dropping_a_user_leaves_the_others_alone(trial: &Trial) {
    let name = trial.make_tenant("one").await;
    let other = trial.make_named_tenant(format!("{name}_")).await;
    let mut session = trial.enter(&other, PASSWORD, &other).await;
    session.put("kept", "yes").await.unwrap();
    trial.accounts().drop_user(&trial.cx(), &(&name).into()).await.unwrap();
    assert_eq!(session.get("kept").await.expect("the session of another ended"), Some("yes".to_owned()));
    assert!(trial.lets_in(&other, PASSWORD, &other).await);
    trial.app().await;
    trial.forget(&[&name, &other]).await;
}

async fn a_user_created_again_has_nothing_of_the_former(trial: &Trial) {
    let name = trial.make_tenant("again").await;
    trial.accounts().drop_user(&trial.cx(), &(&name).into()).await.unwrap();
    trial.accounts().create_users(&trial.cx(), &[NewUser::new(&name, "new")]).await.unwrap();
    assert!(!trial.lets_in(&name, PASSWORD, &name).await, "it has the former's password");
    assert_eq!(trial.rights(&name).await, [""; 0]);
    if trial.has_databases() {
        assert!(!trial.lets_in(&name, "new", &name).await, "it has the former's right");
    }
    trial.forget(&[&name]).await;
}

async fn what_a_user_makes_outlives_it(trial: &Trial) {
    let name = trial.make_tenant("maker").await;
    let heir = trial.name("heir");
    trial.accounts().create_users(&trial.cx(), &[trial.new_user(&heir, "x", &name)]).await.unwrap();
    let text = trial.name("made");
    trial.enter(&name, PASSWORD, &name).await.put(&text, "by the one").await.unwrap();
    let mut session = trial.enter(&heir, "x", &name).await;
    session.put(&text, "changed by the other").await.expect("what one user makes another cannot change");
    trial.accounts().drop_user(&trial.cx(), &(&name).into()).await.unwrap();
    let read = session.get(&text).await.expect("the session of another ended");
    assert_eq!(read.as_deref(), Some("changed by the other"));
    session.put(&text, "the heir's").await.unwrap();
    trial.forget(&[&name, &heir]).await;
}

async fn a_renamed_user_keeps_all_but_its_name(trial: &Trial) {
    let (name, other) = (trial.make_tenant("former").await, trial.name("latter"));
    trial.enter(&name, PASSWORD, &name).await.put("mine", "yes").await.unwrap();
    let rights = trial.rights(&name).await;
    trial.accounts().rename_user(&trial.cx(), &(&name).into(), &(&other).into()).await.unwrap();
    let listed = trial.users().await;
    assert!(!names(&listed).contains(&name.as_str()), "{listed:?}");
    assert!(listed.contains(&User::new(&other, rights)), "{listed:?}");
    assert!(!trial.lets_in(&name, PASSWORD, &name).await, "the former name still logs in");
    let mut session = trial.enter(&other, PASSWORD, &name).await;
    assert_eq!(session.get("mine").await.unwrap().as_deref(), Some("yes"));
    session.put("mine", "still").await.unwrap();
    trial.forget(&[&name, &other]).await;
}

async fn a_renamed_user_is_dropped_with_its_sessions(trial: &Trial) {
    let (name, other) = (trial.make_tenant("older").await, trial.name("newer"));
    let mut session = trial.enter(&name, PASSWORD, &name).await;
    trial.accounts().rename_user(&trial.cx(), &(&name).into(), &(&other).into()).await.unwrap();
    trial.accounts().drop_user(&trial.cx(), &(&other).into()).await.unwrap();
    ended(&mut session, "its user was renamed and dropped").await;
    trial.forget(&[&name]).await;
}

async fn renaming_to_a_taken_name_is_a_conflict(trial: &Trial) {
    let (name, taken) = (trial.make_tenant("wants").await, trial.make_tenant("taken").await);
    let before = trial.users().await;
    let renamed = trial.accounts().rename_user(&trial.cx(), &(&name).into(), &(&taken).into()).await;
    assert_eq!(refused(renamed), Kind::Conflict);
    assert_eq!(trial.users().await, before);
    for user in [&name, &taken] {
        assert!(trial.lets_in(user, PASSWORD, user).await, "{user} cannot log in any more");
    }
    trial.forget(&[&name, &taken]).await;
}

async fn renaming_an_absent_user_is_not_found(trial: &Trial) {
    let before = trial.users().await;
    let (absent, free) = (trial.name("absent").into(), trial.name("free").into());
    assert_eq!(refused(trial.accounts().rename_user(&trial.cx(), &absent, &free).await), Kind::NotFound);
    assert_eq!(trial.users().await, before);
}

async fn renaming_to_the_same_name_changes_nothing(trial: &Trial) {
    let name = trial.make_tenant("same").await;
    let before = trial.users().await;
    trial.accounts().rename_user(&trial.cx(), &(&name).into(), &(&name).into()).await.unwrap();
    assert_eq!(trial.users().await, before);
    assert!(trial.lets_in(&name, PASSWORD, &name).await);
    trial.forget(&[&name]).await;
}

async fn two_users_swap_their_names(trial: &Trial) {
    let (one, two, between) = (trial.make_tenant("this").await, trial.make_tenant("that").await, trial.name("swap"));
    for (from, to) in [(&one, &between), (&two, &one), (&between, &two)] {
        trial.accounts().rename_user(&trial.cx(), &from.into(), &to.into()).await.unwrap();
    }
    for (user, database, other) in [(&one, &two, &one), (&two, &one, &two)] {
        assert!(trial.lets_in(user, PASSWORD, database).await, "{user} lost its right");
        if trial.has_databases() {
            assert!(!trial.lets_in(user, PASSWORD, other).await, "{user} has the other's right");
        }
    }
    trial.forget(&[&one, &two]).await;
}

async fn the_engines_own_users_are_nobodys(trial: &Trial) {
    let rules = trial.rules().expect("there are accounts");
    let before = trial.users().await;
    let own = rules.reserved_prefixes.iter().map(|prefix| format!("{prefix}admin"));
    for own in own.chain(rules.reserved_users) {
        assert!(!names(&before).contains(&own.as_str()), "{own} is listed");
        let (user, free) = ((&own).into(), trial.name("mine").into());
        assert_eq!(refused(trial.accounts().user(&trial.cx(), &user).await), Kind::NotFound, "{own}");
        let password = secret("mine");
        assert_eq!(
            refused(trial.accounts().set_password(&trial.cx(), &user, &password).await),
            Kind::NotFound,
            "{own}"
        );
        assert_eq!(refused(trial.accounts().rename_user(&trial.cx(), &user, &free).await), Kind::NotFound, "{own}");
        if trial.has_databases() {
            let app = ["app".to_owned()];
            assert_eq!(refused(trial.accounts().grant(&trial.cx(), &user, &app).await), Kind::NotFound, "{own}");
        }
        // Whether it is refused or finds nothing to drop, nothing comes of it.
        let _ = trial.accounts().drop_user(&trial.cx(), &user).await;
        assert!(!trial.lets_in(&own, "mine", "app").await, "{own} was given a password");
    }
    assert_eq!(trial.users().await, before);
    trial.accounts().root_enabled(&trial.cx()).await.expect("the service itself was shut out");
    trial.app().await;
}
