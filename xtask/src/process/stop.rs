//! Stopping a program together with everything it started.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the child and its descendants to end, then ends those that did not.
pub(super) fn stop_tree(child: &mut Child) {
    let mut family = descendants(child.id());
    signal("TERM", &family);
    let asked = Instant::now();
    while !family.is_empty() && asked.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(50));
        // Reaps the child, which would otherwise stay in the process table.
        let _ = child.try_wait();
        family.retain(|pid| Path::new("/proc").join(pid).exists());
    }
    signal("KILL", &family);
    let _ = child.wait();
}

fn descendants(root: u32) -> Vec<String> {
    let mut family = vec![root.to_string()];
    let everyone = processes();
    let mut next = 0;
    while let Some(parent) = family.get(next).cloned() {
        family.extend(everyone.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid.clone()));
        next += 1;
    }
    family
}

/// Every process with its parent.
fn processes() -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // `pid (name) state parent ...`; the name may hold anything, brackets too.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned();
        Some((pid, parent))
    })
    .collect()
}

fn signal(name: &str, pids: &[String]) {
    if pids.is_empty() {
        return;
    }
    // The shell's own `kill`, since the program is not in every minimal system. Some may be gone: its status says nothing.
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -s \"$0\" \"$@\"", name]).args(pids).stderr(Stdio::null());
    let _ = kill.status();
}
