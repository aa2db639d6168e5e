//! The whole service on real servers of all engines: settings, releases and flavors change, and no row is lost.

use std::process::Command;

use crate::common::{MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, POSTGRESQL_17, ScopeCleanup, Subject, is_quick_tier};
use tempfile::TempDir;
use trove_core::{
    Trove,
    control::{InstanceHandle, NewConfiguration, NewInstance, NewVersion},
    error::Kind,
    model::{Flavor, Settings, Status, mib},
};
use trove_drivers::LocalPlatform;

struct Service {
    trove: Trove,
    local: LocalPlatform,
    subject: Subject,
    _sweeper: ScopeCleanup,
    _directory: TempDir,
}

/// What tests change of a server's parameters.
struct Parameters {
    live: &'static str,
    at_restart: &'static str,
    /// Both are numbers; what a plain server has is another one.
    value: i64,
    show: fn(&str) -> String,
}

impl Service {
    async fn start(subject: Subject) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalPlatform::connect(directory.path().join("platform")).unwrap();
        let sweeper = ScopeCleanup { scope: local.scope().to_owned() };
        let trove = Trove::builder()
            .store(format!("sqlite:{}", directory.path().join("trove.db").display()))
            .platform(local.clone())
            .datastore(subject.driver())
            .flavor(Flavor::new("tiny", mib(subject.memory_mib), 1))
            .flavor(Flavor::new("larger", mib(subject.memory_mib * 2), 1))
            .start()
            .await
            .unwrap();
        Self { trove, local, subject, _sweeper: sweeper, _directory: directory }
    }

    /// An instance with a row in it.
    async fn create(&self, new: NewInstance) -> InstanceHandle {
        let new = new.version(self.subject.version).database("app").user("app", "secret");
        let instance = self.trove.create(new).await.unwrap().active().await.unwrap();
        crate::common::text(&instance, "CREATE TABLE t (a int)").await;
        self.write(&instance).await;
        instance
    }

    fn new_instance(&self) -> NewInstance {
        NewInstance::new("changing", self.subject.datastore)
    }

    async fn write(&self, instance: &InstanceHandle) {
        crate::common::text(instance, "INSERT INTO t VALUES (1)").await;
    }

    async fn rows(&self, instance: &InstanceHandle) -> String {
        crate::common::text(instance, "SELECT count(*) FROM t").await.unwrap()
    }

    async fn shows(&self, instance: &InstanceHandle, parameter: &str) -> String {
        crate::common::text(instance, &(self.parameters().show)(parameter)).await.unwrap()
    }

    fn parameters(&self) -> Parameters {
        let variable = |name: &str| format!("SELECT CAST(@@GLOBAL.{name} AS CHAR)");
        match self.subject.datastore {
            "postgresql" => Parameters {
                live: "log_autovacuum_min_duration",
                at_restart: "max_locks_per_transaction",
                value: 77,
                show: |name| format!("SELECT setting FROM pg_settings WHERE name = '{name}'"),
            },
            _ => Parameters { live: "max_connect_errors", at_restart: "back_log", value: 77, show: variable },
        }
    }

    async fn end(self, instances: impl IntoIterator<Item = InstanceHandle>) {
        for instance in instances {
            instance.delete().await.unwrap().wait().await.unwrap();
        }
        assert_eq!(self.local.inventory().await.unwrap(), Vec::<String>::new());
        self.trove.shut_down().await;
    }
}

fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// An image made of another one, gone when it is dropped.
struct Derived(String);

impl Derived {
    /// The same image with another label, or with another program in the place of the server's.
    fn new(from: &str, what: &str, broken: Option<&str>) -> Self {
        let name = format!("trove-test/{what}:{}", std::process::id());
        let script = match broken {
            // It still tells its version, as the real one does.
            Some(program) => format!(
                "p=$(command -v {program}); mv $p $p.real; \
                 printf '#!/bin/sh\\ncase \"$*\" in *--version*) exec '$p'.real --version;; esac\\nexit 3\\n' > $p; chmod 755 $p"
            ),
            None => "true".to_owned(),
        };
        let made = docker(&["run", "--detach", "--user=0", "--entrypoint=sh", from, "-c", &script]);
        assert_eq!(docker(&["wait", &made]), "0", "{}", docker(&["logs", &made]));
        docker(&["commit", "--change", &format!("LABEL made-for={what}"), &made, &name]);
        docker(&["rm", &made]);
        Self(name)
    }
}

impl Drop for Derived {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["image", "rm", &self.0]).output();
    }
}

async fn settings_are_told_by_the_server_and_given_to_it(subject: Subject) {
    let service = Service::start(subject).await;
    let (trove, parameters) = (&service.trove, service.parameters());
    let catalog = trove.datastores().parameters(subject.datastore, subject.version).await.unwrap();
    assert!(catalog.parameters.len() > 200 && catalog.digest.starts_with("sha256:"), "{}", catalog.digest);
    assert_eq!(service.local.inventory().await.unwrap(), Vec::<String>::new(), "the throw-away server is gone");
    let dynamic = |name: &str| catalog.parameter(name).unwrap().dynamic;
    assert!(dynamic(parameters.live) && !dynamic(parameters.at_restart));

    let group = |name: &str| NewConfiguration::new(name, subject.datastore).version(subject.version);
    let groups = trove.configurations();
    assert_eq!(groups.create(group("port").set("port", 1)).await.unwrap_err().kind(), Kind::Invalid);
    let live = groups.create(group("live").set(parameters.live, parameters.value)).await.unwrap();
    let born = service.create(service.new_instance().configuration(live.id)).await;
    let value = parameters.value.to_string();
    assert_eq!(service.shows(&born, parameters.live).await, value, "from the start");
    let before = service.shows(&born, parameters.at_restart).await;
    assert_ne!(before, value);

    let more = Settings::from([(parameters.at_restart.to_owned(), parameters.value.into())]);
    for operation in groups.set(live.id, more).await.unwrap() {
        operation.wait().await.unwrap();
    }
    let mut instance = trove.instance(born.id).await.unwrap();
    assert_eq!(instance.settings.restart_required, [parameters.at_restart]);
    assert_eq!(service.shows(&instance, parameters.at_restart).await, before);
    instance = instance.restart().await.unwrap().active().await.unwrap();
    assert_eq!(service.shows(&instance, parameters.at_restart).await, value);
    assert!(instance.settings.restart_required.is_empty());

    instance.unconfigure().await.unwrap().wait().await.unwrap();
    let plain = catalog.parameter(parameters.live).unwrap().default.clone().unwrap();
    assert_eq!(service.shows(&instance, parameters.live).await, plain, "back at the default");
    instance.refresh().await.unwrap();
    assert_eq!(instance.settings.restart_required, [parameters.at_restart]);
    groups.delete(live.id).await.unwrap();
    assert_eq!(service.rows(&instance).await, "1");
    service.end([instance]).await;
}

async fn releases_and_flavors_change_and_come_back(subject: Subject, program: &str) {
    let service = Service::start(subject).await;
    let instance = service.create(service.new_instance()).await;
    let registry = service.trove.datastores();
    let derived = |what: &str, broken| Derived::new(&subject.image(), &format!("{}-{what}", subject.datastore), broken);
    let (newer, broken) = (derived("newer", None), derived("broken", Some(program)));
    let version = |name: &str, image: &str| NewVersion::new(subject.datastore, name, subject.version, image.to_owned());
    for (name, image) in [("newer", newer.0.as_str()), ("broken", &broken.0), ("absent", "localhost:1/no/such:1")] {
        registry.add(version(name, image)).await.unwrap();
    }
    // Engines of one family have programs of the same names.
    let other = if subject.datastore == "mariadb" { MYSQL_9_7 } else { MARIADB_11_8 };
    registry.add(version("other", &other.image())).await.unwrap();
    let refused = service.trove.create(service.new_instance().version("other")).await.unwrap();
    let error = refused.wait().await.unwrap_err();
    assert_eq!(error.to_string(), format!("image {} does not contain {}", other.image(), subject.datastore));
    assert_eq!(error.kind(), Kind::Conflict);
    service.trove.instance(refused.instance_id()).await.unwrap().delete().await.unwrap().wait().await.unwrap();

    for (name, says) in [
        ("absent", "localhost:1/no/such:1"),
        ("other", &*format!("holds no {}", subject.datastore)),
        ("broken", "does not start"),
    ] {
        let error = instance.upgrade(name).await.unwrap().wait().await.unwrap_err();
        assert!(error.to_string().contains(says), "{name}: {error}");
        let kept = service.trove.instance(instance.id).await.unwrap();
        assert_eq!((kept.version.as_str(), kept.image.clone()), (subject.version, subject.image()));
        assert!(kept.fault.as_ref().unwrap().message.contains(says), "{:?}", kept.fault);
        service.write(&kept).await;
    }
    let upgraded = instance.upgrade("newer").await.unwrap().active().await.unwrap();
    assert_eq!((upgraded.version.as_str(), upgraded.image.as_str()), ("newer", newer.0.as_str()));
    service.write(&upgraded).await;

    let resized = upgraded.resize("larger").await.unwrap().active().await.unwrap();
    let limit = docker(&["inspect", "--format", "{{.HostConfig.Memory}}", &format!("trove-{}", resized.id)]);
    assert_eq!(limit, mib(subject.memory_mib * 2).as_bytes().to_string());
    assert_eq!((resized.status(), service.rows(&resized).await.as_str()), (Status::Active, "5"));
    service.end([resized]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_configured() {
    settings_are_told_by_the_server_and_given_to_it(POSTGRESQL_17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_configured() {
    if is_quick_tier() {
        return;
    }
    settings_are_told_by_the_server_and_given_to_it(MYSQL_9_7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_configured() {
    if is_quick_tier() {
        return;
    }
    settings_are_told_by_the_server_and_given_to_it(MARIADB_11_8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_upgraded_and_resized() {
    releases_and_flavors_change_and_come_back(POSTGRESQL_17, "postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_upgraded_and_resized() {
    if is_quick_tier() {
        return;
    }
    releases_and_flavors_change_and_come_back(MYSQL_9_7, "mysqld").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_upgraded_and_resized() {
    if is_quick_tier() {
        return;
    }
    releases_and_flavors_change_and_come_back(MARIADB_11_8, "mariadbd").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_upgraded_from_one_patch_to_the_next_and_to_the_next_series() {
    if is_quick_tier() {
        return;
    }
    let service = Service::start(MARIADB_10_11).await;
    let registry = service.trove.datastores();
    let older = std::env::var("TROVE_IMAGE_MARIADB_10_11_OLDER");
    let older = older.unwrap_or_else(|_| "trove-local/mariadb:10.11-older".to_owned());
    registry.add(NewVersion::new("mariadb", "older", "10.11", older)).await.unwrap();
    let new = service.new_instance().version("older").database("app").user("app", "secret");
    let instance = service.trove.create(new).await.unwrap().active().await.unwrap();
    crate::common::text(&instance, "CREATE TABLE t (a int)").await;
    service.write(&instance).await;
    let first = instance.server_version.clone().unwrap();
    let instance = instance.upgrade("10.11").await.unwrap().active().await.unwrap();
    service.write(&instance).await;
    let second = instance.server_version.clone().unwrap();
    assert!(first.starts_with("10.11.") && second.starts_with("10.11.") && first != second, "{first} {second}");

    let change = trove_core::control::VersionChange::new().image(MARIADB_11_8.image());
    registry.change("mariadb", "11.8", change).await.unwrap();
    let instance = instance.upgrade("11.8").await.unwrap().active().await.unwrap();
    assert!(instance.server_version.as_ref().unwrap().starts_with("11.8."), "{:?}", instance.server_version);
    service.write(&instance).await;
    assert_eq!(service.rows(&instance).await, "3");
    let back = instance.upgrade("10.11").await.unwrap().wait().await.unwrap_err();
    assert_eq!(back.kind(), Kind::Unsupported, "{back}");
    assert_eq!(service.rows(&instance).await, "3");
    service.end([instance]).await;
}
