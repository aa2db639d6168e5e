//! The messages between the control plane and guests: the plaintext of sealed frames.
//!
//! Control plane and agents are upgraded separately, so names in JSON must not change from
//! the first release on.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::protocol::{AccountsCall, AccountsReply, Job, JobStatus};
use crate::{
    error::{Effect, Error, Kind, Result},
    id::OperationId,
    model::{Observed, Progress},
};

/// The maximum length of an error text from a guest, in characters.
pub(super) const MAX_TEXT: usize = 8000;

/// The maximum length of a notice, in bytes. The texts of an observation are
/// [limited](super::sanitize_observed) to half of it.
const MAX_NOTICE: usize = 16 << 10;

/// A request to a guest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Starts a job, or joins the job with the same key.
    Job { operation: OperationId, epoch: u64, job: Job },
    /// Queries the status of a job by its name.
    JobStatus { operation: OperationId, job: String },
    /// Queries or changes accounts.
    Accounts { operation: OperationId, epoch: u64, call: AccountsCall },
}

/// The response of a guest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Job(JobStatus),
    /// The job is unknown: the agent was restarted.
    NoJob,
    Accounts(AccountsReply),
}

/// A one-way message from a guest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Notice {
    /// An observation of the server. `settled` if a job waits until the observation is stored.
    Observed { observed: Observed, settled: bool },
    /// The progress of a job.
    Progress { operation: OperationId, progress: Progress },
    /// A job has ended.
    JobEnded,
}

/// The wire form of an error.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    kind: Kind,
    transient: bool,
    effect: Effect,
    message: String,
    detail: String,
}

/// The diagnostic context of an error from the other side.
#[derive(Debug)]
struct Detail(String);

impl std::error::Error for Detail {}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let report = error.report();
        let detail = report.strip_prefix(&message).unwrap_or(&report).trim_start_matches([':', ' ']).to_owned();
        Self { kind: error.kind(), transient: error.is_transient(), effect: error.effect(), message, detail }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let message =
            failure.message.chars().filter(|character| !character.is_control()).take(MAX_TEXT).collect::<String>();
        let error = Self::of(failure.kind, message).with_effect(failure.effect);
        let error = if failure.transient { error.transient() } else { error.permanent() };
        let detail =
            failure.detail.chars().filter(|character| !character.is_control()).take(MAX_TEXT).collect::<String>();
        if detail.is_empty() { error } else { error.with_source(Detail(detail)) }
    }
}

/// Encodes a message. The bytes are wiped when they are dropped.
pub(crate) fn write(message: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // Cannot fail: all map keys are strings and no `Serialize` implementation returns an error.
    Zeroizing::new(serde_json::to_vec(message).unwrap_or_default())
}

/// Decodes a message. The error does not quote the input, which may hold secrets.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|_| Error::invalid("could not decode a message to or from a guest"))
}

/// Decodes a notice of a guest, unless it is longer than an agent sends.
pub(crate) fn read_notice(bytes: &[u8]) -> Result<Notice> {
    if bytes.len() > MAX_NOTICE {
        return Err(Error::invalid(format!("a notice of a guest has {} bytes", bytes.len())));
    }
    read(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        datastore::{Prepare, RegistryLogin, Release},
        model::{NewDatabase, NewUser},
        secret::{ExposeSecret, SecretString},
    };

    #[test]
    fn secrets_survive_the_round_trip_and_are_redacted_in_debug_output() {
        let mut release = Release::new("17", "postgres:17");
        release.login = Some(RegistryLogin { username: "ci".to_owned(), password: "t0ken".into() });
        let users = vec![NewUser::new("app", "s3cret").granted("app")];
        let prepare = Prepare::new(vec![NewDatabase::new("app")], users.clone());
        for job in [Job::Prepare(prepare), Job::Upgrade(release)] {
            let request = Request::Job { operation: OperationId::new_v4(), epoch: 1, job };
            let Request::Job { job, .. } = read(&write(&request)).unwrap() else { panic!() };
            let password = match &job {
                Job::Prepare(spec) => spec.users[0].password.clone(),
                Job::Upgrade(release) => release.login.clone().unwrap().password,
                other => panic!("{other:?}"),
            };
            assert!(["s3cret", "t0ken"].contains(&password.expose_secret()));
            assert!(!format!("{request:?} {job:?}").contains(password.expose_secret()));
        }
        for call in [
            AccountsCall::CreateUsers(users),
            AccountsCall::EnableRoot(SecretString::from("s3cret")),
            AccountsCall::SetPassword { user: "app".into(), password: SecretString::from("s3cret") },
        ] {
            let encoded = write(&Request::Accounts { operation: OperationId::new_v4(), epoch: 1, call });
            let request: Request = read(&encoded).unwrap();
            assert!(
                std::str::from_utf8(&encoded).unwrap().contains("s3cret") && !format!("{request:?}").contains("s3cret")
            );
        }
    }

    #[test]
    fn errors_survive_the_round_trip() {
        let source = std::io::Error::other("no route");
        let error =
            Error::unavailable("unreachable").with("socket", "/run/x").with_source(source).with_effect(Effect::Unknown);
        let decoded = Error::from(read::<Failure>(&write(&Failure::from(error.clone()))).unwrap());
        assert_eq!(
            (decoded.kind(), decoded.is_transient(), decoded.effect()),
            (Kind::Unavailable, true, Effect::Unknown)
        );
        assert_eq!(decoded.to_string(), "unreachable");
        assert!(decoded.report().contains("/run/x") && decoded.report().contains("no route"), "{}", decoded.report());
        assert_eq!(Error::from(Failure::from(Error::busy("later"))).report(), "later");
    }
}
