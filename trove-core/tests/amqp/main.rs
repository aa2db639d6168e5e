//! Frames over a real RabbitMQ.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod broker;

use broker::{Bed, RabbitMq};
use trove_core::conformance::transport;

#[tokio::test(flavor = "multi_thread")]
async fn it_is_the_transport_that_is_promised() {
    let report = transport::certify("RabbitMQ", Bed(RabbitMq::shared().await)).await;
    assert!(report.passed(), "{report}");
    println!("{report}");
}
