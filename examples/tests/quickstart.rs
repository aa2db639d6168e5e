//! The quickstart as a newcomer runs it, on a real Docker engine.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

/// The image of a datastore's default version.
fn image(datastore: &str) -> String {
    let (variable, image) = match datastore {
        "mysql" => ("TROVE_IMAGE_MYSQL_9_7", "trove-local/mysql:9.7"),
        "mariadb" => ("TROVE_IMAGE_MARIADB_11_8", "trove-local/mariadb:11.8"),
        "valkey" => ("TROVE_IMAGE_VALKEY_8_1", "trove-local/valkey:8.1"),
        _ => ("TROVE_IMAGE_POSTGRESQL_17", "trove-local/postgresql:17"),
    };
    env::var(variable).unwrap_or_else(|_| image.to_owned())
}

fn quickstart(directory: &Path, datastore: &str, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_quickstart"))
        .args(["--json", "--datastore", datastore, "--image", &image(datastore)])
        .args(args)
        .current_dir(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// All it says, one object a line.
fn everything(child: &mut Child) -> Vec<Value> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let told: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert!(told.iter().all(|line| line["event"].is_string() && line["instance"].is_string()), "{told:#?}");
    told
}

#[test]
fn the_tour_of_postgresql_ends_well_and_leaves_nothing() {
    tour("postgresql", "work_mem was changed");
}

#[test]
fn the_tour_of_mysql_ends_well_and_leaves_nothing() {
    tour("mysql", "wait_timeout was changed");
}

#[test]
fn the_tour_of_mariadb_ends_well_and_leaves_nothing() {
    tour("mariadb", "wait_timeout was changed");
}

#[test]
fn the_tour_of_valkey_ends_well_and_leaves_nothing() {
    tour("valkey", "maxmemory-policy was changed");
}

/// `configured` is in what is told of the parameters.
fn tour(datastore: &str, configured: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut child = quickstart(directory.path(), datastore, &[]);
    let told = everything(&mut child);
    assert!(child.wait().unwrap().success(), "{told:#?}");
    let ends: Vec<_> = told.iter().filter(|line| line["event"] == "phase_end").collect();
    let phases: Vec<_> = ends.iter().map(|line| line["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["create", "use", "accounts", "restart", "configure", "delete"]);
    assert!(ends[4]["message"].as_str().unwrap().contains(configured), "{told:#?}");
    assert_eq!(told.last().unwrap()["event"], "done");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_kept_instance_of_postgresql_serves_by_the_told_command_until_it_is_deleted() {
    kept("postgresql", "-At -c 'SELECT count(*) FROM tour'");
}

#[test]
fn a_kept_instance_of_mariadb_serves_by_the_told_command_until_it_is_deleted() {
    kept("mariadb", "-N -e 'SELECT count(*) FROM tour'");
}

#[test]
fn a_kept_instance_of_valkey_serves_by_the_told_command_until_it_is_deleted() {
    kept("valkey", "--no-auth-warning DBSIZE");
}

/// `query` has the client print how many rows there are, and nothing else.
fn kept(datastore: &str, query: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut child = quickstart(directory.path(), datastore, &["--keep"]);
    let told = everything(&mut child);
    assert!(child.wait().unwrap().success(), "{told:#?}");
    let kept = told.iter().find(|line| line["event"] == "kept").unwrap();
    let command = format!("{} {query}", kept["command"].as_str().unwrap());
    let here = directory.path().display();
    // The client is the one in the server's image.
    let answer = Command::new("docker")
        .args(["run", "--rm", "--network=host", "--entrypoint=sh"])
        .args([format!("--volume={here}:{here}"), format!("--workdir={here}"), image(datastore)])
        .args(["-c", &command])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "1000", "{command}: {answer:?}");
    // Whichever engine it is of.
    let mut child = quickstart(directory.path(), "postgresql", &["--delete", kept["instance"].as_str().unwrap()]);
    everything(&mut child);
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn an_interruption_removes_what_was_made() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = quickstart(directory.path(), "postgresql", &[]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // In the middle of a creation, whose container is on its way.
    let preparing = lines.by_ref().find(|line| line.as_ref().unwrap().contains("\"progress\""));
    assert!(preparing.is_some());
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let last = lines.last().unwrap().unwrap();
    assert!(last.contains("\"quit\""), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = "5b364776-5112-479a-91d9-bd53b9e9488a";
    for (datastore, args) in
        [("postgresql", ["--version", "3"].as_slice()), ("oracle", &[]), ("mysql", &["--delete", nowhere])]
    {
        let mut child = quickstart(directory.path(), datastore, args);
        let told = everything(&mut child);
        assert_eq!(child.wait().unwrap().code(), Some(1), "{datastore} {args:?}");
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
