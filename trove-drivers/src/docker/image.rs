//! Images: looked up, and pulled where they are not on this machine.

use std::{collections::HashMap, time::Duration};

use bollard::{auth::DockerCredentials, models::ImageInspect, query_parameters::CreateImageOptionsBuilder};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};
use trove_core::{
    datastore::{Cx, RegistryLogin},
    error::{Error, Kind, Result},
    secret::ExposeSecret,
};

use super::{Action, DEADLINE, Docker, translate};

/// A pull that shows no progress for this long is given up.
const PULL_SILENCE: Duration = Duration::from_secs(120);

/// How often it is told, where nothing is new, that a pull goes on.
const PULL_BEAT: Duration = Duration::from_secs(5);

impl Docker {
    /// Makes sure the image is on this machine and returns its id; pulls it where it is not, and tells how far that is.
    ///
    /// [`NotFound`](Kind::NotFound) where it does not exist, [`Invalid`](Kind::Invalid) where its registry wants another
    /// login or one at all, [`Unavailable`](Kind::Unavailable) where that cannot be reached.
    pub(crate) async fn ensure_image(&self, cx: &Cx, image: &str, login: Option<&RegistryLogin>) -> Result<String> {
        match self.image_id(image).await {
            Err(error) if error.kind() == Kind::NotFound => {}
            found => return found,
        }
        tokio::select! {
            pulled = self.pull(cx, image, login) => pulled?,
            () = cx.cancelled() => return Err(Error::cancelled("pulling the image was cancelled")),
        }
        // A digest is part of what is looked for: it is this image or none.
        self.image_id(image).await
    }

    /// The id of an image of this machine.
    pub(crate) async fn image_id(&self, image: &str) -> Result<String> {
        let look = |client: bollard::Docker| async move { client.inspect_image(image).await };
        let ImageInspect { id, .. } = self.read(Action::Image(image), DEADLINE, look).await?;
        id.ok_or_else(|| Error::internal("the Docker daemon told no id of an image").with("image", image))
    }

    async fn pull(&self, cx: &Cx, image: &str, login: Option<&RegistryLogin>) -> Result<()> {
        let (name, tag) = split_reference(image);
        let options = CreateImageOptionsBuilder::new().from_image(name).tag(tag).build();
        let client = self.0.client().await?;
        let mut progress = client.create_image(Some(options), None, login.map(credentials));
        let (mut layers, mut told, mut heard) = (HashMap::new(), (0, None), Instant::now());
        loop {
            let (done, total) = told;
            cx.progress("pull image", done, total, "bytes");
            let next = match timeout(PULL_BEAT, progress.next()).await {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(()),
                Err(_) if heard.elapsed() < PULL_SILENCE => continue,
                Err(_) => return Err(Error::unavailable(format!("pulling image {image} came to a halt"))),
            };
            heard = Instant::now();
            let next = next.map_err(|error| translate(Action::Pull { image, login: login.is_some() }, error))?;
            let detail = next.progress_detail.and_then(|detail| Some((detail.current?, detail.total?)));
            // Extraction counts the same bytes again.
            if next.status.as_deref() == Some("Downloading")
                && let (Some(layer), Some((current, total))) = (next.id, detail)
            {
                layers.insert(layer, (current.unsigned_abs(), total.unsigned_abs()));
                let (done, total) = layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
                told = (done, Some(total));
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

/// A reference as the name and the tag or digest that the daemon wants apart. The tag defaults to `latest`, because
/// without one the daemon pulls every tag there is; beside a digest it says nothing.
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
    fn references_are_split() {
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
