//! Inspects images, and pulls those that are not on this machine.

use std::{collections::HashMap, time::Duration};

use bollard::{auth::DockerCredentials, models::ImageInspect, query_parameters::CreateImageOptionsBuilder};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};
use trove_core::{
    datastore::{Cx, RegistryLogin},
    error::{Error, Kind, Result},
    secret::ExposeSecret,
};

use super::{DEADLINE, Docker, DockerRequest, translate};

/// How long a pull may go without progress.
const PULL_SILENCE: Duration = Duration::from_secs(120);

/// How often progress of a pull is reported, even if there is nothing new.
const PULL_BEAT: Duration = Duration::from_secs(5);

impl Docker {
    /// Ensures that the image is on this machine and returns its id. Pulls it if necessary, and
    /// reports progress.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if it does not exist, [`Invalid`](Kind::Invalid) if its
    /// registry refuses the credentials or requires any, [`Unavailable`](Kind::Unavailable) if the
    /// registry cannot be reached.
    pub(crate) async fn ensure_image(&self, cx: &Cx, image: &str, login: Option<&RegistryLogin>) -> Result<String> {
        match self.image_id(image).await {
            Err(error) if error.kind() == Kind::NotFound => {}
            found => return found,
        }
        tokio::select! {
            pulled = self.pull(cx, image, login) => pulled?,
            () = cx.cancelled() => return Err(Error::cancelled("pulling the image was cancelled")),
        }
        // The reference may contain a digest: only that image will do.
        self.image_id(image).await
    }

    /// Returns the id of an image on this machine.
    pub(crate) async fn image_id(&self, image: &str) -> Result<String> {
        let look = |client: bollard::Docker| async move { client.inspect_image(image).await };
        let ImageInspect { id, .. } = self.read(DockerRequest::Image(image), DEADLINE, look).await?;
        id.ok_or_else(|| Error::internal("the Docker daemon returned no id for an image").with("image", image))
    }

    async fn pull(&self, cx: &Cx, image: &str, login: Option<&RegistryLogin>) -> Result<()> {
        let (name, tag) = split_reference(image);
        let options = CreateImageOptionsBuilder::new().from_image(name).tag(tag).build();
        let client = self.0.client().await?;
        let mut progress = client.create_image(Some(options), None, login.map(credentials));
        let (mut layers, mut reported, mut last_message) = (HashMap::new(), (0, None), Instant::now());
        loop {
            let (done, total) = reported;
            cx.progress("pull image", done, total, "bytes");
            let next = match timeout(PULL_BEAT, progress.next()).await {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(()),
                Err(_) if last_message.elapsed() < PULL_SILENCE => continue,
                Err(_) => return Err(Error::unavailable(format!("pulling image {image} made no progress"))),
            };
            last_message = Instant::now();
            let next = next.map_err(|error| translate(DockerRequest::Pull { image, login: login.is_some() }, error))?;
            let detail = next.progress_detail.and_then(|detail| Some((detail.current?, detail.total?)));
            // Extraction counts the same bytes again.
            if next.status.as_deref() == Some("Downloading")
                && let (Some(layer), Some((current, total))) = (next.id, detail)
            {
                layers.insert(layer, (current.unsigned_abs(), total.unsigned_abs()));
                let (done, total) = layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
                reported = (done, Some(total));
            }
        }
    }
}

fn credentials(login: &RegistryLogin) -> DockerCredentials {
    DockerCredentials {
        username: Some(login.username.clone()),
        password: Some(login.password.expose_secret().to_owned()),
        ..Default::default()
    }
}

/// Splits a reference into the name and the tag or digest, which the daemon expects separately. The
/// tag defaults to `latest`, because otherwise the daemon pulls all tags; with a digest it is
/// ignored.
fn split_reference(image: &str) -> (&str, &str) {
    match image.split_once('@') {
        Some((name, digest)) => (split_tag(name).0, digest),
        None => split_tag(image),
    }
}

fn split_tag(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_references_are_split() {
        for (image, parts) in [
            ("postgres:17", ("postgres", "17")),
            ("postgres", ("postgres", "latest")),
            ("host:5000/a/b", ("host:5000/a/b", "latest")),
            ("host:5000/a/b:1.2", ("host:5000/a/b", "1.2")),
            ("a@sha256:ff", ("a", "sha256:ff")),
            ("host:5000/a:1@sha256:ff", ("host:5000/a", "sha256:ff")),
        ] {
            assert_eq!(split_reference(image), parts);
        }
    }
}
