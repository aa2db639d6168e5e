//! The suite of platforms on this machine.

use trove_core::conformance::platform;
use trove_drivers::conformance::LocalTestbed;

#[tokio::test]
async fn the_local_platform_passes() {
    let report = platform::certify("local", LocalTestbed::new().unwrap()).await;
    assert!(report.passed(), "{report}");
}
