//! Character sets and collations of databases, on every version that has its own way of them.

use crate::common::{Fixture, POSTGRESQL_15, POSTGRESQL_17, POSTGRESQL_18, Subject, app, cx};
use trove_core::{
    error::Kind,
    model::{NewDatabase, NewUser, PageRequest},
};

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_encoded_and_ordered_as_asked() {
    for subject in [POSTGRESQL_17, POSTGRESQL_15, POSTGRESQL_18] {
        encode_and_order(subject).await;
    }
}

async fn encode_and_order(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    let asked = |name: &str, set: Option<&str>, collation: Option<&str>| {
        let mut database = NewDatabase::new(name);
        (database.character_set, database.collation) = (set.map(str::to_owned), collation.map(str::to_owned));
        database
    };
    let unicode_fast = if subject.version == "18" { "PG_UNICODE_FAST" } else { "C.utf8" };
    let wanted = [
        (asked("plain", None, None), "UTF8", "C.UTF-8"),
        (asked("utf8", Some("utf-8"), None), "UTF8", "C.UTF-8"),
        (asked("own", None, Some("C.UTF-8")), "UTF8", "C.UTF-8"),
        (asked("bytes", None, Some("C")), "UTF8", "C"),
        (asked("posix", None, Some("POSIX")), "UTF8", "C"),
        (asked("latin", Some("latin1"), None), "LATIN1", "C"),
        (asked("japanese", Some("EUC_JP"), Some("C")), "EUC_JP", "C"),
        (asked("icu", None, Some("de-AT-x-icu")), "UTF8", "de-AT-x-icu"),
        (asked("icu_root", Some("UTF8"), Some("und-x-icu")), "UTF8", "und-x-icu"),
        (asked("icu_latin", Some("LATIN9"), Some("fr-x-icu")), "LATIN9", "fr-x-icu"),
        (
            asked("newest", None, Some(unicode_fast)),
            "UTF8",
            if subject.version == "18" { "PG_UNICODE_FAST" } else { "C.UTF-8" },
        ),
    ];
    let databases: Vec<_> = wanted.iter().map(|(database, ..)| database.clone()).collect();
    accounts.create_databases(&cx(), &databases).await.unwrap();
    accounts.create_databases(&cx(), &databases).await.unwrap();
    let listed = accounts.databases(&cx(), &PageRequest::default()).await.unwrap().items;
    for (database, set, collation) in &wanted {
        let found = listed.iter().find(|found| found.name == database.name).unwrap();
        assert_eq!(found.character_set.as_deref(), Some(*set), "{database:?}");
        assert_eq!(found.collation.as_deref(), Some(*collation), "{database:?}");
        // What is listed is what can be asked for.
        accounts.create_databases(&cx(), &[asked(&database.name, Some(set), Some(collation))]).await.unwrap();
    }

    for (set, collation, kind) in [
        (Some("utf8mb4"), None, Kind::Invalid),
        (Some("SJIS"), None, Kind::Invalid),
        (Some(""), None, Kind::Invalid),
        (Some("UTF8' LOCALE 'C"), None, Kind::Invalid),
        (None, Some(""), Kind::Invalid),
        (None, Some("utf8mb4_general_ci"), Kind::Invalid),
        (None, Some("xx_YY.UTF-8"), Kind::Invalid),
        (None, Some("zz-x-icu"), Kind::Invalid),
        (None, Some("../../tmp/evil"), Kind::Invalid),
        (None, Some("C' TEMPLATE 'app"), Kind::Invalid),
        (None, Some("C\\"), Kind::Invalid),
        (Some("LATIN1"), Some("C.UTF-8"), Kind::Invalid),
    ] {
        let refused = accounts.create_databases(&cx(), &[asked("never", set, collation)]).await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{set:?} {collation:?}: {refused:?}");
        let what = collation.or(set).unwrap();
        assert!(refused.to_string().contains(&format!("{what:?}")), "{refused}");
    }
    for (set, collation) in [(Some("LATIN1"), None), (None, Some("C")), (None, Some("und-x-icu"))] {
        let refused = accounts.create_databases(&cx(), &[asked("plain", set, collation)]).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Conflict, "{set:?} {collation:?}: {refused:?}");
    }

    // Users are the same in all of them, and can be dropped whatever a database writes their names in.
    let user = NewUser::new("größe", "g").granted("latin").granted("icu_latin").granted("japanese").granted("app");
    accounts.create_users(&cx(), &[user]).await.unwrap();
    for database in ["latin", "icu_latin", "app"] {
        let client = fixture.login("größe", "g", database).await.unwrap();
        client
            .batch_execute("CREATE TABLE kept (x int); SET ROLE NONE; CREATE TEMPORARY TABLE own (x int)")
            .await
            .unwrap();
        let number = "SELECT oid::text FROM pg_roles WHERE rolname = session_user";
        let number: String = client.query_one(number, &[]).await.unwrap().get(0);
        let entitle = format!(
            "RESET ROLE; DO $$ BEGIN EXECUTE format('GRANT SELECT ON kept TO %I', pg_get_userbyid({number})); END $$"
        );
        client.batch_execute(&entitle).await.unwrap();
    }
    accounts.drop_user(&cx(), &"größe".into()).await.unwrap();
    // A name that only a database of another character set can write does not keep the others from being listed.
    let socket = tokio::net::UnixStream::connect(fixture.host.directory.join("run/.s.PGSQL.5432")).await.unwrap();
    let mut config = tokio_postgres::Config::new();
    let connecting = config.user("trove_admin").dbname("latin").connect_raw(socket, tokio_postgres::NoTls);
    let (admin, connection) = connecting.await.unwrap();
    tokio::spawn(connection);
    admin.batch_execute("CREATE ROLE \"caf\u{e9}\" LOGIN PASSWORD 'x'").await.unwrap();
    let users = accounts.users(&cx(), &PageRequest::default()).await.unwrap().items;
    assert_eq!(users.iter().map(|user| user.user.name.as_str()).collect::<Vec<_>>(), ["app", "caf\u{fffd}"]);
    accounts.enable_root(&cx(), &"r".to_owned().into()).await.unwrap();
    fixture.server.prepare(&cx(), &app()).await.unwrap();
    accounts.revoke(&cx(), &"app".into(), "app").await.unwrap();
    fixture.removed().await;
}
