//! The suite of drivers on the drivers here, at a pace that leaves time for other tests. `TROVE_CONFORMANCE_FULL` is for
//! the whole of it, `TROVE_CONFORMANCE_ONLY` for the cases whose name holds a text, and `TROVE_CONFORMANCE_JSON` for a
//! report for machines.

use std::env;

use crate::common::{
    MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, MySqlSessions, POSTGRESQL_17, PostgreSqlSessions, Subject,
};
use crate::scripted::Images;
use trove_core::{
    conformance::driver::{Pace, Samples, certify_only},
    datastore::Release,
    model::{Setting, gib, mib},
};
use trove_drivers::conformance::DockerTestbed;

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_17_passes() {
    let mut samples = Samples::default();
    samples.live = Some(("work_mem".to_owned(), 2048.into(), 3072.into()));
    samples.restart = Some(("max_locks_per_transaction".to_owned(), 77.into(), 78.into()));
    samples.refused = Some(("DateStyle".to_owned(), "never".into()));
    samples.fatal = Some(("shared_buffers".to_owned(), Setting::Integer(1_073_741_823)));
    let mut images = Images::new();
    let patch = Release::new("17", images.of_subject(POSTGRESQL_17).await);
    let testbed = testbed(POSTGRESQL_17).sessions(PostgreSqlSessions).samples(samples).upgrade(patch);
    passes(testbed, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_9_7_passes() {
    let mut images = Images::new();
    let patch = Release::new("9.7", images.of_subject(MYSQL_9_7).await);
    passes(
        testbed(MYSQL_9_7).sessions(MySqlSessions).samples(mysql(("myisam_recover_options", "never"))).upgrade(patch),
        "",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_11_8_passes() {
    let mut images = Images::new();
    let patch = Release::new("11.8", images.of_subject(MARIADB_11_8).await);
    passes(testbed(MARIADB_11_8).sessions(MySqlSessions).samples(mysql(("lc_messages", "xx_YY"))).upgrade(patch), "")
        .await;
}

/// To a version that changes the data, by those cases that are not the same for one that does not.
#[tokio::test(flavor = "multi_thread")]
async fn mariadb_10_11_is_upgraded_to_11_8() {
    let next = Release::new("11.8", MARIADB_11_8.image());
    passes(
        testbed(MARIADB_10_11).sessions(MySqlSessions).samples(mysql(("lc_messages", "xx_YY"))).upgrade(next),
        "upgrade::a",
    )
    .await;
}

fn mysql(fatal: (&str, &str)) -> Samples {
    let mut samples = Samples::default();
    samples.live = Some(("max_connect_errors".to_owned(), 77.into(), 78.into()));
    samples.restart = Some(("back_log".to_owned(), 77.into(), 78.into()));
    samples.refused = Some(("ft_boolean_syntax".to_owned(), "never".into()));
    samples.fatal = Some((fatal.0.to_owned(), fatal.1.into()));
    samples
}

fn testbed(subject: Subject) -> DockerTestbed {
    let testbed = DockerTestbed::new(subject.driver()).unwrap();
    let testbed = testbed.version(subject.version).memory(mib(subject.memory_mib)).volume(gib(2));
    let mut pace = Pace::default();
    if env::var_os("TROVE_CONFORMANCE_FULL").is_none() {
        (pace.drops, pace.slow_drops) = (2, 1);
    }
    testbed.pace(pace)
}

async fn passes(testbed: DockerTestbed, only: &str) {
    let chosen = env::var("TROVE_CONFORMANCE_ONLY");
    let report = certify_only(testbed, chosen.as_deref().unwrap_or(only)).await;
    match env::var_os("TROVE_CONFORMANCE_JSON") {
        Some(_) => println!("{}", report.to_json()),
        None => println!("{report}"),
    }
    assert!(report.passed(), "{report}");
}
