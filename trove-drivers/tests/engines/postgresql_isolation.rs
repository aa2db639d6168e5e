//! The isolation of servers from each other and from the host.

use std::{
    fs,
    os::unix::{self, fs::MetadataExt},
    path::Path,
    sync::Arc,
};

use crate::common::{
    Fixture, POSTGRESQL_17, allocate_host, app_spec, cx, docker_client, postgresql, postgresql_driver,
};
use bollard::{exec::StartExecResults, models::ExecConfig};
use futures_util::StreamExt;
use tokio::net::UnixListener;
use trove_core::{
    datastore::{Datastore, Driver, GuestHost},
    error::Kind,
    id::InstanceId,
    model::{Health, PageRequest},
};

/// Another instance on the platform of a fixture.
struct Neighbor {
    host: GuestHost,
    server: Arc<dyn Datastore>,
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_confined_and_isolated_from_each_other() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    assert_confined(&fixture).await;
    let host = allocate_host(&fixture.local, InstanceId::new_v4(), POSTGRESQL_17).await;
    let neighbor = Neighbor { server: postgresql_driver().attach(host.clone()).unwrap(), host };
    neighbor.server.prepare(&cx(), &app_spec()).await.unwrap();
    assert_unreachable(&fixture, &neighbor).await;
    assert_no_redirection(&fixture, &neighbor).await;
}

async fn assert_confined(fixture: &Fixture) {
    let found = docker_client().await.inspect_container(&fixture.container(), None).await.unwrap();
    let text = serde_json::to_string(&found).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let (host, config) = (found.host_config.unwrap(), found.config.unwrap());
    assert_eq!((host.memory, host.memory_swap), (Some(256 << 20), Some(256 << 20)));
    assert_eq!((host.nano_cpus, host.readonly_rootfs), (Some(1_000_000_000), Some(true)));
    assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
    assert_eq!(host.security_opt.unwrap(), ["no-new-privileges:true"]);
    assert!(host.pids_limit.unwrap() > 0);
    assert_eq!(host.dns.unwrap(), ["127.0.0.1"]);
    assert!(host.tmpfs.unwrap()["/tmp"].ends_with(",size=16m"));
    assert_eq!(host.log_config.unwrap().typ.unwrap(), "local");
    let server = fixture.host.server;
    assert_eq!(config.user.unwrap(), format!("{}:{}", server.uid, server.gid));
    let labels = config.labels.unwrap();
    for (label, value) in [
        ("instance", fixture.id.to_string().as_str()),
        ("project", "acme"),
        ("datastore", "postgresql"),
        ("version", "17"),
        ("role", "server"),
        ("scope", fixture.local.scope()),
    ] {
        assert_eq!(labels.get(&format!("io.trove.{label}")).map(String::as_str), Some(value));
    }
    let ports = found.network_settings.unwrap().ports.unwrap();
    let published = &ports["5432/tcp"].as_ref().unwrap()[0];
    assert_eq!(published.host_ip.as_ref(), Some(&fixture.host.endpoint.host));
    assert!(fixture.host.endpoint.host.starts_with("127."));
    let volume = fs::metadata(&fixture.host.volume).unwrap();
    assert_eq!((volume.uid(), volume.mode() & 0o777), (server.uid, 0o700));
    for user in ["trove_admin", "postgres", "server"] {
        assert!(fixture.login(user, "secret", "postgres").await.is_err(), "{user} can log in over the network");
    }
}

/// Asserts that the neighbor cannot connect to the server over the network of the containers.
async fn assert_unreachable(fixture: &Fixture, neighbor: &Neighbor) {
    assert_ne!(neighbor.host.endpoint, fixture.host.endpoint);
    assert_ne!(neighbor.host.server, fixture.host.server);
    let found = docker_client().await.inspect_container(&fixture.container(), None).await.unwrap();
    let networks = found.network_settings.unwrap().networks.unwrap();
    let address = networks.into_values().next().unwrap().ip_address.unwrap();
    let connect = format!("exec 3<>/dev/tcp/{address}/5432");
    assert!(exec(&fixture.container(), &["timeout", "120", "bash", "-c", &connect]).await);
    assert!(!exec(&neighbor.host.name, &["timeout", "2", "bash", "-c", &connect]).await);
}

/// Asserts that a server that replaces its socket cannot redirect the administrator to another
/// server.
async fn assert_no_redirection(hostile: &Fixture, victim: &Neighbor) {
    let accounts = hostile.accounts();
    let (own, other) = [&hostile.host, &victim.host].map(|host| host.directory.join("run/.s.PGSQL.5432")).into();
    let container = docker_client().await.inspect_container(&victim.host.name, None).await.unwrap();
    let in_container = format!("/proc/{}/root/run/trove/.s.PGSQL.5432", container.state.unwrap().pid.unwrap());
    fs::rename(&own, own.with_extension("away")).unwrap();
    for target in [Path::new(&in_container), &other] {
        unix::fs::symlink(target, &own).unwrap();
        assert!(fs::metadata(&own).is_ok(), "the link is broken");
        // Has no open sessions.
        let reattached = hostile.reattach();
        assert_ne!(reattached.observe(&cx()).await.unwrap().health, Health::Healthy);
        let users = reattached.abilities().accounts.unwrap().users(&cx(), &PageRequest::default()).await;
        assert_eq!(users.unwrap_err().kind(), Kind::Unavailable);
        assert!(accounts.drop_user(&cx(), &"app".into()).await.is_err());
        fs::remove_file(&own).unwrap();
    }
    // A socket at the right path on which another process listens.
    let foreign = UnixListener::bind(&own).unwrap();
    assert!(accounts.drop_user(&cx(), &"app".into()).await.is_err());
    unix::fs::chown(&own, Some(hostile.host.server.uid), None).unwrap();
    assert!(accounts.drop_user(&cx(), &"app".into()).await.is_err());
    drop(foreign);
    fs::remove_file(&own).unwrap();
    fs::rename(own.with_extension("away"), &own).unwrap();
    postgresql::login(&victim.host.endpoint, "app", "secret", "app").await.unwrap();
    accounts.drop_user(&cx(), &"app".into()).await.unwrap();
    assert!(victim.server.abilities().accounts.unwrap().user(&cx(), &"app".into()).await.is_ok());
}

/// Runs a command in a container, and returns true if it succeeds.
async fn exec(container: &str, command: &[&str]) -> bool {
    let docker = docker_client().await;
    let config = ExecConfig {
        cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        attach_stdout: Some(true),
        ..Default::default()
    };
    let exec = docker.create_exec(container, config).await.unwrap();
    if let StartExecResults::Attached { mut output, .. } = docker.start_exec(&exec.id, None).await.unwrap() {
        while output.next().await.is_some() {}
    }
    docker.inspect_exec(&exec.id).await.unwrap().exit_code == Some(0)
}
