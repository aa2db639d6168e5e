//! Databases, users and rights of every engine, used over the network as a tenant would.

use crate::common::{Fixture, MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, POSTGRESQL_17, Subject, cx, log};
use trove_core::{
    datastore::Prepare,
    error::Kind,
    model::{NewDatabase, NewUser, PageRequest, User},
    secret::SecretString,
};

/// Every behaviour on every engine, each in a test of its own.
macro_rules! on_every_engine {
    ($($behaviour:ident),* $(,)?) => {
        on_every_engine!(@ postgresql POSTGRESQL_17 $($behaviour)*);
        on_every_engine!(@ mysql MYSQL_9_7 $($behaviour)*);
        on_every_engine!(@ mariadb MARIADB_11_8 $($behaviour)*);
        on_every_engine!(@ mariadb_10_11 MARIADB_10_11 $($behaviour)*);
    };
    (@ $engine:ident $subject:ident $($behaviour:ident)*) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $behaviour() {
                    super::$behaviour(super::$subject).await;
                }
            )*
        }
    };
}

on_every_engine!(
    hostile_names_and_passwords_are_only_names_and_passwords,
    a_name_is_no_pattern,
    what_one_user_makes_outlives_it,
    users_come_all_or_none,
    a_user_is_called_otherwise,
    passwords_never_reach_the_server_or_its_log,
);

/// Names that a careless quotation would break out of, shorten or change. Most keep the rules of every driver.
fn hostile_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "o'brien",
        "double\"quote",
        "back`tick",
        "\"",
        "'",
        "`",
        "''; DROP DATABASE app; --",
        "\"; DROP ROLE app; --",
        "`; DROP USER app; --",
        "a\\b",
        "\\",
        "\\'; SELECT 1; --",
        "\\_\\%",
        "semi;colon",
        "dash--dash",
        "/* comment */",
        "/*!50000 x */",
        "$$dollar$$",
        "$1",
        "100%s %I %L",
        "under_score",
        "sp ace in side",
        "UPPER lower",
        "select",
        "user.name@host",
        "名前データ",
        "grüße",
        "🐘🔥",
        "e\u{301}",
        "a=b&c?d#e",
        "{}[]()<>|~",
        "../../etc",
    ]
    .map(str::to_owned)
    .into();
    names.extend([32, 64].map(|length| "x".repeat(length)));
    names.extend([16, 32].map(|length| "é".repeat(length)));
    names.extend(["_", "'", "名"].map(|letter| letter.repeat(20)));
    names
}

fn names(users: &[User]) -> Vec<&str> {
    users.iter().map(|user| user.user.name.as_str()).collect()
}

async fn hostile_names_and_passwords_are_only_names_and_passwords(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let accounts = fixture.server.accounts().unwrap();
    let rules = subject.driver().manifest().accounts.clone().unwrap();
    let mut hostile = Vec::new();
    for name in hostile_names() {
        let kept = rules.check_database(&name).is_ok() && rules.check_user(&name.as_str().into()).is_ok();
        if !kept {
            continue;
        }
        let database = accounts.create_databases(&cx(), &[NewDatabase::new(name.clone())]).await;
        let user = accounts.create_users(&cx(), &[NewUser::new(name.as_str(), "x")]).await;
        // What an engine cannot write down it says.
        for refused in [&database, &user].into_iter().filter_map(|made| made.as_ref().err()) {
            assert_eq!(refused.kind(), Kind::Invalid, "{name:?}: {refused:?}");
        }
        match user.is_ok() && database.is_ok() {
            true => hostile.push(name.clone()),
            false => accounts.drop_database(&cx(), &name).await.unwrap(),
        }
        accounts.drop_user(&cx(), &name.into()).await.unwrap();
    }
    assert!(hostile.len() > 25, "{hostile:?}");
    let databases: Vec<_> = hostile.iter().map(|name| NewDatabase::new(name.clone())).collect();
    accounts.create_databases(&cx(), &databases).await.unwrap();
    let users: Vec<_> =
        hostile.iter().map(|name| NewUser::new(name.clone(), name.clone()).granted(name.clone())).collect();
    accounts.create_users(&cx(), &users).await.unwrap();

    let who = match fixture.is_postgresql() {
        true => "SELECT current_database() || '/' || session_user",
        false => {
            "SELECT CONCAT(DATABASE(), '/', SUBSTRING_INDEX(USER(), '@', LENGTH(USER()) - LENGTH(REPLACE(USER(), '@', ''))))"
        }
    };
    for name in &hostile {
        let client = fixture.client(name, name, name).await;
        let mut client = client.unwrap_or_else(|error| panic!("{name:?}: {error}"));
        client.run("CREATE TABLE mine (x int)").await.unwrap();
        assert_eq!(client.text(who).await.unwrap(), format!("{name}/{name}"));
        assert!(fixture.client(name, "another", name).await.is_err(), "{name:?}");
        assert!(fixture.client(name, name, "app").await.is_err(), "{name:?}");
        assert!(fixture.client(name, name, "mysql").await.is_err(), "{name:?}");
    }
    fixture.client("app", "secret", "app").await.unwrap();

    let mut expected: Vec<_> = hostile.iter().map(String::as_str).chain(["app"]).collect();
    expected.sort_unstable();
    let (mut listed, mut page) = (Vec::new(), PageRequest { limit: 4, after: None });
    loop {
        let found = accounts.users(&cx(), &page).await.unwrap();
        assert!(found.items.iter().all(|user| user.databases == [user.user.name.clone()]), "{found:?}");
        listed.extend(found.items.into_iter().map(|user| user.user.name));
        let Some(next) = found.next else { break };
        page.after = Some(next);
    }
    assert_eq!(listed, expected);
    let (mut listed, mut page) = (Vec::new(), PageRequest { limit: 7, after: None });
    loop {
        let found = accounts.databases(&cx(), &page).await.unwrap();
        listed.extend(found.items.into_iter().map(|database| database.name));
        let Some(next) = found.next else { break };
        page.after = Some(next);
    }
    assert_eq!(listed, expected);

    for name in &hostile {
        let changed = format!("{name}{name}");
        accounts.set_password(&cx(), &name.into(), &SecretString::from(changed.clone())).await.unwrap();
        assert!(fixture.client(name, name, name).await.is_err());
        let mut client = fixture.client(name, &changed, name).await.unwrap();
        accounts.revoke(&cx(), &name.into(), name).await.unwrap();
        assert!(client.run("SELECT 1").await.is_err(), "the session goes with the right");
        assert!(fixture.client(name, &changed, name).await.is_err());
        assert_eq!(accounts.user(&cx(), &name.into()).await.unwrap().databases, Vec::<String>::new());
        accounts.grant(&cx(), &name.into(), &[name.clone(), "app".to_owned()]).await.unwrap();
        let mut client = fixture.client(name, &changed, name).await.unwrap();
        client.run("SELECT * FROM mine").await.unwrap();
        accounts.drop_user(&cx(), &name.into()).await.unwrap();
        accounts.drop_user(&cx(), &name.into()).await.unwrap();
        assert!(client.run("SELECT 1").await.is_err(), "the session goes with the user");
        accounts.drop_database(&cx(), name).await.unwrap();
        accounts.drop_database(&cx(), name).await.unwrap();
    }
    assert_eq!(names(&accounts.users(&cx(), &PageRequest::default()).await.unwrap().items), ["app"]);
    fixture.client("app", "secret", "app").await.unwrap();
    fixture.removed().await;
}

async fn a_name_is_no_pattern(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let accounts = fixture.server.accounts().unwrap();
    let databases = ["a_b", "axb", "a%", "abc", "a\\_b"].map(NewDatabase::new);
    accounts.create_databases(&cx(), &databases).await.unwrap();
    let users = [NewUser::new("one", "1").granted("a_b"), NewUser::new("all", "2").granted("a%")];
    accounts.create_users(&cx(), &users).await.unwrap();
    for (user, password, own) in [("one", "1", "a_b"), ("all", "2", "a%")] {
        for database in &databases {
            let let_in = fixture.client(user, password, &database.name).await.is_ok();
            assert_eq!(let_in, database.name == own, "{user} in {}", database.name);
        }
    }
    // A database that is gone leaves no right on the next of its name.
    accounts.drop_database(&cx(), "a_b").await.unwrap();
    accounts.create_databases(&cx(), &[NewDatabase::new("a_b")]).await.unwrap();
    assert!(fixture.client("one", "1", "a_b").await.is_err());
    assert_eq!(accounts.user(&cx(), &"one".into()).await.unwrap().databases, Vec::<String>::new());
    fixture.removed().await;
}

async fn what_one_user_makes_outlives_it(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let accounts = fixture.server.accounts().unwrap();
    let users = [NewUser::new("two", "2").granted("app"), NewUser::new("outsider", "3")];
    accounts.create_users(&cx(), &users).await.unwrap();
    let mut one = fixture.client("app", "secret", "app").await.unwrap();
    let mut two = fixture.client("two", "2", "app").await.unwrap();
    for sql in ["CREATE TABLE a (x int)", "INSERT INTO a VALUES (1)", "CREATE VIEW v AS SELECT x + 1 AS y FROM a"] {
        one.run(sql).await.unwrap();
    }
    for sql in ["ALTER TABLE a ADD y int", "UPDATE a SET y = 2", "CREATE TABLE b (x int)"] {
        two.run(sql).await.unwrap();
    }
    one.run("DROP TABLE b").await.unwrap();
    assert!(fixture.client("outsider", "3", "app").await.is_err());
    accounts.drop_user(&cx(), &"app".into()).await.unwrap();
    assert!(one.run("SELECT 1").await.is_err());
    assert!(fixture.client("app", "secret", "app").await.is_err());
    assert_eq!(two.text("SELECT x + y FROM a").await.unwrap(), "3");
    assert_eq!(two.text("SELECT y FROM v").await.unwrap(), "2", "what ran as the user still runs");
    assert_eq!(names(&accounts.users(&cx(), &PageRequest::default()).await.unwrap().items), ["outsider", "two"]);
    // Another of its name is nobody who was there before.
    accounts.create_users(&cx(), &[NewUser::new("app", "new")]).await.unwrap();
    assert!(fixture.client("app", "new", "app").await.is_err());
    accounts.grant(&cx(), &"app".into(), &["app".to_owned()]).await.unwrap();
    let mut app = fixture.client("app", "new", "app").await.unwrap();
    assert_eq!(app.text("SELECT y FROM v").await.unwrap(), "2");
    accounts.drop_database(&cx(), "app").await.unwrap();
    assert!(two.run("SELECT 1").await.is_err(), "the session goes with the database");
    fixture.removed().await;
}

async fn users_come_all_or_none(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let accounts = fixture.server.accounts().unwrap();
    let listed = async || {
        let found = accounts.users(&cx(), &PageRequest::default()).await.unwrap().items;
        names(&found).join(" ")
    };
    let failed = async |users: &[NewUser]| accounts.create_users(&cx(), users).await.unwrap_err().kind();
    let (app, three) = (|| NewUser::new("app", "2"), || NewUser::new("three", "3"));
    assert_eq!(failed(&[three(), app()]).await, Kind::Conflict);
    assert_eq!(failed(&[three(), three()]).await, Kind::Conflict);
    assert_eq!(failed(&[three(), NewUser::new("four", "4").granted("nowhere")]).await, Kind::NotFound);
    assert_eq!(listed().await, "app");
    let (lost, password) =
        (async |name: &str| accounts.user(&cx(), &name.into()).await.unwrap_err().kind(), "x".into());
    for name in ["three", "trove_admin", "root", "mysql.sys", "mariadb.sys", "postgres", "server"] {
        assert_eq!(lost(name).await, Kind::NotFound, "{name}");
        let changed = accounts.set_password(&cx(), &name.into(), &password).await;
        assert_eq!(changed.unwrap_err().kind(), Kind::NotFound, "{name}");
        assert_eq!(accounts.grant(&cx(), &name.into(), &["app".to_owned()]).await.unwrap_err().kind(), Kind::NotFound);
    }
    let rules = subject.driver().manifest().accounts.clone().unwrap();
    for own in rules.reserved_databases {
        assert_eq!(accounts.drop_database(&cx(), &own).await.unwrap_err().kind(), Kind::Invalid, "{own}");
        assert_eq!(accounts.grant(&cx(), &"app".into(), &[own]).await.unwrap_err().kind(), Kind::NotFound);
    }
    assert_eq!(accounts.grant(&cx(), &"app".into(), &["nowhere".to_owned()]).await.unwrap_err().kind(), Kind::NotFound);
    accounts.revoke(&cx(), &"app".into(), "nowhere").await.unwrap();

    // What was prepared with is taken up again by a repeated preparation.
    let again = Prepare::new(
        vec![NewDatabase::new("app"), NewDatabase::new("more")],
        vec![NewUser::new("app", "new").granted("more"), three().granted("app")],
    );
    fixture.server.prepare(&cx(), &again).await.unwrap();
    fixture.client("app", "new", "more").await.unwrap();
    fixture.client("three", "3", "app").await.unwrap();
    assert_eq!(accounts.user(&cx(), &"app".into()).await.unwrap().databases, ["app", "more"]);
    fixture.removed().await;
}

async fn a_user_is_called_otherwise(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let accounts = fixture.server.accounts().unwrap();
    accounts.create_users(&cx(), &[NewUser::new("taken", "t")]).await.unwrap();
    let rename = async |from: &str, to: &str| accounts.rename_user(&cx(), &from.into(), &to.into()).await;
    assert_eq!(rename("app", "taken").await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(rename("nobody", "some").await.unwrap_err().kind(), Kind::NotFound);
    let mut client = fixture.client("app", "secret", "app").await.unwrap();
    for sql in ["CREATE TABLE a (x int)", "INSERT INTO a VALUES (7)", "CREATE VIEW v AS SELECT x FROM a"] {
        client.run(sql).await.unwrap();
    }
    rename("app", "o'ther`\"\\").await.unwrap();
    assert!(fixture.client("app", "secret", "app").await.is_err());
    let mut client = fixture.client("o'ther`\"\\", "secret", "app").await.unwrap();
    assert_eq!(client.text("SELECT x FROM v").await.unwrap(), "7");
    assert_eq!(accounts.user(&cx(), &"o'ther`\"\\".into()).await.unwrap().databases, ["app"]);
    assert_eq!(names(&accounts.users(&cx(), &PageRequest::default()).await.unwrap().items), ["o'ther`\"\\", "taken"]);
    rename("o'ther`\"\\", "app").await.unwrap();
    let mut client = fixture.client("app", "secret", "app").await.unwrap();
    assert_eq!(client.text("SELECT x FROM v").await.unwrap(), "7");
    fixture.removed().await;
}

async fn passwords_never_reach_the_server_or_its_log(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let accounts = fixture.server.accounts().unwrap();
    let (password, secret) = ("correct-horse-battery", SecretString::from("correct-horse-battery"));
    accounts.create_users(&cx(), &[NewUser::new("quiet", password)]).await.unwrap();
    accounts.set_password(&cx(), &"quiet".into(), &secret).await.unwrap();
    let root = accounts.enable_root(&cx(), &secret).await.unwrap();
    let database = if fixture.is_postgresql() { "postgres" } else { "" };
    fixture.client(&root, password, database).await.unwrap();
    let log = log(&fixture.container()).await;
    assert!(!log.is_empty() && !log.contains(password), "{log}");
    // Nor is it in any file of the server's, such as the binary log.
    let mut places = vec![fixture.host.volume.clone(), fixture.host.directory.clone()];
    let mut files = 0;
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(place).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => places.push(entry.path()),
                kind if kind.is_file() => {
                    let Ok(bytes) = std::fs::read(entry.path()) else { continue };
                    files += 1;
                    let found = bytes.windows(password.len()).any(|window| window == password.as_bytes());
                    assert!(!found, "{:?}", entry.path());
                }
                _ => {}
            }
        }
    }
    assert!(files > 10, "{files}");
    fixture.removed().await;
}
