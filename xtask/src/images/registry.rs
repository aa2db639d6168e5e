//! Pulling images while registries answer.

use std::time::Duration;

use crate::command::Stream;
use crate::docker::docker;
use crate::error::{Error, Result};

/// Errors of a registry that does not have an image. It is reachable, so it may have the next one.
const LACKS_IMAGE: [&str; 3] = ["not found", "manifest unknown", "access denied"];

/// The registries that images are pulled from. After one was unreachable, no other pull is tried in
/// the same run.
#[derive(Debug, Default)]
pub(super) struct Registry {
    unreachable: bool,
}

impl Registry {
    /// Pulls an image. The timeout is short for a registry that does not respond, and long for a
    /// download in progress.
    pub(super) fn pull(&mut self, name: &str) -> Result<()> {
        if self.unreachable {
            return Err(Error::new("no registry answers"));
        }
        let pull =
            docker(["pull", name]).first_output_timeout(Duration::from_secs(30)).timeout(Duration::from_mins(20));
        let mut stderr = String::new();
        let pulled = pull.for_each_line(|stream, line| match stream {
            Stream::Stdout => eprint!("{line}"),
            Stream::Stderr => stderr.push_str(line),
        });
        let stderr = stderr.trim();
        pulled.map_err(|error| {
            let message = if stderr.is_empty() { error.to_string() } else { stderr.to_owned() };
            self.unreachable = !is_answer(&message);
            Error::new(message)
        })
    }
}

fn is_answer(message: &str) -> bool {
    LACKS_IMAGE.iter().any(|answer| message.contains(answer))
}

#[cfg(test)]
mod tests {
    use super::is_answer;

    #[test]
    fn a_registry_without_the_image_is_reachable() {
        assert!(is_answer("Error response from daemon: manifest for mysql:1 not found: manifest unknown"));
        assert!(is_answer("Error response from daemon: pull access denied for mysql, repository does not exist"));
        let unreachable =
            "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host";
        assert!(!is_answer(unreachable));
        assert!(!is_answer("`docker pull mysql:9.7` printed nothing within 30 s"));
    }
}
