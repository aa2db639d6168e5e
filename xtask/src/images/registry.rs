//! Pulling images, as long as the registry answers.

use std::time::Duration;

use crate::engine::docker;
use crate::failure::{Failure, Result};
use crate::process::Stream;

/// What registries say of an image that they do not have: they answer, so the next one may be there.
const NOT_THERE: [&str; 3] = ["not found", "manifest unknown", "access denied"];

/// The registries that images come from. One that did not answer once is not asked again in the same run.
#[derive(Debug, Default)]
pub(super) struct Registry {
    silence: Option<String>,
}

impl Registry {
    /// A registry that cannot be reached is given up soon, one that answers has time to deliver.
    pub(super) fn pull(&mut self, name: &str) -> Result<()> {
        if let Some(silence) = &self.silence {
            return Err(Failure::new(silence.clone()));
        }
        let task = docker(["pull", name]).first_word(Duration::from_secs(20)).limit(Duration::from_mins(10));
        let mut complaint = String::new();
        let pulled = task.hear(|stream, line| match stream {
            Stream::Out => eprint!("{line}"),
            Stream::Err => complaint.push_str(line),
        });
        let complaint = complaint.trim();
        pulled.map_err(|failure| {
            let refusal = if complaint.is_empty() { failure.to_string() } else { complaint.to_owned() };
            if !answered(&refusal) {
                self.silence = Some("no registry answers".to_owned());
            }
            Failure::new(refusal)
        })
    }
}

fn answered(refusal: &str) -> bool {
    NOT_THERE.iter().any(|said| refusal.contains(said))
}

#[cfg(test)]
mod tests {
    use super::answered;

    #[test]
    fn a_registry_that_lacks_one_image_has_answered() {
        assert!(answered("Error response from daemon: manifest for mysql:1 not found: manifest unknown"));
        assert!(answered("Error response from daemon: pull access denied for mysql, repository does not exist"));
        let unreachable =
            "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host";
        assert!(!answered(unreachable));
        assert!(!answered("`docker pull mysql:9.7` said nothing within 20 s"));
    }
}
