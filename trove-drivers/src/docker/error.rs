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
    /// To pull this image.
    Pull(&'a str),
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
            Error::unavailable("the Docker daemon does not answer").having(Effect::Maybe)
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
        Action::Pull(image) => pull_refused(image, status, &text),
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

fn pull_refused(image: &str, status: u16, text: &str) -> Error {
    let unreachable =
        ["no such host", "timeout", "refused", "unreachable", "deadline", "temporary failure", "eof", "tls", "dial"];
    let absent = ["not found", "manifest unknown", "does not exist", "unauthorized", "access denied", "no such image"];
    if absent.iter().any(|word| text.contains(word)) || status == 404 {
        Error::not_found(format!("image {image} does not exist, or may not be pulled without signing in"))
    } else if unreachable.iter().any(|word| text.contains(word)) {
        Error::unavailable(format!("image {image} is not on this machine and its registry cannot be reached"))
    } else {
        Error::internal(format!("image {image} could not be pulled"))
    }
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
            (Action::Pull("i:1"), server(404, "manifest unknown"), Kind::NotFound, "does not exist"),
            (
                Action::Pull("i:1"),
                server(500, "Get https://r/v2/: dial tcp: lookup r: no such host"),
                Kind::Unavailable,
                "cannot be reached",
            ),
            (Action::Ask, ClientError::SocketNotFoundError("/s".into()), Kind::Unavailable, "does not answer"),
        ] {
            let error = translate(action, error);
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
