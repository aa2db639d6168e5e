//! The suites of drivers and platforms on those in memory.

use trove_core::conformance::{driver, memory::World, platform};

#[tokio::test(start_paused = true)]
async fn the_reference_driver_passes() {
    let report = driver::certify(World::new().testbed()).await;
    assert!(report.passed(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn the_platform_in_memory_passes() {
    let report = platform::certify(World::new()).await;
    assert!(report.passed(), "{report}");
}
