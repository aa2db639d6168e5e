//! The driver and platform suites on the drivers and the platform of this crate, one test for each
//! case.
//! `TROVE_TEST_FULL=1` runs all cases on all versions. Otherwise the cases that exercise code which
//! drivers share are left to Valkey, whose servers start fastest (`examples/valkey`), and those of
//! the accounts that MySQL and MariaDB share to MariaDB.

#![allow(unreachable_pub, clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[allow(dead_code, unused_imports, reason = "shared with the engine tests")]
#[path = "../engines/common/mod.rs"]
mod common;
#[allow(dead_code, reason = "shared with the engine tests")]
#[path = "../engines/scripted/images.rs"]
mod images;
mod sessions;

use std::{process::ExitCode, sync::Arc};

use common::{EngineVersion, MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, POSTGRESQL_15, POSTGRESQL_17, POSTGRESQL_18};
use images::Images;
use sessions::{MySqlSessions, PostgreSqlSessions};
use tokio::sync::Mutex;
use trove_core::{
    conformance::{
        Harness, Selection, Tier,
        driver::{SampleSettings, SuiteOptions},
    },
    datastore::Release,
    error::Result,
    model::{Setting, gib, mib},
};
use trove_drivers::conformance::{DockerTestbed, LocalTestbed, Sessions};

/// Leaves out what exercises code that MySQL shares with MariaDB.
const MYSQL_ONLY: Selection = Selection::SpecificWithout(&[
    "accounts::users",
    "accounts::databases",
    "accounts::privileges",
    "accounts::identifiers",
    "accounts::pagination",
    "accounts::hosts",
    "accounts::concurrency",
    "accounts::cancellation",
]);

fn main() -> ExitCode {
    // Dropped, and thereby removed, after the last test.
    let images = Arc::new(Mutex::new(Images::new()));
    let full = Tier::from_env() == Tier::Full;
    let selection = if full { Selection::All } else { Selection::Specific };
    let mut harness = Harness::from_args().platform("local", async || LocalTestbed::new(POSTGRESQL_17.image()));
    let engines = [POSTGRESQL_17, MYSQL_9_7, MARIADB_11_8, POSTGRESQL_15, POSTGRESQL_18];
    // The quick tier runs MariaDB on its older version, from which it upgrades to the other one.
    for engine in engines.into_iter().take(if full { 5 } else { 2 }) {
        let name = format!("{}_{}", engine.datastore, engine.version.replace('.', "_"));
        let images = images.clone();
        let selection = if !full && engine.datastore == "mysql" { MYSQL_ONLY } else { selection };
        harness = harness.driver(&name, selection, async move || {
            let patched = images.lock().await.patched(engine).await;
            testbed(engine, Release::new(engine.version, patched))
        });
    }
    harness
        .driver("mariadb_10_11_to_11_8", selection, async || {
            testbed(MARIADB_10_11, Release::new(MARIADB_11_8.version, MARIADB_11_8.image()))
        })
        .run()
}

fn testbed(engine: EngineVersion, target: Release) -> Result<DockerTestbed> {
    let testbed = DockerTestbed::new(engine.driver())?
        .version(engine.version)
        .memory(mib(engine.memory_mib))
        .volume(gib(2))
        .upgrade_target(target)
        .options(SuiteOptions::for_tier(Tier::from_env()));
    Ok(match engine.datastore {
        "postgresql" => with_sessions(testbed, PostgreSqlSessions, postgresql_samples()),
        "mysql" => with_sessions(testbed, MySqlSessions, mysql_samples(("myisam_recover_options", "never"))),
        _ => with_sessions(testbed, MySqlSessions, mysql_samples(("lc_messages", "xx_YY"))),
    })
}

fn with_sessions(testbed: DockerTestbed, sessions: impl Sessions, samples: SampleSettings) -> DockerTestbed {
    testbed.sessions(sessions).sample_settings(samples)
}

fn postgresql_samples() -> SampleSettings {
    let mut samples = SampleSettings::default();
    samples.dynamic = Some(("work_mem".to_owned(), 2048.into(), 3072.into()));
    samples.restart = Some(("max_locks_per_transaction".to_owned(), 77.into(), 78.into()));
    samples.rejected = Some(("DateStyle".to_owned(), "never".into()));
    samples.fatal = Some(("shared_buffers".to_owned(), Setting::Integer(1_073_741_823)));
    samples
}

fn mysql_samples(fatal: (&str, &str)) -> SampleSettings {
    let mut samples = SampleSettings::default();
    samples.dynamic = Some(("max_connect_errors".to_owned(), 77.into(), 78.into()));
    samples.restart = Some(("back_log".to_owned(), 77.into(), 78.into()));
    samples.rejected = Some(("ft_boolean_syntax".to_owned(), "never".into()));
    samples.fatal = Some((fatal.0.to_owned(), fatal.1.into()));
    samples
}
