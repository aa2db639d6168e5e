use super::fixture::{PASSWORD, accounts_group, secret};
use crate::{
    conformance::{
        case::{cases, skip},
        driver::{ServerFixture, group::Group},
    },
    error::{Error, Kind},
    model::NewUser,
};

pub(super) fn groups() -> Vec<Group> {
    vec![accounts_group(
        "accounts::passwords",
        cases![
            only_the_right_password_is_accepted,
            a_new_password_replaces_the_old,
            a_new_password_ends_no_session,
            setting_the_same_password_again_is_ok,
            a_password_is_accepted_for_its_user_only,
            passwords_may_contain_quotes_and_backslashes,
            passwords_may_contain_sql_statements_and_comments,
            passwords_may_contain_format_specifiers_and_wildcards,
            passwords_may_contain_shell_and_uri_syntax,
            passwords_may_contain_any_unicode,
            passwords_may_contain_spaces,
            passwords_may_look_like_hashes,
            the_longest_password_is_significant_to_its_last_character,
            passwords_are_not_readable_anywhere,
        ],
    )]
}

async fn only_the_right_password_is_accepted(fixture: &ServerFixture) {
    let name = fixture.create_tenant("login").await;
    for wrong in ["", "Secret", "secre", "secret ", "secret\\", "' OR '1'='1", &name] {
        assert!(!fixture.can_log_in(&name, wrong, &name).await, "the wrong password {wrong:?} is accepted");
    }
    assert!(fixture.can_log_in(&name, PASSWORD, &name).await);
    fixture.drop_all(&[&name]).await;
}

async fn a_new_password_replaces_the_old(fixture: &ServerFixture) {
    let name = fixture.create_tenant("changes").await;
    let mut old = PASSWORD;
    for new in ["second", "third", "second"] {
        fixture.accounts().set_password(&fixture.cx(), &(&name).into(), &secret(new)).await.unwrap();
        assert!(fixture.can_log_in(&name, new, &name).await, "the new password is rejected");
        assert!(!fixture.can_log_in(&name, old, &name).await, "the old password is still accepted");
        old = new;
    }
    fixture.drop_all(&[&name]).await;
}

async fn a_new_password_ends_no_session(fixture: &ServerFixture) {
    let name = fixture.create_tenant("stays").await;
    let mut session = fixture.log_in(&name, PASSWORD, &name).await;
    fixture.accounts().set_password(&fixture.cx(), &(&name).into(), &secret("new")).await.unwrap();
    session.put("a", "b").await.expect("the session ended");
    fixture.drop_all(&[&name]).await;
}

async fn setting_the_same_password_again_is_ok(fixture: &ServerFixture) {
    let (name, cx) = (fixture.create_tenant("repeats").await, fixture.cx());
    for _ in 0..2 {
        fixture.accounts().set_password(&cx, &(&name).into(), &secret("new")).await.unwrap();
        assert!(fixture.can_log_in(&name, "new", &name).await);
    }
    fixture.drop_all(&[&name]).await;
}

async fn a_password_is_accepted_for_its_user_only(fixture: &ServerFixture) {
    let (one, two) = (fixture.create_tenant("one").await, fixture.create_tenant("two").await);
    fixture.accounts().set_password(&fixture.cx(), &(&one).into(), &secret("new")).await.unwrap();
    assert!(fixture.can_log_in(&two, PASSWORD, &two).await, "another user's password was changed");
    assert!(!fixture.can_log_in(&two, "new", &two).await, "another user's password was changed");
    fixture.drop_all(&[&one, &two]).await;
}

async fn passwords_may_contain_quotes_and_backslashes(fixture: &ServerFixture) {
    assert_accepted(fixture, &["'", "\"", "o'br\"ie`n", "\\", "end\\", "\\'; --", "\\x41"]).await;
}

async fn passwords_may_contain_sql_statements_and_comments(fixture: &ServerFixture) {
    assert_accepted(fixture, &["'; DROP DATABASE app; --", "\"; DROP USER app; --", "/*!50000 x */", "x -- y", "#"])
        .await;
}

async fn passwords_may_contain_format_specifiers_and_wildcards(fixture: &ServerFixture) {
    assert_accepted(fixture, &["%s%n%I%L", "{0}", "%", "_", "$1", "$tag$x$tag$", "?"]).await;
}

async fn passwords_may_contain_shell_and_uri_syntax(fixture: &ServerFixture) {
    assert_accepted(fixture, &["$(id)", "${HOME}", ">out", "a&b=c", "u:p@host/db", "%41%00", "null"]).await;
}

async fn passwords_may_contain_any_unicode(fixture: &ServerFixture) {
    assert_accepted(fixture, &["grüße", "密码データ", "e\u{301}", "🐘🔥", "ﬁ", "x\u{200b}y", "\u{202e}x"]).await;
}

async fn passwords_may_contain_spaces(fixture: &ServerFixture) {
    assert_accepted(fixture, &["a b", " a", "a\u{a0}b", "a ", " "]).await;
}

async fn passwords_may_look_like_hashes(fixture: &ServerFixture) {
    let md5 = "md5d41d8cd98f00b204e9800998ecf8427e";
    let native = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";
    let scram = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy";
    assert_accepted(fixture, &[md5, native, scram, "0x414243", "$A$005$x"]).await;
}

async fn the_longest_password_is_significant_to_its_last_character(fixture: &ServerFixture) {
    let (name, rules) =
        (fixture.create_tenant("long").await, fixture.account_rules().expect("the driver has accounts"));
    for letter in ["x", "é", "🐘"] {
        let max = rules.max_password_bytes;
        let longest = letter.repeat(max / letter.len()) + &"y".repeat(max % letter.len());
        let mut shorter = longest.clone();
        shorter.pop();
        fixture.accounts().set_password(&fixture.cx(), &(&name).into(), &secret(&longest)).await.unwrap();
        assert!(fixture.can_log_in(&name, &longest, &name).await, "a password of {max} bytes of {letter} is rejected");
        assert!(!fixture.can_log_in(&name, &shorter, &name).await, "a prefix of the password of {letter} is accepted");
    }
    fixture.drop_all(&[&name]).await;
}

async fn passwords_are_not_readable_anywhere(fixture: &ServerFixture) {
    let (name, absent, root) =
        (fixture.create_tenant("quiet").await, fixture.unique_name("absent").into(), secret("correct-horse-2"));
    let (accounts, password) = (fixture.accounts(), secret("correct-horse-1"));
    let mut errors: Vec<Error> = Vec::new();
    accounts.set_password(&fixture.cx(), &(&name).into(), &password).await.unwrap();
    errors.extend(accounts.set_password(&fixture.cx(), &absent, &password).await.err());
    let users = [NewUser::new(&absent, "correct-horse-3"), NewUser::new(&name, "correct-horse-4")];
    errors.extend(accounts.create_users(&fixture.cx(), &users).await.err());
    match accounts.enable_root(&fixture.cx(), &root).await {
        Ok(_) => accounts.disable_root(&fixture.cx()).await.unwrap(),
        Err(error) => assert_eq!(error.kind(), Kind::Unsupported, "{error:?}"),
    }
    assert!(!fixture.can_log_in(&name, "correct-horse-5", &name).await);
    for text in errors.iter().map(|error| format!("{error:?} {error} {}", error.report())) {
        assert!(!text.contains("correct-horse"), "an error contains a password: {text}");
    }
    assert!(!format!("{:?}", fixture.progress()).contains("correct-horse"), "progress contains a password");
    match fixture.testbed().artifacts(&fixture.host).await {
        Ok(artifacts) => {
            for artifact in artifacts {
                let found = artifact.content.windows(13).any(|window| window == b"correct-horse");
                assert!(!found, "{} contains a password", artifact.location);
            }
        }
        Err(error) if error.kind() == Kind::Unsupported => skip(error.to_string()),
        Err(error) => panic!("artifacts: {error:?}"),
    }
    fixture.drop_all(&[&name]).await;
}

/// Asserts that users can log in with each password, both as an initial and as a changed password.
async fn assert_accepted(fixture: &ServerFixture, passwords: &[&str]) {
    let name = fixture.create_tenant("special").await;
    let users: Vec<_> = (0..passwords.len()).map(|number| fixture.unique_name(&format!("special{number}_"))).collect();
    let new = users.iter().zip(passwords).map(|(user, password)| fixture.new_user(user, password, &name));
    fixture.accounts().create_users(&fixture.cx(), &new.collect::<Vec<_>>()).await.unwrap();
    for (user, password) in users.iter().zip(passwords) {
        assert!(fixture.can_log_in(user, password, &name).await, "the initial password {password:?} is rejected");
        fixture.accounts().set_password(&fixture.cx(), &(&name).into(), &secret(password)).await.unwrap();
        assert!(fixture.can_log_in(&name, password, &name).await, "the changed password {password:?} is rejected");
    }
    fixture.drop_all(&[&name]).await;
    fixture.drop_all(&users.iter().map(String::as_str).collect::<Vec<_>>()).await;
}
