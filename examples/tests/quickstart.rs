//! Tests of the quickstart on a real Docker engine.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

/// Returns the image of the default version of a datastore.
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

/// Reads the output, one object per line, until it ends.
fn read_output(child: &mut Child) -> Vec<Value> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let output: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert!(output.iter().all(|line| line["event"].is_string() && line["instance"].is_string()), "{output:#?}");
    output
}

#[test]
fn the_tour_of_postgresql_succeeds_and_leaves_nothing_behind() {
    take_tour("postgresql", "work_mem was changed");
}

#[test]
fn the_tour_of_mysql_succeeds_and_leaves_nothing_behind() {
    take_tour("mysql", "wait_timeout was changed");
}

#[test]
#[ignore = "full tier"]
fn the_tour_of_mariadb_succeeds_and_leaves_nothing_behind() {
    take_tour("mariadb", "wait_timeout was changed");
}

#[test]
fn the_tour_of_valkey_succeeds_and_leaves_nothing_behind() {
    take_tour("valkey", "maxmemory-policy was changed");
}

/// Takes the tour. `change` occurs in the summary of the configuration phase.
fn take_tour(datastore: &str, change: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut child = quickstart(directory.path(), datastore, &[]);
    let output = read_output(&mut child);
    assert!(child.wait().unwrap().success(), "{output:#?}");
    let ends: Vec<_> = output.iter().filter(|line| line["event"] == "phase_end").collect();
    let phases: Vec<_> = ends.iter().map(|line| line["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["create", "use", "accounts", "restart", "configure", "delete"]);
    assert!(ends[4]["message"].as_str().unwrap().contains(change), "{output:#?}");
    assert_eq!(output.last().unwrap()["event"], "done");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
#[ignore = "full tier"]
fn the_printed_command_connects_to_a_kept_postgresql_instance_until_it_is_deleted() {
    keep("postgresql", "-At -c 'SELECT count(*) FROM tour'");
}

#[test]
fn the_printed_command_connects_to_a_kept_mariadb_instance_until_it_is_deleted() {
    keep("mariadb", "-N -e 'SELECT count(*) FROM tour'");
}

#[test]
fn the_printed_command_connects_to_a_kept_valkey_instance_until_it_is_deleted() {
    keep("valkey", "--no-auth-warning DBSIZE");
}

/// Keeps an instance and runs the printed command. With the arguments in `query` the client prints
/// only the number of rows.
fn keep(datastore: &str, query: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut child = quickstart(directory.path(), datastore, &["--keep"]);
    let output = read_output(&mut child);
    assert!(child.wait().unwrap().success(), "{output:#?}");
    let kept = output.iter().find(|line| line["event"] == "kept").unwrap();
    let command = format!("{} {query}", kept["command"].as_str().unwrap());
    let path = directory.path().display();
    // The image of the server contains the client.
    let client = Command::new("docker")
        .args(["run", "--rm", "--network=host", "--entrypoint=sh"])
        .args([format!("--volume={path}:{path}"), format!("--workdir={path}"), image(datastore)])
        .args(["-c", &command])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&client.stdout).trim(), "1000", "{command}: {client:?}");
    // `--delete` works for every datastore.
    let mut child = quickstart(directory.path(), "postgresql", &["--delete", kept["instance"].as_str().unwrap()]);
    read_output(&mut child);
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn an_interrupted_tour_removes_the_instance() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = quickstart(directory.path(), "postgresql", &[]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Interrupts the creation of the container.
    let progress = lines.by_ref().find(|line| line.as_ref().unwrap().contains("\"progress\""));
    assert!(progress.is_some());
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let last = lines.last().unwrap().unwrap();
    assert!(last.contains("\"quit\""), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn invalid_options_are_rejected_before_anything_is_created() {
    let directory = tempfile::tempdir().unwrap();
    let unknown = "5b364776-5112-479a-91d9-bd53b9e9488a";
    for (datastore, args) in
        [("postgresql", ["--version", "3"].as_slice()), ("oracle", &[]), ("mysql", &["--delete", unknown])]
    {
        let mut child = quickstart(directory.path(), datastore, args);
        let output = read_output(&mut child);
        assert_eq!(child.wait().unwrap().code(), Some(1), "{datastore} {args:?}");
        assert_eq!(output.len(), 1, "{output:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
