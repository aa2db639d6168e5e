//! A service with two instances; an attacker has the secrets of one.

use std::sync::Arc;

use async_trait::async_trait;
use lapin::{Channel, Connection};
use serde_json::Value;
use tempfile::TempDir;
use trove_core::{
    Trove,
    control::{InstanceHandle, NewInstance},
    error::Result,
    events::EventStream,
    id::InstanceId,
    layer::DriverExt,
    model::{Condition, Endpoint, EventKind, Health, Instance, NewUser, PageRequest, Problem},
    platform::{AgentSetup, Compute, Ensured, Placement},
    rpc::{Address, DropReason},
    secret::ExposeSecret,
};
use uuid::Uuid;

use super::{
    TIMEOUT,
    frame::{CALL, CAST, Frame, REPLY},
    tap::{RecordedFrame, StolenSecrets, Tap, TappedBroker, confirming, put},
};
use crate::{
    broker::RabbitMqContainer,
    call_gate::CallGate,
    logs,
    remote_agent::{GuestPlacement, RemoteAgents, fast_settings},
};

/// A service, its broker, and the attacker.
pub struct AdversaryFixture {
    pub broker: Arc<RabbitMqContainer>,
    pub agents: RemoteAgents,
    pub tap: Arc<Tap>,
    pub trove: Trove,
    pub stolen: InstanceHandle,
    pub innocent: InstanceHandle,
    pub secrets: StolenSecrets,
    pub events: EventStream,
    passwords: Vec<String>,
    admin_channel: Channel,
    attacker_channel: Channel,
    placement: GuestPlacement,
    pub gate: CallGate,
    pub store: TempDir,
    pub connections: [Connection; 2],
}

impl AdversaryFixture {
    pub async fn new(placement: GuestPlacement) -> Self {
        logs::capture();
        let (broker, agents) = (RabbitMqContainer::shared().await, RemoteAgents::new());
        let tap = Tap::new(&broker).await;
        let store = tempfile::tempdir().unwrap();
        let gate = CallGate::new();
        let trove = start(&broker, &agents, &tap, placement, &gate, &store).await;
        let passwords = [(); 2].map(|()| Uuid::new_v4().to_string());
        let new = |name: &str, password: &String| {
            NewInstance::new(name, "memory").database("app").user("app", password.as_str())
        };
        let [stolen, innocent] = [("stolen", &passwords[0]), ("innocent", &passwords[1])].map(|(name, password)| {
            let (trove, new) = (trove.clone(), new(name, password));
            async move { trove.create(new).await.unwrap().active().await.unwrap() }
        });
        let (stolen, innocent) = tokio::join!(stolen, innocent);
        let secrets = StolenSecrets::of(&agents, stolen.id);
        let connections = [broker.connect(&broker.control_login()).await, broker.connect(&secrets.login).await];
        let connections = connections.map(|connection| connection.unwrap());
        let (admin_channel, attacker_channel) = (confirming(&connections[0]).await, confirming(&connections[1]).await);
        let events = trove.events();
        let mut fixture = Self {
            broker,
            agents,
            tap,
            trove,
            stolen,
            innocent,
            secrets,
            events,
            passwords: passwords.into(),
            admin_channel,
            attacker_channel,
            placement,
            gate,
            store,
            connections,
        };
        fixture.assert_innocent_unaffected().await;
        fixture
    }

    /// Sends a frame to the control plane with the stolen login.
    pub async fn send(&self, frame: &[u8]) {
        put(&self.attacker_channel, &Address::control(self.stolen.id).to_string(), "", frame).await;
    }

    /// Puts a frame into a queue with full access to the broker.
    pub async fn put(&self, to: Address, frame: &[u8]) {
        put(&self.admin_channel, "", &to.to_string(), frame).await;
    }

    /// Returns the last frame of this kind that was sent to an address.
    pub async fn last(&self, to: Address, kind: u8) -> Vec<u8> {
        self.tap.find(|sent| sent.to == to && sent.frame[1] == kind).await
    }

    /// Returns the header of the next frame that a guest could send in its current session.
    pub async fn next(&self, instance: InstanceId, kind: u8) -> Frame {
        let from_guest =
            |sent: &RecordedFrame| sent.to == Address::control(instance) && [REPLY, CAST].contains(&sent.frame[1]);
        let last = Frame::read(&self.tap.find(from_guest).await);
        Frame { kind, sequence: last.sequence + 1000, correlation: Uuid::new_v4(), ..last }
    }

    /// Returns a heartbeat of the stolen guest, changed to report that its server is down with this
    /// message.
    pub async fn false_report(&self, message: &str) -> Value {
        let sent = self.tap.find(|sent| {
            let text = Frame::open(&self.secrets.key, &sent.frame).unwrap_or_default();
            sent.to == Address::control(self.stolen.id) && text.starts_with(b"{\"Observed\"")
        });
        let text = Frame::open(&self.secrets.key, &sent.await).unwrap();
        let mut heartbeat: Value = serde_json::from_slice(&text).unwrap();
        let down = Health::Down(Problem::new(Condition::DataMissing, message));
        replace(&mut heartbeat, "/Observed/observed/health", serde_json::to_value(down).unwrap());
        heartbeat
    }

    /// Returns a request to drop the user `app`, as the service would send it to the stolen guest.
    pub async fn drop_user_request(&self) -> Value {
        self.stolen.accounts().drop_user("nobody").await.unwrap();
        let call = self.last(Address::guest(self.stolen.id), CALL).await;
        let text = String::from_utf8(Frame::open(&self.secrets.key, &call).unwrap()).unwrap();
        let mut drop_user_request: Value = serde_json::from_str(&text.replace("nobody", "app")).unwrap();
        replace(&mut drop_user_request, "/Accounts/operation", Uuid::new_v4().to_string().into());
        drop_user_request
    }

    /// Waits until the stolen guest has processed that request.
    pub async fn until_processed(&self) {
        let processed = async {
            while !self.agents.world.serves(self.stolen.id, &["app"], &[]) {
                tokio::time::sleep(crate::POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(TIMEOUT, processed).await.expect("the request was not processed");
    }

    /// Returns the number of frames that were dropped for this reason.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.trove.dropped_frames().count(reason)
    }

    /// Returns the number of frames that were dropped.
    pub fn dropped(&self) -> u64 {
        DropReason::ALL.into_iter().map(|reason| self.count(reason)).sum()
    }

    /// Waits until this number of frames were dropped for this reason.
    pub async fn until_dropped(&self, reason: DropReason, count: u64) {
        let dropped = async {
            while self.count(reason) < count {
                tokio::time::sleep(crate::POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(TIMEOUT, dropped).await.expect("no frame was dropped");
    }

    /// Waits until both guests have processed their queues.
    pub async fn drain(&self) {
        for instance in [&self.stolen, &self.innocent] {
            users(instance).await;
        }
    }

    /// Waits for a health event of the instance with this message; none may be attributed to the
    /// other instance.
    pub async fn until_reported(&mut self, instance: InstanceId, message: &str) {
        let reported = async {
            loop {
                let event = self.events.next().await.unwrap();
                let EventKind::Health { health } = &event.kind else { continue };
                let Some(problem) = health.problem() else { continue };
                let matches = problem.message == message;
                assert!(matches || event.instance != self.innocent.id, "attributed to the other instance: {event:?}");
                if matches && event.instance == instance {
                    return;
                }
            }
        };
        tokio::time::timeout(TIMEOUT, reported).await.expect("the report did not arrive");
    }

    /// Asserts that no forged report was attributed to the innocent instance, that its own guest
    /// reports and accepts requests, and that the other guest accepts requests.
    pub async fn assert_innocent_unaffected(&mut self) {
        let id = self.innocent.id;
        self.drain().await;
        let message = Uuid::new_v4().to_string();
        let full = Problem::new(Condition::DiskFull, message.as_str());
        self.agents.world.break_server(id, Health::Impaired(full));
        self.until_reported(id, &message).await;
        self.innocent.restart().await.unwrap().active().await.unwrap();
        self.events = self.trove.events();
        let accounts = self.innocent.accounts();
        accounts.create_users([NewUser::new("probe", message)]).await.unwrap();
        assert_eq!(users(&self.innocent).await, ["app", "probe"]);
        accounts.drop_user("probe").await.unwrap();
        assert!(self.agents.world.serves(id, &["app"], &["app"]));
        users(&self.stolen).await;
    }

    /// Restarts the service after a shutdown.
    pub async fn resume(&mut self) {
        self.trove = start(&self.broker, &self.agents, &self.tap, self.placement, &self.gate, &self.store).await;
        self.events = self.trove.events();
        self.stolen = self.trove.instance(self.stolen.id).await.unwrap();
        self.innocent = self.trove.instance(self.innocent.id).await.unwrap();
        self.drain().await;
    }

    /// Removes the instances, and asserts that no secret was logged.
    pub async fn finish(mut self) {
        self.assert_innocent_unaffected().await;
        for instance in [&self.stolen, &self.innocent] {
            instance.delete().await.unwrap().wait().await.unwrap();
        }
        assert_eq!(self.agents.world.leftovers(), [""; 0]);
        let drop_event = (self.dropped() > 0).then_some("dropped a frame");
        self.trove.shut_down().await;
        for event in [" TRACE lapin::", " DEBUG sqlx::"].into_iter().chain(drop_event) {
            assert!(logs::contains(event), "{event:?} is not logged");
        }
        for password in &self.passwords {
            logs::assert_absent("a user's password", password.as_bytes());
        }
        for id in [self.stolen.id, self.innocent.id] {
            let secrets = StolenSecrets::of(&self.agents, id);
            logs::assert_absent("a guest's password at the broker", secrets.login.password.expose_secret().as_bytes());
            logs::assert_absent("a guest's key", &secrets.key);
        }
        let control = self.broker.control_login();
        logs::assert_absent("the service's password at the broker", control.password.expose_secret().as_bytes());
    }
}

/// Returns the names of the users, retrying until the service reaches the guest.
pub async fn users(instance: &InstanceHandle) -> Vec<String> {
    loop {
        match instance.accounts().users(PageRequest::default()).await {
            Err(error) if error.is_transient() => tokio::time::sleep(crate::POLL_INTERVAL).await,
            users => return users.unwrap().items.into_iter().map(|user| user.user.name).collect(),
        }
    }
}

async fn start(
    broker: &RabbitMqContainer,
    agents: &RemoteAgents,
    tap: &Arc<Tap>,
    placement: GuestPlacement,
    gate: &CallGate,
    store: &TempDir,
) -> Trove {
    let gate = gate.clone();
    let tapped = TappedBroker { broker: broker.direct(), tap: tap.clone() };
    let mut platform = agents.platform();
    platform.compute = Arc::new(PlacedCompute { agents: agents.clone(), placement });
    let store = format!("sqlite:{}", store.path().join("trove.db").display());
    let service =
        Trove::builder().store(store).platform(platform).datastore(agents.world.driver().layer(move |_| gate.clone()));
    service.message_broker(tapped).guest_settings(fast_settings()).start().await.unwrap()
}

/// Places guests in this process, except the stolen one if it is remote.
struct PlacedCompute {
    agents: RemoteAgents,
    placement: GuestPlacement,
}

#[async_trait]
impl Compute for PlacedCompute {
    async fn ensure_compute(
        &self,
        instance: &Instance,
        endpoint: &Endpoint,
        agent: Option<&AgentSetup>,
    ) -> Result<Ensured<Placement>> {
        if instance.name == "stolen" && self.placement == GuestPlacement::Remote {
            return self.agents.ensure_compute(instance, endpoint, agent).await;
        }
        self.agents.place_in_process(instance, endpoint, agent).await
    }

    async fn release_compute(&self, instance: InstanceId) -> Result<()> {
        self.agents.release_compute(instance).await
    }
}

/// Replaces a value that a message contains. An assignment by index would silently add a field that was renamed.
pub fn replace(message: &mut Value, pointer: &str, value: Value) {
    *message.pointer_mut(pointer).unwrap_or_else(|| panic!("the message has no {pointer}")) = value;
}
