//! The quickstart as a newcomer runs it, on a real Docker engine.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

fn quickstart(directory: &Path, args: &[&str]) -> Child {
    let image = env::var("TROVE_IMAGE_POSTGRESQL_17").unwrap_or_else(|_| "trove-local/postgresql:17".to_owned());
    Command::new(env!("CARGO_BIN_EXE_quickstart"))
        .args(["--json", "--image", &image])
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
fn the_tour_ends_well_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = quickstart(directory.path(), &[]);
    let told = everything(&mut child);
    assert!(child.wait().unwrap().success(), "{told:#?}");
    let phases: Vec<_> =
        told.iter().filter(|line| line["event"] == "phase_end").map(|line| line["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["create", "use", "accounts", "restart", "delete"]);
    assert_eq!(told.last().unwrap()["event"], "done");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_kept_instance_serves_until_it_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = quickstart(directory.path(), &["--keep"]);
    let told = everything(&mut child);
    assert!(child.wait().unwrap().success(), "{told:#?}");
    let kept = told.iter().find(|line| line["event"] == "kept").unwrap();
    let uri = std::fs::read_to_string(directory.path().join(kept["uri_file"].as_str().unwrap())).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(uri.trim(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let rows: i64 = client.query_one("SELECT count(*) FROM tour", &[]).await.unwrap().get(0);
        assert_eq!(rows, 1000);
    });
    let mut child = quickstart(directory.path(), &["--delete", kept["instance"].as_str().unwrap()]);
    everything(&mut child);
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn an_interruption_removes_what_was_made() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = quickstart(directory.path(), &[]);
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
    for args in [["--version", "3"], ["--datastore", "oracle"], ["--delete", "5b364776-5112-479a-91d9-bd53b9e9488a"]] {
        let mut child = quickstart(directory.path(), &args);
        let told = everything(&mut child);
        assert_eq!(child.wait().unwrap().code(), Some(1), "{args:?}");
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
