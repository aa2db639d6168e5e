use super::tenant::{PASSWORD, accounts, secret};
use crate::{
    conformance::{
        case::{cases, skip},
        driver::{Trial, suite::Group},
    },
    error::{Error, Kind},
    model::NewUser,
};

pub(super) fn groups() -> Vec<Group> {
    vec![accounts(
        "accounts::passwords",
        cases![
            only_the_right_password_lets_in,
            a_new_password_replaces_the_old,
            a_new_password_ends_no_session,
            a_password_set_again_is_the_same,
            a_password_of_one_user_is_no_others,
            passwords_of_quotes_and_backslashes_let_in,
            passwords_of_statements_and_comments_let_in,
            passwords_of_formats_and_patterns_let_in,
            passwords_of_words_for_shells_and_uris_let_in,
            passwords_of_foreign_letters_let_in,
            passwords_with_spaces_let_in,
            passwords_that_look_like_hashes_let_in,
            the_longest_password_counts_to_its_last_letter,
            passwords_can_be_read_nowhere,
        ],
    )]
}

async fn only_the_right_password_lets_in(trial: &Trial) {
    let name = trial.make_tenant("right").await;
    for wrong in ["", "Secret", "secre", "secret ", "secret\\", "' OR '1'='1", &name] {
        assert!(!trial.lets_in(&name, wrong, &name).await, "{wrong:?} lets in");
    }
    assert!(trial.lets_in(&name, PASSWORD, &name).await);
    trial.forget(&[&name]).await;
}

async fn a_new_password_replaces_the_old(trial: &Trial) {
    let name = trial.make_tenant("changes").await;
    let mut old = PASSWORD;
    for new in ["second", "third", "second"] {
        trial.accounts().set_password(&trial.cx(), &(&name).into(), &secret(new)).await.unwrap();
        assert!(trial.lets_in(&name, new, &name).await, "the new password does not let in");
        assert!(!trial.lets_in(&name, old, &name).await, "the old password still lets in");
        old = new;
    }
    trial.forget(&[&name]).await;
}

async fn a_new_password_ends_no_session(trial: &Trial) {
    let name = trial.make_tenant("stays").await;
    let mut session = trial.enter(&name, PASSWORD, &name).await;
    trial.accounts().set_password(&trial.cx(), &(&name).into(), &secret("new")).await.unwrap();
    session.put("a", "b").await.expect("the session was ended");
    trial.forget(&[&name]).await;
}

async fn a_password_set_again_is_the_same(trial: &Trial) {
    let (name, cx) = (trial.make_tenant("repeats").await, trial.cx());
    for _ in 0..2 {
        trial.accounts().set_password(&cx, &(&name).into(), &secret("new")).await.unwrap();
        assert!(trial.lets_in(&name, "new", &name).await);
    }
    trial.forget(&[&name]).await;
}

async fn a_password_of_one_user_is_no_others(trial: &Trial) {
    let (one, two) = (trial.make_tenant("one").await, trial.make_tenant("two").await);
    trial.accounts().set_password(&trial.cx(), &(&one).into(), &secret("new")).await.unwrap();
    assert!(trial.lets_in(&two, PASSWORD, &two).await, "another user's password was changed");
    assert!(!trial.lets_in(&two, "new", &two).await, "another user's password was changed");
    trial.forget(&[&one, &two]).await;
}

async fn passwords_of_quotes_and_backslashes_let_in(trial: &Trial) {
    let_in(trial, &["'", "\"", "o'br\"ie`n", "\\", "end\\", "\\'; --", "\\x41"]).await;
}

async fn passwords_of_statements_and_comments_let_in(trial: &Trial) {
    let_in(trial, &["'; DROP DATABASE app; --", "\"; DROP USER app; --", "/*!50000 x */", "x -- y", "#"]).await;
}

async fn passwords_of_formats_and_patterns_let_in(trial: &Trial) {
    let_in(trial, &["%s%n%I%L", "{0}", "%", "_", "$1", "$tag$x$tag$", "?"]).await;
}

async fn passwords_of_words_for_shells_and_uris_let_in(trial: &Trial) {
    let_in(trial, &["$(id)", "${HOME}", ">out", "a&b=c", "u:p@host/db", "%41%00", "null"]).await;
}

async fn passwords_of_foreign_letters_let_in(trial: &Trial) {
    let_in(trial, &["grüße", "密码データ", "e\u{301}", "🐘🔥", "ﬁ", "x\u{200b}y", "\u{202e}x"]).await;
}

async fn passwords_with_spaces_let_in(trial: &Trial) {
    let_in(trial, &["a b", " a", "a\u{a0}b", "a ", " "]).await;
}

async fn passwords_that_look_like_hashes_let_in(trial: &Trial) {
    let md5 = "md5d41d8cd98f00b204e9800998ecf8427e";
    let native = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";
    let scram = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy";
    let_in(trial, &[md5, native, scram, "0x414243", "$A$005$x"]).await;
}

async fn the_longest_password_counts_to_its_last_letter(trial: &Trial) {
    let (name, rules) = (trial.make_tenant("long").await, trial.rules().expect("there are accounts"));
    for letter in ["x", "é", "🐘"] {
        let most = rules.max_password_bytes;
        let longest = letter.repeat(most / letter.len()) + &"y".repeat(most % letter.len());
        let mut shorter = longest.clone();
        shorter.pop();
        trial.accounts().set_password(&trial.cx(), &(&name).into(), &secret(&longest)).await.unwrap();
        assert!(trial.lets_in(&name, &longest, &name).await, "{most} bytes of {letter} do not let in");
        assert!(!trial.lets_in(&name, &shorter, &name).await, "less than {most} bytes of {letter} let in");
    }
    trial.forget(&[&name]).await;
}

async fn passwords_can_be_read_nowhere(trial: &Trial) {
    let (name, absent, root) =
        (trial.make_tenant("quiet").await, trial.name("absent").into(), secret("correct-horse-2"));
    let (accounts, password) = (trial.accounts(), secret("correct-horse-1"));
    let mut errors: Vec<Error> = Vec::new();
    accounts.set_password(&trial.cx(), &(&name).into(), &password).await.unwrap();
    errors.extend(accounts.set_password(&trial.cx(), &absent, &password).await.err());
    let users = [NewUser::new(&absent, "correct-horse-3"), NewUser::new(&name, "correct-horse-4")];
    errors.extend(accounts.create_users(&trial.cx(), &users).await.err());
    match accounts.enable_root(&trial.cx(), &root).await {
        Ok(_) => accounts.disable_root(&trial.cx()).await.unwrap(),
        Err(error) => assert_eq!(error.kind(), Kind::Unsupported, "{error:?}"),
    }
    assert!(!trial.lets_in(&name, "correct-horse-5", &name).await);
    for said in errors.iter().map(|error| format!("{error:?} {error} {}", error.report())) {
        assert!(!said.contains("correct-horse"), "an error holds a password: {said}");
    }
    assert!(!format!("{:?}", trial.heard()).contains("correct-horse"), "progress holds a password");
    match trial.testbed().traces(&trial.host).await {
        Ok(traces) => {
            for trace in traces {
                let found = trace.content.windows(13).any(|window| window == b"correct-horse");
                assert!(!found, "{} holds a password", trace.place);
            }
        }
        Err(error) if error.kind() == Kind::Unsupported => skip(error.to_string()),
        Err(error) => panic!("traces: {error:?}"),
    }
    trial.forget(&[&name]).await;
}

/// Gives a user each of these passwords by a change, and another by its creation.
async fn let_in(trial: &Trial, passwords: &[&str]) {
    let name = trial.make_tenant("hostile").await;
    let users: Vec<_> = (0..passwords.len()).map(|number| trial.name(&format!("hostile{number}_"))).collect();
    let new = users.iter().zip(passwords).map(|(user, password)| trial.new_user(user, password, &name));
    trial.accounts().create_users(&trial.cx(), &new.collect::<Vec<_>>()).await.unwrap();
    for (user, password) in users.iter().zip(passwords) {
        assert!(trial.lets_in(user, password, &name).await, "{password:?} does not let in whom it was made with");
        trial.accounts().set_password(&trial.cx(), &(&name).into(), &secret(password)).await.unwrap();
        assert!(trial.lets_in(&name, password, &name).await, "{password:?} does not let in once it was set");
    }
    trial.forget(&[&name]).await;
    trial.forget(&users.iter().map(String::as_str).collect::<Vec<_>>()).await;
}
