use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::TransportTestbed;
use crate::{
    error::{Kind, Result},
    id::InstanceId,
    rpc::{Address, Delivery, QueueConsumer, Transport},
};

/// How long a sent frame may take to arrive.
pub(super) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// The interval at which a condition is checked again.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The two queues of one instance, and the transports of both sides.
pub(in crate::conformance) struct QueueFixture {
    pub(super) testbed: Arc<dyn TransportTestbed>,
    pub(super) control: Arc<dyn Transport>,
    pub(super) guest: Arc<dyn Transport>,
    pub(super) instance: InstanceId,
    pub(super) to_guest: Address,
    pub(super) to_control: Address,
}

impl QueueFixture {
    pub(super) async fn create(testbed: Arc<dyn TransportTestbed>) -> Self {
        let instance = InstanceId::new_v4();
        let control = testbed.control();
        let (to_guest, to_control) = (Address::guest(instance), Address::control(instance));
        for address in [&to_guest, &to_control] {
            control.create(address).await.unwrap();
        }
        let guest = testbed.guest(instance).await.unwrap();
        Self { testbed, control, guest, instance, to_guest, to_control }
    }

    pub(super) async fn remove(self) {
        for address in [&self.to_guest, &self.to_control] {
            self.control.remove(address).await.unwrap();
        }
    }

    /// Opens the consumer of the guest's queue.
    pub(super) async fn consume(&self) -> Box<dyn QueueConsumer> {
        self.open(&self.guest, &self.to_guest).await
    }

    /// Opens a consumer, retrying while the previous one is being closed.
    pub(super) async fn open(&self, transport: &Arc<dyn Transport>, address: &Address) -> Box<dyn QueueConsumer> {
        let open = async {
            loop {
                match transport.open(address).await {
                    Ok(consumer) => return consumer,
                    Err(error) if error.kind() == Kind::Conflict => sleep(POLL_INTERVAL).await,
                    Err(error) => panic!("could not open {address}: {error:?}"),
                }
            }
        };
        timeout(DELIVERY_TIMEOUT, open).await.expect("the previous consumer was not closed")
    }

    /// Sends a text from the control plane to the guest.
    pub(super) async fn send(&self, text: &str) {
        self.control.send(&self.to_guest, text.into()).await.unwrap();
    }
}

/// Returns the next delivery, which must arrive in time.
pub(super) async fn receive(consumer: &mut Box<dyn QueueConsumer>) -> Delivery {
    timeout(DELIVERY_TIMEOUT, consumer.receive()).await.expect("no frame arrived").unwrap()
}

/// Acknowledges the next frame and returns its text.
pub(super) async fn receive_text(consumer: &mut Box<dyn QueueConsumer>) -> String {
    let delivery = receive(consumer).await;
    let text = String::from_utf8(delivery.frame().to_vec()).unwrap();
    delivery.acknowledge().await.unwrap();
    text
}

/// Returns the kind of an error.
pub(super) fn kind<T>(result: Result<T>) -> Option<Kind> {
    result.err().map(|error| error.kind())
}
