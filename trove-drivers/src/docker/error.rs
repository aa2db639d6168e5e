//! What the daemon's refusals mean.

use bollard::errors::Error as ClientError;
use trove_core::error::{Effect, Error};

/// What was asked of the daemon, for the words of a refusal.
#[derive(Clone, Debug)]
pub(crate) enum Action<'a> {
    /// Something general.
    Ask,
    /// To look at this image.
    Image(&'a str),
    /// To pull this image, signed in to its registry or not.
    Pull { image: &'a str, login: bool },
    /// To create a container of this name from this image.
    Create { name: String, image: String },
    /// To do something with this container.
    Container(String),
    /// To do something with this network.
    Network(String),
}

/// The daemon's error as ours.
pub(crate) fn translate(action: Action<'_>, error: ClientError) -> Error {
    let found = match &error {
        ClientError::DockerResponseServerError { status_code, message } => refused(&action, *status_code, message),
        ClientError::DockerStreamError { error } => refused(&action, 500, error),
        ClientError::SocketNotFoundError(_)
        | ClientError::IOError { .. }
        | ClientError::HyperResponseError { .. }
        | ClientError::HyperLegacyError { .. }
        | ClientError::RequestTimeoutError => {
            Error::unavailable("the Docker daemon does not answer").having(Effect::Unknown)
        }
        _ => Error::internal("the Docker daemon gave an unexpected answer"),
    };
    found.because(error)
}

fn refused(action: &Action<'_>, status: u16, message: &str) -> Error {
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
        Action::Image(image) => match status {
            404 => missing_image(image),
            400 => Error::invalid(format!("the Docker daemon refuses the name of image {image}")),
            _ => Error::internal(format!("the Docker daemon could not look at image {image}")),
        },
        Action::Pull { image, login } => pull_refused(image, *login, status, &text),
        Action::Create { image, .. } if status == 404 => missing_image(image),
        Action::Create { name, .. } | Action::Container(name) => match status {
            404 if text.contains("network") => Error::not_found(format!("the network of container {name} is gone")),
            404 => Error::not_found(format!("there is no container {name}")),
            409 => Error::conflict(format!("container {name} exists already, or its state does not allow this")),
            400 => Error::invalid(format!("the Docker daemon refuses the settings of container {name}")),
            _ => Error::internal(format!("the Docker daemon could not do this with container {name}")),
        },
        Action::Network(name) => match status {
            404 => Error::not_found(format!("there is no network {name}")),
            // 403 is both "in use" for a removal and "same bridge name" for a creation.
            403 | 409 => Error::conflict(format!("network {name} exists already or is in use")),
            _ => Error::internal(format!("the Docker daemon could not do this with network {name}")),
        },
        Action::Ask => Error::internal("the Docker daemon refused a request"),
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
    // Some registries do not say whether there is an image that one may not pull.
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

/// True where a container could not be started because its image has no such program.
pub(crate) fn lacks_program(error: &ClientError) -> bool {
    let ClientError::DockerResponseServerError { message, .. } = error else { return false };
    message.contains("exec: \"")
        && ["executable file not found", "no such file or directory"].iter().any(|why| message.contains(why))
}

/// The port in "Bind for 127.0.0.1:20000 failed: port is already allocated" and its relatives.
fn port(text: &str) -> Option<u16> {
    let mut words = text.split(|letter: char| letter.is_whitespace() || letter == ',');
    words.find_map(|word| word.trim_end_matches(':').rsplit_once(':').and_then(|(_, port)| port.parse().ok()))
}

#[cfg(test)]
mod tests {
    use trove_core::error::Kind;

    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let server = |status_code, message: &str| ClientError::DockerResponseServerError {
            status_code,
            message: message.to_owned(),
        };
        let create = || Action::Create { name: "c".into(), image: "i:1".into() };
        let taken = "driver failed programming external connectivity on endpoint c (9f): \
                     Bind for 127.0.0.1:20017 failed: port is already allocated";
        let listening = "driver failed: Error starting userland proxy: listen tcp4 127.0.0.1:20018: bind: address \
                         already in use";
        for (action, error, kind, words) in [
            (create(), server(404, "No such image: i:1"), Kind::NotFound, "image i:1 is not on this machine"),
            (create(), server(409, "Conflict. The container name is already in use"), Kind::Conflict, "container c"),
            (create(), server(500, "write /x: no space left on device"), Kind::NoSpace, "full"),
            (create(), server(400, "Minimum memory limit allowed is 6MB"), Kind::Invalid, "settings"),
            (Action::Container("c".into()), server(500, taken), Kind::Busy, "port 20017 "),
            (Action::Container("c".into()), server(500, listening), Kind::Busy, "port 20018 "),
            (Action::Container("c".into()), server(404, "network t not found"), Kind::NotFound, "network"),
            (Action::Container("c".into()), server(404, "No such container: c"), Kind::NotFound, "no container c"),
            (Action::Network("n".into()), server(403, "has active endpoints"), Kind::Conflict, "in use"),
            (
                Action::Image("i:1"),
                server(404, "No such image: i:1"),
                Kind::NotFound,
                "image i:1 is not on this machine",
            ),
            (Action::Image("i::"), server(400, "invalid reference format"), Kind::Invalid, "the name of image i::"),
            (Action::Image("i:1"), server(500, "broken layer"), Kind::Internal, "could not look at image i:1"),
            (Action::Ask, ClientError::SocketNotFoundError("/s".into()), Kind::Unavailable, "does not answer"),
        ] {
            let error = translate(action, error);
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn what_a_registry_says_is_told_apart() {
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
            let error = translate(Action::Pull { image, login }, error);
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_program_that_an_image_lacks_is_recognised() {
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
