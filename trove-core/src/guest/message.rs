//! What goes over the line to a guest, inside of what is sealed.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::protocol::{AccountsCall, AccountsReply, JobEnd, Work};
use crate::{
    error::{Effect, Error, Kind, Result},
    id::OperationId,
    model::{Observed, Progress},
};

/// The longest text of an error that is taken of a guest, in letters.
pub(super) const MAX_TEXT: usize = 8000;

/// What a guest is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// To begin a job, or join the one of the same key.
    Job { operation: OperationId, epoch: u64, work: Work },
    /// What became of a job.
    JobEnd { operation: OperationId, work: String },
    /// About accounts.
    Accounts { operation: OperationId, epoch: u64, question: AccountsCall },
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Job(JobEnd),
    /// There is no such job: the guest was restarted.
    NoJob,
    Accounts(AccountsReply),
}

/// What it tells without being asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Notice {
    /// What it sees. `settled` where a job waits until this is stored.
    Seen { observed: Observed, settled: bool },
    /// How far a job is.
    Progress { operation: OperationId, progress: Progress },
    /// Some job has ended.
    JobEnded,
}

/// An error on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    kind: Kind,
    transient: bool,
    effect: Effect,
    message: String,
    detail: String,
}

/// What an operator is told of an error on the other side.
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
        let message = failure.message.chars().filter(|letter| !letter.is_control()).take(MAX_TEXT).collect::<String>();
        let error = Self::of(failure.kind, message).having(failure.effect);
        let error = if failure.transient { error.transient() } else { error.permanent() };
        let detail = failure.detail.chars().filter(|letter| !letter.is_control()).take(MAX_TEXT).collect::<String>();
        if detail.is_empty() { error } else { error.because(Detail(detail)) }
    }
}

/// A message as bytes, which are wiped when they are dropped.
pub(super) fn write(message: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // Maps have texts as keys and nothing refuses to be written, so that this does not fail.
    Zeroizing::new(serde_json::to_vec(message).unwrap_or_default())
}

/// The message in these bytes. What is wrong with them is not told: they may hold anything.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|_| Error::invalid("a message to or from a guest cannot be read"))
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
    fn a_request_arrives_with_its_secrets_and_prints_without_them() {
        let mut release = Release::new("17", "postgres:17");
        release.login = Some(RegistryLogin { username: "ci".to_owned(), password: "t0ken".into() });
        let users = vec![NewUser::new("app", "s3cret").granted("app")];
        let prepare = Prepare::new(vec![NewDatabase::new("app")], users.clone());
        for work in [Work::Prepare(prepare), Work::Upgrade(release)] {
            let request = Request::Job { operation: OperationId::new_v4(), epoch: 1, work };
            let Request::Job { work, .. } = read(&write(&request)).unwrap() else { panic!() };
            let password = match &work {
                Work::Prepare(spec) => spec.users[0].password.clone(),
                Work::Upgrade(release) => release.login.clone().unwrap().password,
                other => panic!("{other:?}"),
            };
            assert!(["s3cret", "t0ken"].contains(&password.expose_secret()));
            assert!(!format!("{request:?} {work:?}").contains(password.expose_secret()));
        }
        for question in [
            AccountsCall::CreateUsers(users),
            AccountsCall::EnableRoot(SecretString::from("s3cret")),
            AccountsCall::SetPassword { user: "app".into(), password: SecretString::from("s3cret") },
        ] {
            let told = write(&Request::Accounts { operation: OperationId::new_v4(), epoch: 1, question });
            let request: Request = read(&told).unwrap();
            assert!(
                std::str::from_utf8(&told).unwrap().contains("s3cret") && !format!("{request:?}").contains("s3cret")
            );
        }
    }

    #[test]
    fn an_error_means_the_same_on_the_other_side() {
        let source = std::io::Error::other("no route");
        let error = Error::unavailable("away").with("socket", "/run/x").because(source).having(Effect::Unknown);
        let arrived = Error::from(read::<Failure>(&write(&Failure::from(error.clone()))).unwrap());
        assert_eq!(
            (arrived.kind(), arrived.is_transient(), arrived.effect()),
            (Kind::Unavailable, true, Effect::Unknown)
        );
        assert_eq!(arrived.to_string(), "away");
        assert!(arrived.report().contains("/run/x") && arrived.report().contains("no route"), "{}", arrived.report());
        assert_eq!(Error::from(Failure::from(Error::busy("later"))).report(), "later");
    }
}
