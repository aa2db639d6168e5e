//! Classifies the daemon's errors.

use bollard::errors::Error as ClientError;
use trove_core::error::{Effect, Error};

/// The request that the daemon refused, for the error message.
#[derive(Clone, Debug)]
pub(crate) enum DockerRequest<'a> {
    /// A request without a subject.
    Ask,
    /// Inspecting this image.
    Image(&'a str),
    /// Pulling this image, with or without credentials.
    Pull { image: &'a str, login: bool },
    /// Creating a container of this name from this image.
    Create { name: String, image: String },
    /// A request for this container.
    Container(String),
    /// A request for this network.
    Network(String),
}

/// Converts the daemon's error.
pub(crate) fn translate(action: DockerRequest<'_>, error: ClientError) -> Error {
    let found = match &error {
        ClientError::DockerResponseServerError { status_code, message } => refused(&action, *status_code, message),
        ClientError::DockerStreamError { error } => refused(&action, 500, error),
        ClientError::SocketNotFoundError(_)
        | ClientError::IOError { .. }
        | ClientError::HyperResponseError { .. }
        | ClientError::HyperLegacyError { .. }
        | ClientError::RequestTimeoutError => {
            Error::unavailable("the Docker daemon does not answer").with_effect(Effect::Unknown)
        }
        _ => Error::internal("the Docker daemon gave an unexpected answer"),
    };
    found.with_source(error)
}

fn refused(action: &DockerRequest<'_>, status: u16, message: &str) -> Error {
    let text = message.to_lowercase();
    if text.contains("no space left on device") {
        return Error::no_space("the disk of the Docker daemon is full");
    }
    if text.contains("port is already allocated") || text.contains("address already in use") {
        return match port(&text) {
            Some(port) => Error::busy(format!("port {port} of this machine is in use by another program")),
            None => Error::busy("a port of this machine is in use by another program"),
        };
    }
    if text.contains("non-overlapping ipv4 address pool") {
        return Error::no_space("the Docker daemon has no addresses left for another network");
    }
    match action {
        DockerRequest::Image(image) => match status {
            404 => missing_image(image),
            400 => Error::invalid(format!("the Docker daemon refuses the name of image {image}")),
            _ => Error::internal(format!("the Docker daemon could not inspect image {image}")),
        },
        DockerRequest::Pull { image, login } => pull_refused(image, *login, status, &text),
        DockerRequest::Create { image, .. } if status == 404 => missing_image(image),
        DockerRequest::Create { name, .. } | DockerRequest::Container(name) => match status {
            404 if text.contains("network") => Error::not_found(format!("the network of container {name} is gone")),
            404 => Error::not_found(format!("there is no container {name}")),
            409 => Error::conflict(format!("container {name} already exists, or its state does not allow this")),
            400 => Error::invalid(format!("the Docker daemon refuses the settings of container {name}")),
            _ => Error::internal(format!("the Docker daemon failed a request for container {name}")),
        },
        DockerRequest::Network(name) => match status {
            404 => Error::not_found(format!("there is no network {name}")),
            // 403 is both "in use" for a removal and "same bridge name" for a creation.
            403 | 409 => Error::conflict(format!("network {name} already exists or is in use")),
            _ => Error::internal(format!("the Docker daemon failed a request for network {name}")),
        },
        DockerRequest::Ask => Error::internal("the Docker daemon refused a request"),
    }
}

fn missing_image(image: &str) -> Error {
    Error::not_found(format!("image {image} is not on this machine"))
}

fn pull_refused(image: &str, login: bool, status: u16, text: &str) -> Error {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["no basic auth credentials", "unauthorized", "authentication required", "incorrect username"]) {
        return match login {
            true => Error::invalid(format!("the registry of image {image} refuses the login")),
            false => Error::invalid(format!("image {image} may not be pulled without signing in to its registry")),
        };
    }
    // Some registries do not reveal whether an image exists that may not be pulled.
    if says(&["access denied", "denied:", "forbidden"]) {
        return Error::not_found(match login {
            true => format!("image {image} does not exist, or may not be pulled with this login"),
            false => format!("image {image} does not exist, or may not be pulled without signing in to its registry"),
        });
    }
    if status == 404 || says(&["not found", "manifest unknown", "does not exist", "no such image"]) {
        return match image.split_once('@') {
            Some((name, digest)) => Error::not_found(format!("there is no image {name} with digest {digest}")),
            None => Error::not_found(format!("image {image} does not exist")),
        };
    }
    if status == 400 || says(&["invalid reference format", "invalid checksum digest"]) {
        return Error::invalid(format!("the Docker daemon refuses the name of image {image}"));
    }
    let unreachable =
        ["no such host", "timeout", "refused", "unreachable", "deadline", "temporary failure", "eof", "tls", "dial"];
    match says(&unreachable) {
        true => Error::unavailable(format!("image {image} is not on this machine and its registry cannot be reached")),
        false => Error::internal(format!("image {image} could not be pulled")),
    }
}

/// Returns true if a container could not start because its image lacks the program.
pub(crate) fn lacks_program(error: &ClientError) -> bool {
    let ClientError::DockerResponseServerError { message, .. } = error else { return false };
    message.contains("exec: \"")
        && ["executable file not found", "no such file or directory"].iter().any(|why| message.contains(why))
}

/// Returns the port in "Bind for 127.0.0.1:20000 failed: port is already allocated" and similar
/// messages.
fn port(text: &str) -> Option<u16> {
    let mut words = text.split(|letter: char| letter.is_whitespace() || letter == ',');
    words.find_map(|word| word.trim_end_matches(':').rsplit_once(':').and_then(|(_, port)| port.parse().ok()))
}

#[cfg(test)]
mod tests {
    use trove_core::error::Kind;

    use super::*;

    #[test]
    fn daemon_errors_are_classified() {
        let server = |status_code, message: &str| ClientError::DockerResponseServerError {
            status_code,
            message: message.to_owned(),
        };
        let create = || DockerRequest::Create { name: "c".into(), image: "i:1".into() };
        let taken = "driver failed programming external connectivity on endpoint c (9f): \
                     Bind for 127.0.0.1:20017 failed: port is already allocated";
        let listening = "driver failed: Error starting userland proxy: listen tcp4 127.0.0.1:20018: bind: address \
                         already in use";
        for (action, error, kind, words) in [
            (create(), server(404, "No such image: i:1"), Kind::NotFound, "image i:1 is not on this machine"),
            (create(), server(409, "Conflict. The container name is already in use"), Kind::Conflict, "container c"),
            (create(), server(500, "write /x: no space left on device"), Kind::NoSpace, "full"),
            (create(), server(400, "Minimum memory limit allowed is 6MB"), Kind::Invalid, "settings"),
            (DockerRequest::Container("c".into()), server(500, taken), Kind::Busy, "port 20017 "),
            (DockerRequest::Container("c".into()), server(500, listening), Kind::Busy, "port 20018 "),
            (DockerRequest::Container("c".into()), server(404, "network t not found"), Kind::NotFound, "network"),
            (
                DockerRequest::Container("c".into()),
                server(404, "No such container: c"),
                Kind::NotFound,
                "no container c",
            ),
            (DockerRequest::Network("n".into()), server(403, "has active endpoints"), Kind::Conflict, "in use"),
            (
                DockerRequest::Image("i:1"),
                server(404, "No such image: i:1"),
                Kind::NotFound,
                "image i:1 is not on this machine",
            ),
            (
                DockerRequest::Image("i::"),
                server(400, "invalid reference format"),
                Kind::Invalid,
                "the name of image i::",
            ),
            (DockerRequest::Image("i:1"), server(500, "broken layer"), Kind::Internal, "could not inspect image i:1"),
            (DockerRequest::Ask, ClientError::SocketNotFoundError("/s".into()), Kind::Unavailable, "does not answer"),
        ] {
            let error = translate(action, error);
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn registry_errors_are_classified() {
        let digest = format!("r/i@sha256:{}", "a".repeat(64));
        for (image, login, status, message, kind, words) in [
            ("r/i:1", false, 404, "manifest for r/i:1 not found: manifest unknown", Kind::NotFound, "does not exist"),
            (
                &digest,
                true,
                404,
                "manifest for r/i@sha256:aa not found",
                Kind::NotFound,
                "there is no image r/i with digest",
            ),
            (
                "r/i:1",
                false,
                500,
                "Head \"http://r/v2/i\": no basic auth credentials",
                Kind::Invalid,
                "without signing in",
            ),
            ("r/i:1", true, 500, "unauthorized: authentication required", Kind::Invalid, "refuses the login"),
            (
                "i:1",
                false,
                404,
                "pull access denied for i, repository does not exist or may require 'docker login'",
                Kind::NotFound,
                "does not exist, or may not be pulled without",
            ),
            (
                "r/i:1",
                true,
                500,
                "Get https://r/v2/: dial tcp: lookup r: no such host",
                Kind::Unavailable,
                "cannot be reached",
            ),
            ("r/i:1", true, 500, "toomanyrequests: slow down", Kind::Internal, "could not be pulled"),
        ] {
            let message = message.to_owned();
            let error = ClientError::DockerResponseServerError { status_code: status, message };
            let error = translate(DockerRequest::Pull { image, login }, error);
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn missing_programs_are_detected() {
        let create = "OCI runtime create failed: runc create failed: unable to start container process: ";
        for (message, lacks) in [
            ("exec: \"initdb\": executable file not found in $PATH: unknown", true),
            ("exec: \"/bin/initdb\": stat /bin/initdb: no such file or directory: unknown", true),
            ("error mounting \"/a\" to rootfs: no such file or directory: unknown", false),
        ] {
            let message = format!("{create}{message}");
            let error = ClientError::DockerResponseServerError { status_code: 400, message };
            assert_eq!(lacks_program(&error), lacks, "{error}");
        }
    }
}
