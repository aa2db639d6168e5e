//! The service on real servers of all engines: changes of settings, releases and flavors lose no
//! rows.

use std::{path::Path, process::Command};

use crate::common::{EngineVersion, MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, POSTGRESQL_17, ScopeCleanup, query_as_app};
use tempfile::TempDir;
use trove_core::{
    Trove,
    control::{InstanceHandle, NewConfiguration, NewInstance, NewVersion},
    error::Kind,
    id::InstanceId,
    model::{Flavor, Settings, Status, mib},
};
use trove_drivers::LocalPlatform;

struct Service {
    trove: Trove,
    local: LocalPlatform,
    engine: EngineVersion,
    _cleanup: ScopeCleanup,
    directory: TempDir,
}

/// Two numeric parameters of an engine.
struct SampleParameters {
    dynamic: &'static str,
    restart: &'static str,
    /// Neither is a default.
    value: i64,
    query: fn(&str) -> String,
}

impl Service {
    async fn start(engine: EngineVersion) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalPlatform::connect(directory.path().join("platform")).unwrap();
        let cleanup = ScopeCleanup { scope: local.scope().to_owned() };
        let trove = Trove::builder()
            .store(format!("sqlite:{}", directory.path().join("trove.db").display()))
            .platform(local.clone())
            .datastore(engine.driver())
            .flavor(Flavor::new("tiny", mib(engine.memory_mib), 1))
            .flavor(Flavor::new("larger", mib(engine.memory_mib * 2), 1))
            .start()
            .await
            .unwrap();
        Self { trove, local, engine, _cleanup: cleanup, directory }
    }

    /// Creates an instance with one row.
    async fn create(&self, new: NewInstance) -> InstanceHandle {
        let new = new.version(self.engine.version).database("app").user("app", "secret");
        let instance = self.trove.create(new).await.unwrap().active().await.unwrap();
        query_as_app(&instance, "CREATE TABLE t (a int)").await;
        self.insert_row(&instance).await;
        instance
    }

    fn new_instance(&self) -> NewInstance {
        NewInstance::new("changing", self.engine.datastore)
    }

    async fn insert_row(&self, instance: &InstanceHandle) {
        query_as_app(instance, "INSERT INTO t VALUES (1)").await;
    }

    async fn count_rows(&self, instance: &InstanceHandle) -> String {
        query_as_app(instance, "SELECT count(*) FROM t").await.unwrap()
    }

    async fn current(&self, instance: &InstanceHandle, parameter: &str) -> String {
        query_as_app(instance, &(self.parameters().query)(parameter)).await.unwrap()
    }

    fn parameters(&self) -> SampleParameters {
        let variable = |name: &str| format!("SELECT CAST(@@GLOBAL.{name} AS CHAR)");
        match self.engine.datastore {
            "postgresql" => SampleParameters {
                dynamic: "log_autovacuum_min_duration",
                restart: "max_locks_per_transaction",
                value: 77,
                query: |name| format!("SELECT setting FROM pg_settings WHERE name = '{name}'"),
            },
            _ => SampleParameters { dynamic: "max_connect_errors", restart: "back_log", value: 77, query: variable },
        }
    }

    async fn delete_and_shut_down(self, instances: impl IntoIterator<Item = InstanceHandle>) {
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

/// An image built from another one, removed when dropped.
struct DerivedImage(String);

impl DerivedImage {
    /// Builds the same image with another label, or with a server program that exits when it is
    /// started.
    fn build(from: &str, purpose: &str, broken_program: Option<&str>, directory: &Path) -> Self {
        let name = format!("trove-test/{purpose}:{}", InstanceId::new_v4());
        let script = match broken_program {
            // Prints its version as the original does.
            Some(program) => format!(
                "p=$(command -v {program}); mv $p $p.real; \
                 printf '#!/bin/sh\\ncase \"$*\" in *--version*) exec '$p'.real --version;; esac\\nexit 3\\n' > $p; chmod 755 $p"
            ),
            None => "true".to_owned(),
        };
        let label = format!("--label=io.trove.directory={}", directory.display());
        let container = docker(&["run", "--detach", &label, "--user=0", "--entrypoint=sh", from, "-c", &script]);
        assert_eq!(docker(&["wait", &container]), "0", "{}", docker(&["logs", &container]));
        docker(&["commit", "--change", &format!("LABEL made-for={purpose}"), &container, &name]);
        docker(&["rm", &container]);
        Self(name)
    }
}

impl Drop for DerivedImage {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["image", "rm", &self.0]).output();
    }
}

async fn settings_take_effect_and_return_to_their_defaults(engine: EngineVersion) {
    let service = Service::start(engine).await;
    let (trove, parameters) = (&service.trove, service.parameters());
    let catalog = trove.datastores().parameters(engine.datastore, engine.version).await.unwrap();
    assert!(catalog.parameters.len() > 200 && catalog.digest.starts_with("sha256:"), "{}", catalog.digest);
    assert_eq!(service.local.inventory().await.unwrap(), Vec::<String>::new(), "the scratch server is left");
    let is_dynamic = |name: &str| catalog.parameter(name).unwrap().dynamic;
    assert!(is_dynamic(parameters.dynamic) && !is_dynamic(parameters.restart));

    let group = |name: &str| NewConfiguration::new(name, engine.datastore).version(engine.version);
    let groups = trove.configurations();
    assert_eq!(groups.create(group("port").set("port", 1)).await.unwrap_err().kind(), Kind::Invalid);
    let configuration = groups.create(group("dynamic").set(parameters.dynamic, parameters.value)).await.unwrap();
    let created = service.create(service.new_instance().configuration(configuration.id)).await;
    let value = parameters.value.to_string();
    assert_eq!(service.current(&created, parameters.dynamic).await, value);
    let before = service.current(&created, parameters.restart).await;
    assert_ne!(before, value);

    let more = Settings::from([(parameters.restart.to_owned(), parameters.value.into())]);
    for operation in groups.set(configuration.id, more).await.unwrap() {
        operation.wait().await.unwrap();
    }
    let mut instance = trove.instance(created.id).await.unwrap();
    assert_eq!(instance.settings.restart_required, [parameters.restart]);
    assert_eq!(service.current(&instance, parameters.restart).await, before);
    instance = instance.restart().await.unwrap().active().await.unwrap();
    assert_eq!(service.current(&instance, parameters.restart).await, value);
    assert!(instance.settings.restart_required.is_empty());

    instance.unconfigure().await.unwrap().wait().await.unwrap();
    let default = catalog.parameter(parameters.dynamic).unwrap().default.clone().unwrap();
    assert_eq!(service.current(&instance, parameters.dynamic).await, default);
    instance.refresh().await.unwrap();
    assert_eq!(instance.settings.restart_required, [parameters.restart]);
    groups.delete(configuration.id).await.unwrap();
    assert_eq!(service.count_rows(&instance).await, "1");
    service.delete_and_shut_down([instance]).await;
}

async fn upgrades_and_resizes_keep_rows_and_failures_are_reverted(engine: EngineVersion, program: &str) {
    let service = Service::start(engine).await;
    let instance = service.create(service.new_instance()).await;
    let registry = service.trove.datastores();
    let build = |purpose: &str, broken_program| {
        let purpose = format!("{}-{purpose}", engine.datastore);
        DerivedImage::build(&engine.image(), &purpose, broken_program, service.directory.path())
    };
    let (newer, broken) = (build("newer", None), build("broken", Some(program)));
    let version = |name: &str, image: &str| NewVersion::new(engine.datastore, name, engine.version, image.to_owned());
    for (name, image) in [("newer", newer.0.as_str()), ("broken", &broken.0), ("absent", "localhost:1/no/such:1")] {
        registry.add(version(name, image)).await.unwrap();
    }
    // An image of the same family has programs of the same names.
    let other = if engine.datastore == "mariadb" { MYSQL_9_7 } else { MARIADB_11_8 };
    registry.add(version("other", &other.image())).await.unwrap();
    let rejected = service.trove.create(service.new_instance().version("other")).await.unwrap();
    let error = rejected.wait().await.unwrap_err();
    assert_eq!(error.to_string(), format!("image {} does not contain {}", other.image(), engine.datastore));
    assert_eq!(error.kind(), Kind::Conflict);
    service.trove.instance(rejected.instance_id()).await.unwrap().delete().await.unwrap().wait().await.unwrap();

    for (name, message) in [
        ("absent", "localhost:1/no/such:1"),
        ("other", &*format!("does not contain {}", engine.datastore)),
        ("broken", "does not start"),
    ] {
        let error = instance.upgrade(name).await.unwrap().wait().await.unwrap_err();
        assert!(error.to_string().contains(message), "{name}: {error}");
        let reverted = service.trove.instance(instance.id).await.unwrap();
        assert_eq!((reverted.version.as_str(), reverted.image.clone()), (engine.version, engine.image()));
        assert!(reverted.fault.as_ref().unwrap().message.contains(message), "{:?}", reverted.fault);
        service.insert_row(&reverted).await;
    }
    let upgraded = instance.upgrade("newer").await.unwrap().active().await.unwrap();
    assert_eq!((upgraded.version.as_str(), upgraded.image.as_str()), ("newer", newer.0.as_str()));
    service.insert_row(&upgraded).await;

    let resized = upgraded.resize("larger").await.unwrap().active().await.unwrap();
    let limit = docker(&["inspect", "--format", "{{.HostConfig.Memory}}", &format!("trove-{}", resized.id)]);
    assert_eq!(limit, mib(engine.memory_mib * 2).as_bytes().to_string());
    assert_eq!((resized.status(), service.count_rows(&resized).await.as_str()), (Status::Active, "5"));
    service.delete_and_shut_down([resized]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_settings_take_effect_and_return_to_their_defaults() {
    settings_take_effect_and_return_to_their_defaults(POSTGRESQL_17).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full tier"]
async fn mysql_settings_take_effect_and_return_to_their_defaults() {
    settings_take_effect_and_return_to_their_defaults(MYSQL_9_7).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full tier"]
async fn mariadb_settings_take_effect_and_return_to_their_defaults() {
    settings_take_effect_and_return_to_their_defaults(MARIADB_11_8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_upgrades_and_resizes_keep_rows() {
    upgrades_and_resizes_keep_rows_and_failures_are_reverted(POSTGRESQL_17, "postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full tier"]
async fn mysql_upgrades_and_resizes_keep_rows() {
    upgrades_and_resizes_keep_rows_and_failures_are_reverted(MYSQL_9_7, "mysqld").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full tier"]
async fn mariadb_upgrades_and_resizes_keep_rows() {
    upgrades_and_resizes_keep_rows_and_failures_are_reverted(MARIADB_11_8, "mariadbd").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full tier"]
async fn mariadb_is_upgraded_to_the_next_patch_and_series_but_not_back() {
    let service = Service::start(MARIADB_10_11).await;
    let registry = service.trove.datastores();
    let older = std::env::var("TROVE_IMAGE_MARIADB_10_11_OLDER");
    let older = older.unwrap_or_else(|_| "trove-local/mariadb:10.11-older".to_owned());
    registry.add(NewVersion::new("mariadb", "older", "10.11", older)).await.unwrap();
    let new = service.new_instance().version("older").database("app").user("app", "secret");
    let instance = service.trove.create(new).await.unwrap().active().await.unwrap();
    query_as_app(&instance, "CREATE TABLE t (a int)").await;
    service.insert_row(&instance).await;
    let first = instance.server_version.clone().unwrap();
    let instance = instance.upgrade("10.11").await.unwrap().active().await.unwrap();
    service.insert_row(&instance).await;
    let second = instance.server_version.clone().unwrap();
    assert!(first.starts_with("10.11.") && second.starts_with("10.11.") && first != second, "{first} {second}");

    let change = trove_core::control::VersionChange::new().image(MARIADB_11_8.image());
    registry.change("mariadb", "11.8", change).await.unwrap();
    let instance = instance.upgrade("11.8").await.unwrap().active().await.unwrap();
    assert!(instance.server_version.as_ref().unwrap().starts_with("11.8."), "{:?}", instance.server_version);
    service.insert_row(&instance).await;
    assert_eq!(service.count_rows(&instance).await, "3");
    let back = instance.upgrade("10.11").await.unwrap().wait().await.unwrap_err();
    assert_eq!(back.kind(), Kind::Unsupported, "{back}");
    assert_eq!(service.count_rows(&instance).await, "3");
    service.delete_and_shut_down([instance]).await;
}
