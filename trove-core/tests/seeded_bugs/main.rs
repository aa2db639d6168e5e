//! The suite of drivers finds every bug that is seeded into the reference driver, and none in the driver itself.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod accounts;
mod bugs;
mod changes;
mod driver;
mod life;
mod testbed;

use std::{fmt::Write, panic, sync::Once};

use trove_core::conformance::{
    Tier,
    driver::{certify, certify_matching},
};

use bugs::Bug;
use testbed::FaultyTestbed;

#[tokio::test(start_paused = true)]
async fn the_reference_driver_passes_every_time() {
    let times = if Tier::from_env() == Tier::Full { 10 } else { 1 };
    for _ in 0..times {
        let report = certify(FaultyTestbed::new(Bug::None)).await;
        assert!(report.passed(), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn bugs_of_users_are_found() {
    are_found(bugs::USERS).await;
}

#[tokio::test(start_paused = true)]
async fn bugs_of_names_are_found() {
    are_found(bugs::NAMES).await;
}

#[tokio::test(start_paused = true)]
async fn bugs_of_rights_are_found() {
    are_found(bugs::RIGHTS).await;
}

#[tokio::test(start_paused = true)]
async fn bugs_of_calls_are_found() {
    are_found(bugs::CALLS).await;
}

#[tokio::test(start_paused = true)]
async fn bugs_of_a_servers_life_are_found() {
    are_found(bugs::LIFE).await;
}

#[tokio::test(start_paused = true)]
async fn bugs_of_settings_releases_and_sizes_are_found() {
    are_found(bugs::CHANGES).await;
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_contradicts_the_abilities_fails_exactly_one_case() {
    silence_cases();
    for (bug, case) in bugs::ABILITIES {
        let report = certify(FaultyTestbed::new(*bug)).await;
        let failed: Vec<_> = report.failures().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(failed, [*case], "{bug:?}\n{report}");
    }
}

/// Silences the panics of cases, most of which are meant to fail.
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

/// Asserts that the case of each bug finds it. In the full tier all cases run, to print how many others find it too.
async fn are_found(bugs: &[(Bug, &str)]) {
    silence_cases();
    let (mut table, mut missed) = (String::new(), 0);
    for (bug, case) in bugs {
        let filter = if Tier::from_env() == Tier::Full { "" } else { case };
        let report = certify_matching(FaultyTestbed::new(*bug), filter).await;
        let finding = report.failures().filter(|(name, _)| name.ends_with(case)).count();
        missed += usize::from(finding == 0);
        let word = if finding == 0 { "MISSED" } else { "found" };
        let others = report.failures().count() - finding;
        writeln!(table, "{word:<7}{:<32}{case} and {others} more", format!("{bug:?}")).expect("a string takes all");
    }
    assert_eq!(missed, 0, "\n{table}");
    println!("{table}");
}
