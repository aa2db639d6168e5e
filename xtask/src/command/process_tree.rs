//! Terminating processes.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const TERM_TIMEOUT: Duration = Duration::from_secs(10);

/// Terminates a child with all its descendants.
pub(super) fn terminate_tree(child: &mut Child) {
    let pids = descendants(child.id());
    // Reaps the child, which would otherwise stay in the process table.
    terminate(pids, || drop(child.try_wait()));
    let _ = child.wait();
}

/// Sends SIGTERM to processes, and SIGKILL to those that are still there after a while.
pub(crate) fn terminate(mut pids: Vec<String>, mut reap: impl FnMut()) {
    signal("TERM", &pids);
    let started = Instant::now();
    while !pids.is_empty() && started.elapsed() < TERM_TIMEOUT {
        thread::sleep(Duration::from_millis(50));
        reap();
        pids.retain(|pid| Path::new("/proc").join(pid).exists());
    }
    signal("KILL", &pids);
}

/// Returns the ids of all processes.
pub(crate) fn all_pids() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

fn descendants(root: u32) -> Vec<String> {
    let mut pids = vec![root.to_string()];
    let parents: Vec<_> = all_pids().into_iter().filter_map(|pid| parent(&pid).map(|parent| (pid, parent))).collect();
    let mut next = 0;
    while let Some(ancestor) = pids.get(next).cloned() {
        pids.extend(parents.iter().filter(|(_, parent)| *parent == ancestor).map(|(pid, _)| pid.clone()));
        next += 1;
    }
    pids
}

fn parent(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `pid (name) state parent ...`; the name may contain anything, including parentheses.
    Some(stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned())
}

fn signal(name: &str, pids: &[String]) {
    if pids.is_empty() {
        return;
    }
    // The shell's builtin, since minimal systems lack the program. Processes that are gone by now
    // are no error.
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -s \"$0\" \"$@\"", name]).args(pids).stderr(Stdio::null());
    let _ = kill.status();
}
