//! The suite of drivers on the reference driver.

use trove_core::conformance::{driver, memory::World};

#[tokio::test(start_paused = true)]
async fn the_reference_driver_passes() {
    let report = driver::certify(World::new().testbed()).await;
    assert!(report.passed(), "{report}");
    assert!(report.cases.len() >= 90, "{} cases", report.cases.len());
}
