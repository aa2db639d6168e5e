use std::{fs, io, path::Path, sync::Arc};

use trove_core::error::Result;

use super::{LocalPlatform, networks::DRAFT};
use crate::container::{SCOPE_LABEL, blocking, failed};

impl LocalPlatform {
    /// Lists everything that instances have on this host, in words: containers, the network,
    /// its packet filter, volumes, agents' directories, endpoints, and what is still being deleted. Empty if there are no
    /// instances.
    pub async fn inventory(&self) -> Result<Vec<String>> {
        let (docker, network) = (&self.0.docker, self.0.network());
        let containers = docker.labelled(&[(SCOPE_LABEL, self.scope())]).await?;
        let mut found: Vec<String> = containers.into_iter().map(|id| format!("container {id}")).collect();
        if docker.has_network(&network).await? {
            found.push(format!("network {network}"));
        }
        let local = Arc::clone(&self.0);
        let files = blocking(move || {
            let parts = [("volumes", "volume"), ("guests", "guest"), ("endpoints", "endpoint"), ("trash", "trash")];
            let listed = parts.iter().map(|(part, what)| {
                let directory = local.root.join(part);
                names(&directory, what).map_err(|error| failed("list", &directory, error))
            });
            let mut found = listed.collect::<Result<Vec<_>>>()?.concat();
            found.extend(local.firewall.found()?.map(|table| format!("packet filter {table}")));
            Ok(found)
        });
        found.extend(files.await?);
        Ok(found)
    }
}

/// Lists a directory, except the draft of a reservation.
pub(super) fn names(directory: &Path, what: &str) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if name != DRAFT {
            found.push(format!("{what} {}", name.to_string_lossy()));
        }
    }
    Ok(found)
}
