//! Planted secrets are found nowhere: not in what is left on the host, not in a log, an error or a phase.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use memchr::memmem::Finder;
use tracing::instrument::WithSubscriber;

use super::{
    Harm, Trace, Trial,
    logs::Logs,
    suite::{Group, Need},
};
use crate::{
    conformance::case::cases,
    datastore::{GuestHost, Prepare, RegistryLogin, Release},
    error::{Kind, Result},
    model::{NewDatabase, NewUser, UserName},
    secret::{ExposeSecret, SecretString, generate_password},
};

const SECRET_LETTERS: usize = 24;

pub(super) fn groups() -> Vec<Group> {
    let empty = cases![the_passwords_of_a_new_server_are_in_no_trace, a_failed_prepare_tells_no_password];
    let shared = cases![
        passwords_that_are_set_are_in_no_trace,
        an_error_tells_no_password,
        a_server_that_is_down_tells_no_password,
    ];
    vec![
        Group::empty("secrets", &[Need::Accounts], empty),
        Group::shared("secrets", &[Need::Accounts], shared),
        Group::empty("secrets", &[], cases![a_login_to_a_registry_is_in_no_trace]),
        Group::shared("secrets", &[], cases![what_is_asked_for_prints_no_secret]),
        Group::shared("secrets", &[Need::Upgrade], cases![an_upgrade_tells_no_login]),
    ]
}

async fn the_passwords_of_a_new_server_are_in_no_trace(trial: &Trial) {
    let mut watch = Watch::new(trial);
    let spec = planted_spec(trial, &mut watch);
    let work = async {
        trial.server.prepare(&trial.cx(), &spec).await.unwrap();
        trial.observe().await;
        trial.restart().await;
    };
    work.with_subscriber(watch.logs.clone()).await;
    watch.finds_nothing().await;
    trial.server.stop(&trial.cx()).await.unwrap();
    watch.finds_nothing().await;
    trial.server.remove(&trial.cx()).await.unwrap();
    watch.finds_nothing().await;
}

async fn a_failed_prepare_tells_no_password(trial: &Trial) {
    let mut watch = Watch::new(trial);
    let spec = planted_spec(trial, &mut watch);
    let mut host = trial.host.clone();
    host.image = trial.missing_image().0;
    let server = trial.testbed().driver().attach(host).unwrap();
    let cx = trial.cx();
    let failed = server.prepare(&cx, &spec).with_subscriber(watch.logs.clone()).await;
    watch.errs("prepare", failed);
    let other = Prepare::new(Vec::new(), vec![NewUser::new("other", watch.plant())]);
    let conflict = server.prepare(&cx, &other).with_subscriber(watch.logs.clone()).await;
    assert_eq!(watch.errs("prepare of others", conflict), Kind::Conflict);
    watch.finds_nothing().await;
}

async fn passwords_that_are_set_are_in_no_trace(trial: &Trial) {
    let mut watch = Watch::new(trial);
    let [first, second, root] = [watch.plant(), watch.plant(), watch.plant()];
    let user = UserName::new(trial.name("planted"));
    let work = async {
        let (accounts, cx) = (trial.accounts(), trial.cx());
        accounts.create_users(&cx, &[NewUser::new(user.clone(), first)]).await.unwrap();
        accounts.set_password(&cx, &user, &second).await.unwrap();
        accounts.enable_root(&cx, &root).await.unwrap();
    };
    work.with_subscriber(watch.logs.clone()).await;
    watch.finds_nothing().await;
    let work = async {
        let (accounts, cx) = (trial.accounts(), trial.cx());
        accounts.disable_root(&cx).await.unwrap();
        accounts.drop_user(&cx, &user).await.unwrap();
    };
    work.with_subscriber(watch.logs.clone()).await;
    watch.finds_nothing().await;
}

async fn an_error_tells_no_password(trial: &Trial) {
    let mut watch = Watch::new(trial);
    let [first, second, third] = [watch.plant(), watch.plant(), watch.plant()];
    let absent = UserName::new(trial.name("absent"));
    let logs = watch.logs.clone();
    let (accounts, cx) = (trial.accounts(), trial.cx());
    let taken = [NewUser::new("app", first.clone())];
    let failed = accounts.create_users(&cx, &taken).with_subscriber(logs.clone()).await;
    assert_eq!(watch.errs("a name that is taken", failed), Kind::Conflict);
    let failed = accounts.set_password(&cx, &absent, &second).with_subscriber(logs.clone()).await;
    assert_eq!(watch.errs("a user that is absent", failed), Kind::NotFound);
    if trial.rules().is_some_and(|rules| rules.databases) {
        let nowhere = [NewUser::new(absent.clone(), third).granted(trial.name("nowhere"))];
        let failed = accounts.create_users(&trial.cx(), &nowhere).with_subscriber(logs).await;
        assert_eq!(watch.errs("a database that is absent", failed), Kind::NotFound);
    }
    watch.finds_nothing().await;
}

async fn a_server_that_is_down_tells_no_password(trial: &Trial) {
    let mut watch = Watch::new(trial);
    let [first, second, root] = [watch.plant(), watch.plant(), watch.plant()];
    let logs = watch.logs.clone();
    trial.harm(Harm::Kill).await;
    let accounts = trial.accounts();
    let new = [NewUser::new(trial.name("planted"), first)];
    let failed = accounts.create_users(&trial.cx(), &new).with_subscriber(logs.clone()).await;
    assert_eq!(watch.errs("create_users", failed), Kind::Unavailable);
    let failed = accounts.set_password(&trial.cx(), &"app".into(), &second).with_subscriber(logs.clone()).await;
    assert_eq!(watch.errs("set_password", failed), Kind::Unavailable);
    let failed = accounts.enable_root(&trial.cx(), &root).with_subscriber(logs).await;
    assert_eq!(watch.errs("enable_root", failed), Kind::Unavailable);
    trial.server.start(&trial.cx()).await.unwrap();
    watch.finds_nothing().await;
}

async fn a_login_to_a_registry_is_in_no_trace(trial: &Trial) {
    let mut watch = Watch::new(trial);
    let host = with_login(trial, &mut watch);
    let server = trial.testbed().driver().attach(GuestHost { image: trial.missing_image().0, ..host.clone() }).unwrap();
    let failed = server.prepare(&trial.cx(), &trial.spec()).with_subscriber(watch.logs.clone()).await;
    watch.errs("prepare", failed);
    watch.finds_nothing().await;
    server.remove(&trial.cx()).await.unwrap();
    // With an image that is there nobody has to sign in.
    let server = trial.testbed().driver().attach(host).unwrap();
    server.prepare(&trial.cx(), &trial.spec()).with_subscriber(watch.logs.clone()).await.unwrap();
    watch.finds_nothing().await;
}

async fn what_is_asked_for_prints_no_secret(trial: &Trial) {
    let mut watch = Watch::new(trial);
    let host = with_login(trial, &mut watch);
    let spec = planted_spec(trial, &mut watch);
    let mut release = Release::new(&host.version, &host.image);
    release.login.clone_from(&host.login);
    watch.said("what is asked for", format!("{:?} {spec:?} {host:?} {release:?}", trial.cx()));
    watch.finds_nothing().await;
}

async fn an_upgrade_tells_no_login(trial: &Trial) {
    let mut watch = Watch::new(trial);
    let mut missing = Release::new(&trial.host.version, trial.missing_image().0);
    missing.login = with_login(trial, &mut watch).login;
    let logs = watch.logs.clone();
    let failed = trial.upgrade().check(&trial.cx(), &missing).with_subscriber(logs.clone()).await;
    watch.errs("check", failed);
    let failed = trial.upgrade().upgrade(&trial.cx(), &missing).with_subscriber(logs).await;
    watch.errs("upgrade", failed);
    watch.finds_nothing().await;
}

/// What a server begins with here, with planted passwords.
fn planted_spec(trial: &Trial, watch: &mut Watch<'_>) -> Prepare {
    let (app, other) = (NewUser::new("app", watch.plant()), NewUser::new("other", watch.plant()));
    match trial.rules().is_some_and(|rules| rules.databases) {
        true => Prepare::new(vec![NewDatabase::new("app")], vec![app.granted("app"), other]),
        false => Prepare::new(Vec::new(), vec![app, other]),
    }
}

/// The place with a planted login to its image's registry.
fn with_login(trial: &Trial, watch: &mut Watch<'_>) -> GuestHost {
    let mut host = trial.host.clone();
    host.login = Some(RegistryLogin { username: "puller".to_owned(), password: watch.plant() });
    host
}

/// Secrets that were planted, and what was said since.
struct Watch<'a> {
    trial: &'a Trial,
    logs: Logs,
    planted: Vec<String>,
    said: Vec<Trace>,
}

impl<'a> Watch<'a> {
    fn new(trial: &'a Trial) -> Self {
        Self { trial, logs: Logs::default(), planted: Vec::new(), said: Vec::new() }
    }

    /// A secret that there is nowhere else.
    fn plant(&mut self) -> SecretString {
        let secret = generate_password(SECRET_LETTERS).expect("random bytes");
        self.planted.push(secret.expose_secret().to_owned());
        secret
    }

    fn said(&mut self, place: &str, text: String) {
        self.said.push(Trace { place: place.to_owned(), content: text.into_bytes() });
    }

    /// Keeps all that the error of a call tells, and returns its kind.
    #[track_caller]
    fn errs<T>(&mut self, call: &str, result: Result<T>) -> Kind {
        let Err(error) = result else { panic!("{call} was not refused") };
        let context: Vec<_> = error.context().collect();
        let told = format!("{error} {error:?} {error:#?} {} {context:?}", error.report());
        self.said(&format!("the error of {call}"), told);
        error.kind()
    }

    /// Looks for every secret in every form in all there is.
    async fn finds_nothing(&self) {
        let phases = format!("{:?}", self.trial.heard());
        let logs = self.logs.text();
        let traces = self.trial.testbed().traces(&self.trial.host).await;
        let traces = traces.unwrap_or_else(|error| panic!("traces: {error:?}"));
        let told = [("the progress", phases), ("the log of this process", logs)];
        let told = told.map(|(place, text)| Trace { place: place.to_owned(), content: text.into_bytes() });
        for secret in &self.planted {
            for form in forms(secret) {
                let finder = Finder::new(&form);
                for Trace { place, content } in told.iter().chain(&self.said).chain(&traces) {
                    assert!(finder.find(content).is_none(), "a secret is in {place}");
                }
            }
        }
    }
}

/// A secret as it is, in hexadecimal, and in base64 wherever in a longer text it is.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![secret.to_owned(), hex.to_ascii_uppercase(), hex];
    for before in 0..3 {
        let encoded = BASE64_STANDARD_NO_PAD.encode([&vec![0; before], secret.as_bytes()].concat());
        // The letters at either end hold bits of what is beside it, too.
        let own = &encoded[(before * 8).div_ceil(6)..(before + secret.len()) * 8 / 6];
        forms.extend([own.to_owned(), own.replace('+', "-").replace('/', "_")]);
    }
    forms.into_iter().map(String::into_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_in_every_form() {
        let secret = "Xhunter2hunter2hunter2~?";
        let holds =
            |text: &str| forms(secret).iter().any(|form| text.as_bytes().windows(form.len()).any(|part| part == form));
        for before in ["", "a", "ab", "abc", "app:"] {
            assert!(holds(&format!("{before}{secret}.")));
            assert!(holds(&BASE64_STANDARD_NO_PAD.encode(format!("{before}{secret}and more"))), "{before:?}");
        }
        let hex: String = secret.bytes().map(|byte| format!("{byte:02X}")).collect();
        assert!(holds(&hex) && !holds("hunter2"));
    }
}
