//! What only MySQL and MariaDB have: users told apart by their host, character sets, things that run as a user.

use crate::common::{Fixture, MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, Subject, cx, is_quick_tier};
use trove_core::{
    error::Kind,
    model::{NewDatabase, NewUser, PageRequest, UserName},
    secret::SecretString,
};

async fn users_are_told_apart_by_their_host(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    let (anywhere, nowhere, here) =
        (UserName::new("bob"), UserName::new("bob").at("2001:DB8::1"), UserName::new("bob").at("172.%"));
    let users = [
        NewUser::new(anywhere.clone(), "any").granted("app"),
        NewUser::new(nowhere.clone(), "no"),
        NewUser::new(UserName::new("eve").at("192.0.2.1"), "e").granted("app"),
        NewUser::new("a@b", "ab"),
    ];
    accounts.create_users(&cx(), &users).await.unwrap();
    fixture.client("bob", "any", "app").await.unwrap();
    assert!(fixture.client("eve", "e", "app").await.is_err());
    assert_eq!(
        accounts.create_users(&cx(), &[NewUser::new(UserName::new("bob").at("%"), "x")]).await.unwrap_err().kind(),
        Kind::Conflict
    );
    assert_eq!(accounts.user(&cx(), &here).await.unwrap_err().kind(), Kind::NotFound);
    let (mut listed, mut page) = (Vec::new(), PageRequest { limit: 1, after: None });
    loop {
        let found = accounts.users(&cx(), &page).await.unwrap();
        listed.extend(found.items.iter().map(|user| user.user.to_string()));
        let Some(next) = found.next else { break };
        page.after = Some(next);
    }
    assert_eq!(listed, ["a@b", "app", "bob", "bob@2001:db8::1", "eve@192.0.2.1"]);

    // The user from everywhere goes; those from elsewhere stay.
    accounts.rename_user(&cx(), &UserName::new("eve").at("192.0.2.1"), &"eve".into()).await.unwrap();
    fixture.client("eve", "e", "app").await.unwrap();
    accounts.set_password(&cx(), &nowhere, &SecretString::from("x")).await.unwrap();
    accounts.drop_user(&cx(), &anywhere).await.unwrap();
    assert!(fixture.client("bob", "any", "app").await.is_err());
    assert_eq!(accounts.user(&cx(), &nowhere).await.unwrap().user.host.as_deref(), Some("2001:db8::1"));
    fixture.removed().await;
}

async fn databases_have_the_text_they_are_asked_for(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    let latin = || NewDatabase::new("latin").character_set("latin1").collation("latin1_swedish_ci");
    let make =
        async |database: NewDatabase| accounts.create_databases(&cx(), &[database]).await.map_err(|error| error.kind());
    make(latin()).await.unwrap();
    make(latin()).await.unwrap();
    make(NewDatabase::new("latin")).await.unwrap();
    make(NewDatabase::new("binary").collation("utf8mb4_bin")).await.unwrap();
    for (refused, kind) in [
        (NewDatabase::new("latin").character_set("utf8mb4"), Kind::Conflict),
        (NewDatabase::new("latin").collation("latin1_bin"), Kind::Conflict),
        (NewDatabase::new("other").character_set("latin1").collation("utf8mb4_bin"), Kind::Invalid),
        (NewDatabase::new("other").character_set("klingon"), Kind::Invalid),
        (NewDatabase::new("other").collation("klingon_ci"), Kind::Invalid),
        (NewDatabase::new("other").collation("'; DROP DATABASE app; --"), Kind::Invalid),
        (NewDatabase::new("'".repeat(64)), Kind::Invalid),
    ] {
        assert_eq!(make(refused.clone()).await, Err(kind), "{refused:?}");
    }
    let found = accounts.databases(&cx(), &PageRequest::default()).await.unwrap().items;
    let text = found
        .iter()
        .map(|it| (it.name.as_str(), it.character_set.as_deref().unwrap(), it.collation.as_deref().unwrap()));
    let text: Vec<_> = text.collect();
    assert_eq!((text[0].0, text[0].1), ("app", "utf8mb4"));
    assert_eq!(text[1..], [("binary", "utf8mb4", "utf8mb4_bin"), ("latin", "latin1", "latin1_swedish_ci")]);
    fixture.removed().await;
}

async fn what_runs_as_a_user_keeps_running(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    accounts.create_users(&cx(), &[NewUser::new("two", "2").granted("app")]).await.unwrap();
    let mut app = fixture.client("app", "secret", "app").await.unwrap();
    for sql in [
        "CREATE TABLE t (x int)",
        "CREATE TABLE log (x int)",
        "CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW INSERT INTO log VALUES (NEW.x)",
        "CREATE PROCEDURE p() INSERT INTO t VALUES (1)",
        "CREATE FUNCTION f() RETURNS int RETURN 5",
    ] {
        app.run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    accounts.drop_user(&cx(), &"app".into()).await.unwrap();
    let mut two = fixture.client("two", "2", "app").await.unwrap();
    two.run("CALL p()").await.unwrap();
    assert_eq!(two.text("SELECT SUM(x) + f() FROM log").await.unwrap(), "6");
    assert!(fixture.client("app", "secret", "app").await.is_err());
    assert_eq!(accounts.user(&cx(), &"app".into()).await.unwrap_err().kind(), Kind::NotFound);
    // With the last of it goes what is left of the user.
    accounts.drop_database(&cx(), "app").await.unwrap();
    accounts.enable_root(&cx(), &SecretString::from("r")).await.unwrap();
    let mut root = fixture.client("root", "r", "").await.unwrap();
    let gone = root.run("SHOW GRANTS FOR app@'%'").await.unwrap_err();
    assert!(gone.contains("1141") || gone.contains("1044") || gone.contains("1142"), "{gone}");
    fixture.removed().await;
}

macro_rules! on_each {
    ($($behaviour:ident),* $(,)?) => {
        on_each!(@ mysql MYSQL_9_7 $($behaviour)*);
        on_each!(@ mariadb MARIADB_11_8 $($behaviour)*);
        on_each!(@ mariadb_10_11 MARIADB_10_11 $($behaviour)*);
    };
    (@ $engine:ident $subject:ident $($behaviour:ident)*) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $behaviour() {
                    if stringify!($engine) == "mariadb_10_11" && super::is_quick_tier() {
                        return;
                    }
                    super::$behaviour(super::$subject).await;
                }
            )*
        }
    };
}

on_each!(
    users_are_told_apart_by_their_host,
    databases_have_the_text_they_are_asked_for,
    what_runs_as_a_user_keeps_running,
);
