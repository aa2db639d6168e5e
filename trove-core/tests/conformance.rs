//! The suites of drivers and platforms on those in memory.

use trove_core::{
    conformance::{driver, memory::World, platform},
    datastore::AccountRules,
};

#[tokio::test(start_paused = true)]
async fn the_reference_driver_passes() {
    let report = driver::certify(World::new().testbed()).await;
    assert!(report.passed(), "{report}");
    assert!(report.cases.len() >= 90, "{} cases", report.cases.len());
}

#[tokio::test(start_paused = true)]
async fn accounts_without_databases_and_with_hosts_pass_too() {
    let (mut shared, mut hosts) = (AccountRules::new(32), AccountRules::new(63));
    shared.databases = false;
    hosts.hosts = true;
    for rules in [shared, hosts] {
        let report = driver::certify_only(World::new().account_rules(rules).testbed(), "accounts").await;
        assert!(report.passed(), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_platform_in_memory_passes() {
    let report = platform::certify("memory", World::new()).await;
    assert!(report.passed(), "{report}");
}
