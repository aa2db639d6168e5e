//! The driver suite finds every bug that is seeded into the reference driver, and no bug in the
//! reference driver itself.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod accounts;
mod bugs;
mod configuration;
mod datastore;
mod driver;
mod resize;
mod testbed;
mod upgrade;

use std::{fmt::Write, panic, sync::Once};

use trove_core::conformance::{
    Tier,
    driver::{certify, certify_matching},
};

use bugs::Bug;
use testbed::BuggyTestbed;

#[tokio::test(start_paused = true)]
async fn the_reference_driver_passes_repeatedly() {
    let times = if Tier::from_env() == Tier::Full { 10 } else { 1 };
    for _ in 0..times {
        let report = certify(BuggyTestbed::new(Bug::None)).await;
        assert!(report.passed(), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn bugs_in_users_and_passwords_are_found() {
    assert_found(bugs::USERS).await;
}

#[tokio::test(start_paused = true)]
async fn bugs_in_identifiers_and_pagination_are_found() {
    assert_found(bugs::IDENTIFIERS).await;
}

#[tokio::test(start_paused = true)]
async fn bugs_in_databases_privileges_and_root_are_found() {
    assert_found(bugs::PRIVILEGES).await;
}

#[tokio::test(start_paused = true)]
async fn bugs_in_fencing_and_retries_are_found() {
    assert_found(bugs::RETRIES).await;
}

#[tokio::test(start_paused = true)]
async fn bugs_in_lifecycle_and_observation_are_found() {
    assert_found(bugs::LIFECYCLE).await;
}

#[tokio::test(start_paused = true)]
async fn bugs_in_configuration_upgrade_and_resize_are_found() {
    assert_found(bugs::CONFIGURATION).await;
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_contradicts_the_abilities_fails_exactly_one_case() {
    silence_cases();
    for (bug, case) in bugs::ABILITIES {
        let report = certify(BuggyTestbed::new(*bug)).await;
        let failed: Vec<_> = report.failures().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(failed, [*case], "{bug:?}\n{report}");
    }
}

/// Silences the panics of cases, because most of them are expected to fail.
fn silence_cases() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !info.location().is_some_and(|location| location.file().contains("conformance")) {
                default(info);
            }
        }));
    });
}

/// Asserts that each bug is found by its case. In the full tier all cases run, and the table shows
/// how many others find the bug too.
async fn assert_found(bugs: &[(Bug, &str)]) {
    silence_cases();
    let (mut table, mut missed) = (String::new(), 0);
    for (bug, case) in bugs {
        let filter = if Tier::from_env() == Tier::Full { "" } else { case };
        let report = certify_matching(BuggyTestbed::new(*bug), filter).await;
        let finding = report.failures().filter(|(name, _)| name.ends_with(case)).count();
        missed += usize::from(finding == 0);
        let word = if finding == 0 { "MISSED" } else { "found" };
        let others = report.failures().count() - finding;
        writeln!(table, "{word:<7}{:<32}{case} and {others} more", format!("{bug:?}"))
            .expect("writing to a string does not fail");
    }
    assert_eq!(missed, 0, "\n{table}");
    println!("{table}");
}
