//! Character sets and collations of databases, which differ between the versions of PostgreSQL.

use crate::common::{Fixture, app_spec, cx};
use trove_core::{
    error::Kind,
    model::{NewDatabase, NewUser, PageRequest},
};

pub async fn databases_have_the_requested_character_set_and_collation(fixture: &Fixture) {
    let accounts = fixture.accounts();
    let new_database = |name: &str, set: Option<&str>, collation: Option<&str>| {
        let mut database = NewDatabase::new(name);
        (database.character_set, database.collation) = (set.map(str::to_owned), collation.map(str::to_owned));
        database
    };
    let unicode_fast = if fixture.engine.version == "18" { "PG_UNICODE_FAST" } else { "C.utf8" };
    let wanted = [
        (new_database("plain", None, None), "UTF8", "C.UTF-8"),
        (new_database("utf8", Some("utf-8"), None), "UTF8", "C.UTF-8"),
        (new_database("own", None, Some("C.UTF-8")), "UTF8", "C.UTF-8"),
        (new_database("bytes", None, Some("C")), "UTF8", "C"),
        (new_database("posix", None, Some("POSIX")), "UTF8", "C"),
        (new_database("latin", Some("latin1"), None), "LATIN1", "C"),
        (new_database("japanese", Some("EUC_JP"), Some("C")), "EUC_JP", "C"),
        (new_database("icu", None, Some("de-AT-x-icu")), "UTF8", "de-AT-x-icu"),
        (new_database("icu_root", Some("UTF8"), Some("und-x-icu")), "UTF8", "und-x-icu"),
        (new_database("icu_latin", Some("LATIN9"), Some("fr-x-icu")), "LATIN9", "fr-x-icu"),
        (
            new_database("newest", None, Some(unicode_fast)),
            "UTF8",
            if fixture.engine.version == "18" { "PG_UNICODE_FAST" } else { "C.UTF-8" },
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
        // A request for the listed values matches the database.
        accounts.create_databases(&cx(), &[new_database(&database.name, Some(set), Some(collation))]).await.unwrap();
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
        let error = accounts.create_databases(&cx(), &[new_database("never", set, collation)]).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{set:?} {collation:?}: {error:?}");
        let what = collation.or(set).unwrap();
        assert!(error.to_string().contains(&format!("{what:?}")), "{error}");
    }
    for (set, collation) in [(Some("LATIN1"), None), (None, Some("C")), (None, Some("und-x-icu"))] {
        let error = accounts.create_databases(&cx(), &[new_database("plain", set, collation)]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{set:?} {collation:?}: {error:?}");
    }

    // Users exist in all databases, and can be dropped whatever encoding stores their names.
    let user = NewUser::new("größe", "g").granted("latin").granted("icu_latin").granted("japanese").granted("app");
    accounts.create_users(&cx(), &[user]).await.unwrap();
    for database in ["latin", "icu_latin", "app"] {
        let client = fixture.login("größe", "g", database).await.unwrap();
        client
            .batch_execute("CREATE TABLE kept (x int); SET ROLE NONE; CREATE TEMPORARY TABLE own (x int)")
            .await
            .unwrap();
        let oid = "SELECT oid::text FROM pg_roles WHERE rolname = session_user";
        let oid: String = client.query_one(oid, &[]).await.unwrap().get(0);
        let grant = format!(
            "RESET ROLE; DO $$ BEGIN EXECUTE format('GRANT SELECT ON kept TO %I', pg_get_userbyid({oid})); END $$"
        );
        client.batch_execute(&grant).await.unwrap();
    }
    accounts.drop_user(&cx(), &"größe".into()).await.unwrap();
    // A role whose name is not valid UTF-8 does not prevent listing the others.
    let admin = fixture.admin_in("latin").await;
    admin.batch_execute("CREATE ROLE \"caf\u{e9}\" LOGIN PASSWORD 'x'").await.unwrap();
    let users = accounts.users(&cx(), &PageRequest::default()).await.unwrap().items;
    assert_eq!(users.iter().map(|user| user.user.name.as_str()).collect::<Vec<_>>(), ["app", "caf\u{fffd}"]);
    accounts.enable_root(&cx(), &"r".to_owned().into()).await.unwrap();
    fixture.server.prepare(&cx(), &app_spec()).await.unwrap();
    accounts.revoke(&cx(), &"app".into(), "app").await.unwrap();
    admin.batch_execute("DROP ROLE \"caf\u{e9}\"").await.unwrap();
}
