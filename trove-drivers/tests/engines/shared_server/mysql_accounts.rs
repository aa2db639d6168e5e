//! Checks of MySQL and MariaDB only: hosts of users, and stored programs with a definer.

use crate::common::{Fixture, cx, mysql};
use trove_core::{
    error::Kind,
    model::{NewDatabase, NewUser, PageRequest, UserName},
    secret::SecretString,
};

pub async fn system_accounts_cannot_log_in(fixture: &Fixture) {
    for (user, password) in [("trove_admin", ""), ("trove_admin", "secret"), ("root", ""), ("server", ""), ("", "")] {
        assert!(mysql::login(&fixture.host.endpoint, user, password, "").await.is_err(), "{user}");
    }
}

pub async fn hosts_are_normalized(fixture: &Fixture) {
    let accounts = fixture.accounts();
    let users = [
        NewUser::new("bob", "any").granted("app"),
        NewUser::new(UserName::new("bob").at("2001:DB8::1"), "no"),
        NewUser::new(UserName::new("eve").at("192.0.2.1"), "e").granted("app"),
        NewUser::new("a@b", "ab"),
    ];
    accounts.create_users(&cx(), &users).await.unwrap();
    let any_host = [NewUser::new(UserName::new("bob").at("%"), "x")];
    assert_eq!(accounts.create_users(&cx(), &any_host).await.unwrap_err().kind(), Kind::Conflict);
    let listed = accounts.users(&cx(), &PageRequest::default()).await.unwrap().items;
    let listed: Vec<_> = listed.iter().map(|user| user.user.to_string()).collect();
    assert_eq!(listed, ["a@b", "app", "bob", "bob@2001:db8::1", "eve@192.0.2.1"]);
    let found = accounts.user(&cx(), &UserName::new("bob").at("2001:DB8::1")).await.unwrap();
    assert_eq!(found.user.host.as_deref(), Some("2001:db8::1"));
}

pub async fn databases_have_the_requested_character_set_and_collation(fixture: &Fixture) {
    let accounts = fixture.accounts();
    let latin = || NewDatabase::new("latin").character_set("latin1").collation("latin1_swedish_ci");
    let create =
        async |database: NewDatabase| accounts.create_databases(&cx(), &[database]).await.map_err(|error| error.kind());
    create(latin()).await.unwrap();
    create(latin()).await.unwrap();
    create(NewDatabase::new("latin")).await.unwrap();
    create(NewDatabase::new("binary").collation("utf8mb4_bin")).await.unwrap();
    for (database, kind) in [
        (NewDatabase::new("latin").character_set("utf8mb4"), Kind::Conflict),
        (NewDatabase::new("latin").collation("latin1_bin"), Kind::Conflict),
        (NewDatabase::new("other").character_set("latin1").collation("utf8mb4_bin"), Kind::Invalid),
        (NewDatabase::new("other").character_set("klingon"), Kind::Invalid),
        (NewDatabase::new("other").collation("klingon_ci"), Kind::Invalid),
        (NewDatabase::new("other").collation("'; DROP DATABASE app; --"), Kind::Invalid),
        (NewDatabase::new("'".repeat(64)), Kind::Invalid),
    ] {
        assert_eq!(create(database.clone()).await, Err(kind), "{database:?}");
    }
    let found = accounts.databases(&cx(), &PageRequest::default()).await.unwrap().items;
    let found: Vec<_> = found
        .iter()
        .map(|it| (it.name.as_str(), it.character_set.as_deref().unwrap(), it.collation.as_deref().unwrap()))
        .collect();
    assert_eq!((found[0].0, found[0].1), ("app", "utf8mb4"));
    assert_eq!(found[1..], [("binary", "utf8mb4", "utf8mb4_bin"), ("latin", "latin1", "latin1_swedish_ci")]);
}

pub async fn stored_programs_outlive_their_definer(fixture: &Fixture) {
    let accounts = fixture.accounts();
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
    // The locked account of a definer is dropped with its last stored program.
    accounts.drop_database(&cx(), "app").await.unwrap();
    accounts.enable_root(&cx(), &SecretString::from("r")).await.unwrap();
    let mut root = fixture.client("root", "r", "").await.unwrap();
    let error = root.run("SHOW GRANTS FOR app@'%'").await.unwrap_err();
    assert!(error.contains("1141") || error.contains("1044") || error.contains("1142"), "{error}");
}
