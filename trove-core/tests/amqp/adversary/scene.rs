//! A service with two instances: of one everything is stolen, the other is innocent.

use std::sync::Arc;

use async_trait::async_trait;
use lapin::{Channel, Connection};
use serde_json::Value;
use tempfile::TempDir;
use trove_core::{
    Trove,
    control::{InstanceHandle, NewInstance},
    datastore::Driver,
    error::Result,
    events::EventStream,
    id::InstanceId,
    model::{Condition, Endpoint, EventKind, Health, Instance, NewUser, PageRequest, Problem},
    platform::{AgentSetup, Compute, Ensured, Placement},
    rpc::{Address, DropReason},
    secret::ExposeSecret,
};
use uuid::Uuid;

use super::{
    PATIENCE,
    frame::{CALL, CAST, Frame, REPLY},
    wire::{Loot, Seen, Tap, Tapped, confirming, put},
};
use crate::{
    apart::{Apart, often},
    broker::RabbitMq,
    gate::Gate,
    logs,
};

/// Where the guest lives whose secrets are stolen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// Elsewhere.
    Apart,
    /// In the service's process, so that its service counts what it drops.
    Here,
}

/// A service, its broker, and what the thief has.
pub struct Scene {
    pub broker: Arc<RabbitMq>,
    pub apart: Apart,
    pub tap: Arc<Tap>,
    pub trove: Trove,
    pub stolen: InstanceHandle,
    pub innocent: InstanceHandle,
    pub loot: Loot,
    pub events: EventStream,
    passwords: Vec<String>,
    wire: Channel,
    thief: Channel,
    home: Home,
    pub gate: Gate,
    pub store: TempDir,
    pub connections: [Connection; 2],
}

impl Scene {
    pub async fn new(home: Home) -> Self {
        logs::keep();
        let (broker, apart) = (RabbitMq::shared().await, Apart::new());
        let tap = Tap::new(&broker).await;
        let store = tempfile::tempdir().unwrap();
        let gate = Gate::new();
        let trove = start(&broker, &apart, &tap, home, &gate, &store).await;
        let passwords = [(); 2].map(|()| Uuid::new_v4().to_string());
        let new = |name: &str, password: &String| {
            NewInstance::new(name, "memory").database("app").user("app", password.as_str())
        };
        let [stolen, innocent] = [("stolen", &passwords[0]), ("innocent", &passwords[1])].map(|(name, password)| {
            let (trove, new) = (trove.clone(), new(name, password));
            async move { trove.create(new).await.unwrap().active().await.unwrap() }
        });
        let (stolen, innocent) = tokio::join!(stolen, innocent);
        let loot = Loot::of(&apart, stolen.id);
        let connections = [broker.connect(&broker.control_login()).await, broker.connect(&loot.login).await];
        let connections = connections.map(|connection| connection.unwrap());
        let (wire, thief) = (confirming(&connections[0]).await, confirming(&connections[1]).await);
        let events = trove.events();
        let mut scene = Self {
            broker,
            apart,
            tap,
            trove,
            stolen,
            innocent,
            loot,
            events,
            passwords: passwords.into(),
            wire,
            thief,
            home,
            gate,
            store,
            connections,
        };
        scene.is_unharmed().await;
        scene
    }

    /// The thief sends this to the control plane, over the stolen login.
    pub async fn send(&self, frame: &[u8]) {
        put(&self.thief, &Address::control(self.stolen.id).to_string(), "", frame).await;
    }

    /// Somebody who is the broker puts this into a mailbox.
    pub async fn put(&self, to: Address, frame: &[u8]) {
        put(&self.wire, "", &to.to_string(), frame).await;
    }

    /// The last frame that was sent to an address.
    pub async fn last(&self, to: Address, kind: u8) -> Vec<u8> {
        self.tap.find(|seen| seen.to == to && seen.frame[1] == kind).await
    }

    /// The next frame that the guest of an instance may send, in the session that stands.
    pub async fn next(&self, instance: InstanceId, kind: u8) -> Frame {
        let said = |seen: &Seen| seen.to == Address::control(instance) && [REPLY, CAST].contains(&seen.frame[1]);
        let last = Frame::read(&self.tap.find(said).await);
        Frame { kind, sequence: last.sequence + 1000, correlation: Uuid::new_v4(), ..last }
    }

    /// A heartbeat as the stolen guest sends them, which says that its server is down, in these words.
    pub async fn lie(&self, words: &str) -> Value {
        let seen = self.tap.find(|seen| {
            let text = Frame::open(&self.loot.key, &seen.frame).unwrap_or_default();
            seen.to == Address::control(self.stolen.id) && text.starts_with(b"{\"Seen\"")
        });
        let text = Frame::open(&self.loot.key, &seen.await).unwrap();
        let mut heartbeat: Value = serde_json::from_slice(&text).unwrap();
        let down = Health::Down(Problem::new(Condition::DataMissing, words));
        heartbeat["Seen"]["observed"]["health"] = serde_json::to_value(down).unwrap();
        heartbeat
    }

    /// An order to drop the user `app`, as the service would give it to the stolen guest.
    pub async fn order(&self) -> Value {
        self.stolen.accounts().drop_user("nobody").await.unwrap();
        let call = self.last(Address::guest(self.stolen.id), CALL).await;
        let text = String::from_utf8(Frame::open(&self.loot.key, &call).unwrap()).unwrap();
        let mut order: Value = serde_json::from_str(&text.replace("nobody", "app")).unwrap();
        order["Accounts"]["operation"] = Uuid::new_v4().to_string().into();
        order
    }

    /// Waits until the stolen guest has obeyed that order.
    pub async fn obeys(&self) {
        let obeyed = async {
            while !self.apart.world.serves(self.stolen.id, &["app"], &[]) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, obeyed).await.expect("it does not obey");
    }

    /// How many frames were dropped for this reason.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.trove.dropped_frames().count(reason)
    }

    /// How many frames were dropped.
    pub fn refused(&self) -> u64 {
        DropReason::ALL.into_iter().map(|reason| self.count(reason)).sum()
    }

    /// Waits until so many frames were dropped for this reason.
    pub async fn until_refused(&self, reason: DropReason, count: u64) {
        let refused = async {
            while self.count(reason) < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.expect("it is not refused");
    }

    /// Waits until all that is in the mailboxes was heard.
    pub async fn is_heard(&self) {
        for instance in [&self.stolen, &self.innocent] {
            users(instance).await;
        }
    }

    /// Waits until the stolen guest is believed to say this, or the innocent one.
    pub async fn believes(&mut self, instance: InstanceId, words: &str) {
        let believed = async {
            loop {
                let event = self.events.next().await.unwrap();
                let EventKind::Health { health } = &event.kind else { continue };
                let Some(problem) = health.problem() else { continue };
                let said = problem.message == words;
                assert!(said || event.instance != self.innocent.id, "it was believed of the innocent: {event:?}");
                if said && event.instance == instance {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, believed).await.expect("nobody is heard");
    }

    /// Shows that nothing was believed of the innocent instance since this was shown last, that its own guest is heard and
    /// that it is served, as the other is.
    pub async fn is_unharmed(&mut self) {
        let id = self.innocent.id;
        self.is_heard().await;
        let words = Uuid::new_v4().to_string();
        let full = Problem::new(Condition::DiskFull, words.as_str());
        self.apart.world.break_server(id, Health::Impaired(full));
        self.believes(id, &words).await;
        self.innocent.restart().await.unwrap().active().await.unwrap();
        self.events = self.trove.events();
        let accounts = self.innocent.accounts();
        accounts.create_users([NewUser::new("probe", words)]).await.unwrap();
        assert_eq!(users(&self.innocent).await, ["app", "probe"]);
        accounts.drop_user("probe").await.unwrap();
        assert!(self.apart.world.serves(id, &["app"], &["app"]));
        users(&self.stolen).await;
    }

    /// Begins the service that has ended.
    pub async fn resume(&mut self) {
        self.trove = start(&self.broker, &self.apart, &self.tap, self.home, &self.gate, &self.store).await;
        self.events = self.trove.events();
        self.stolen = self.trove.instance(self.stolen.id).await.unwrap();
        self.innocent = self.trove.instance(self.innocent.id).await.unwrap();
        self.is_heard().await;
    }

    /// Ends the scene, and shows that nothing secret was logged.
    pub async fn end(mut self) {
        self.is_unharmed().await;
        for instance in [&self.stolen, &self.innocent] {
            instance.delete().await.unwrap().wait().await.unwrap();
        }
        assert_eq!(self.apart.world.residue(), [""; 0]);
        let dropped = (self.refused() > 0).then_some("dropped a frame");
        self.trove.shut_down().await;
        for told in [" TRACE lapin::", " DEBUG sqlx::"].into_iter().chain(dropped) {
            assert!(logs::tell(told), "{told:?} is not logged");
        }
        for password in &self.passwords {
            logs::say_nothing_of("a user's password", password.as_bytes());
        }
        for id in [self.stolen.id, self.innocent.id] {
            let loot = Loot::of(&self.apart, id);
            logs::say_nothing_of("a guest's password at the broker", loot.login.password.expose_secret().as_bytes());
            logs::say_nothing_of("a guest's key", &loot.key);
        }
        let control = self.broker.control_login();
        logs::say_nothing_of("the service's password at the broker", control.password.expose_secret().as_bytes());
    }
}

/// The names of its users, as soon as the service has its guest again.
pub async fn users(instance: &InstanceHandle) -> Vec<String> {
    loop {
        match instance.accounts().users(PageRequest::default()).await {
            Err(error) if error.is_transient() => tokio::task::yield_now().await,
            users => return users.unwrap().items.into_iter().map(|user| user.user.name).collect(),
        }
    }
}

async fn start(broker: &RabbitMq, apart: &Apart, tap: &Arc<Tap>, home: Home, gate: &Gate, store: &TempDir) -> Trove {
    let gate = gate.clone();
    let bus = Tapped { bus: broker.direct(), tap: tap.clone() };
    let mut platform = apart.platform();
    platform.compute = Arc::new(Homes { apart: apart.clone(), home });
    let store = format!("sqlite:{}", store.path().join("trove.db").display());
    let service =
        Trove::builder().store(store).platform(platform).datastore(apart.world.driver().layer(move |_| gate.clone()));
    service.message_broker(bus).guest_settings(often()).start().await.unwrap()
}

/// Places guests in this process, but for the stolen one where that is to be elsewhere.
struct Homes {
    apart: Apart,
    home: Home,
}

#[async_trait]
impl Compute for Homes {
    async fn ensure_compute(
        &self,
        instance: &Instance,
        endpoint: &Endpoint,
        agent: Option<&AgentSetup>,
    ) -> Result<Ensured<Placement>> {
        if instance.name == "stolen" && self.home == Home::Apart {
            return self.apart.ensure_compute(instance, endpoint, agent).await;
        }
        self.apart.place(instance, endpoint, agent).await
    }

    async fn release_compute(&self, instance: InstanceId) -> Result<()> {
        self.apart.release_compute(instance).await
    }
}
