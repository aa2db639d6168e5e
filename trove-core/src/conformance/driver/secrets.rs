//! Planted secrets are found nowhere: not in what is left on the host, not in a log, an error or a phase.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use memchr::memmem::Finder;
use tracing::instrument::WithSubscriber;

use super::{
    Artifact, Fault, ServerFixture,
    group::{Group, Need},
    logs::Logs,
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
    let empty = cases![passwords_of_a_new_server_do_not_leak, a_failed_prepare_does_not_leak_passwords];
    let shared = cases![
        changed_passwords_do_not_leak,
        errors_do_not_leak_passwords,
        errors_of_a_server_that_is_down_do_not_leak_passwords,
    ];
    vec![
        Group::empty("secrets", &[Need::Accounts], empty),
        Group::shared("secrets", &[Need::Accounts], shared),
        Group::empty("secrets", &[], cases![registry_logins_do_not_leak]),
        Group::shared("secrets", &[], cases![requests_do_not_print_secrets]),
        Group::shared("secrets", &[Need::Upgrade], cases![upgrades_do_not_leak_registry_logins]),
    ]
}

async fn passwords_of_a_new_server_do_not_leak(fixture: &ServerFixture) {
    let mut watch = Watch::new(fixture);
    let spec = planted_spec(fixture, &mut watch);
    let work = async {
        fixture.server.prepare(&fixture.cx(), &spec).await.unwrap();
        fixture.observe().await;
        fixture.restart().await;
    };
    work.with_subscriber(watch.logs.clone()).await;
    watch.finds_nothing().await;
    fixture.server.stop(&fixture.cx()).await.unwrap();
    watch.finds_nothing().await;
    fixture.server.remove(&fixture.cx()).await.unwrap();
    watch.finds_nothing().await;
}

async fn a_failed_prepare_does_not_leak_passwords(fixture: &ServerFixture) {
    let mut watch = Watch::new(fixture);
    let spec = planted_spec(fixture, &mut watch);
    let mut host = fixture.host.clone();
    host.image = fixture.missing_image().0;
    let server = fixture.testbed().driver().attach(host).unwrap();
    let cx = fixture.cx();
    let failed = server.prepare(&cx, &spec).with_subscriber(watch.logs.clone()).await;
    watch.errs("prepare", failed);
    let other = Prepare::new(Vec::new(), vec![NewUser::new("other", watch.plant())]);
    let conflict = server.prepare(&cx, &other).with_subscriber(watch.logs.clone()).await;
    assert_eq!(watch.errs("prepare of others", conflict), Kind::Conflict);
    watch.finds_nothing().await;
}

async fn changed_passwords_do_not_leak(fixture: &ServerFixture) {
    let mut watch = Watch::new(fixture);
    let [first, second, root] = [watch.plant(), watch.plant(), watch.plant()];
    let user = UserName::new(fixture.unique_name("planted"));
    let work = async {
        let (accounts, cx) = (fixture.accounts(), fixture.cx());
        accounts.create_users(&cx, &[NewUser::new(user.clone(), first)]).await.unwrap();
        accounts.set_password(&cx, &user, &second).await.unwrap();
        accounts.enable_root(&cx, &root).await.unwrap();
    };
    work.with_subscriber(watch.logs.clone()).await;
    watch.finds_nothing().await;
    let work = async {
        let (accounts, cx) = (fixture.accounts(), fixture.cx());
        accounts.disable_root(&cx).await.unwrap();
        accounts.drop_user(&cx, &user).await.unwrap();
    };
    work.with_subscriber(watch.logs.clone()).await;
    watch.finds_nothing().await;
}

async fn errors_do_not_leak_passwords(fixture: &ServerFixture) {
    let mut watch = Watch::new(fixture);
    let [first, second, third] = [watch.plant(), watch.plant(), watch.plant()];
    let absent = UserName::new(fixture.unique_name("absent"));
    let logs = watch.logs.clone();
    let (accounts, cx) = (fixture.accounts(), fixture.cx());
    let taken = [NewUser::new("app", first.clone())];
    let failed = accounts.create_users(&cx, &taken).with_subscriber(logs.clone()).await;
    assert_eq!(watch.errs("a name that is taken", failed), Kind::Conflict);
    let failed = accounts.set_password(&cx, &absent, &second).with_subscriber(logs.clone()).await;
    assert_eq!(watch.errs("a user that is absent", failed), Kind::NotFound);
    if fixture.account_rules().is_some_and(|rules| rules.databases) {
        let nowhere = [NewUser::new(absent.clone(), third).granted(fixture.unique_name("nowhere"))];
        let failed = accounts.create_users(&fixture.cx(), &nowhere).with_subscriber(logs).await;
        assert_eq!(watch.errs("a database that is absent", failed), Kind::NotFound);
    }
    watch.finds_nothing().await;
}

async fn errors_of_a_server_that_is_down_do_not_leak_passwords(fixture: &ServerFixture) {
    let mut watch = Watch::new(fixture);
    let [first, second, root] = [watch.plant(), watch.plant(), watch.plant()];
    let logs = watch.logs.clone();
    fixture.inject(Fault::Kill).await;
    let accounts = fixture.accounts();
    let new = [NewUser::new(fixture.unique_name("planted"), first)];
    let failed = accounts.create_users(&fixture.cx(), &new).with_subscriber(logs.clone()).await;
    assert_eq!(watch.errs("create_users", failed), Kind::Unavailable);
    let failed = accounts.set_password(&fixture.cx(), &"app".into(), &second).with_subscriber(logs.clone()).await;
    assert_eq!(watch.errs("set_password", failed), Kind::Unavailable);
    let failed = accounts.enable_root(&fixture.cx(), &root).with_subscriber(logs).await;
    assert_eq!(watch.errs("enable_root", failed), Kind::Unavailable);
    fixture.server.start(&fixture.cx()).await.unwrap();
    watch.finds_nothing().await;
}

async fn registry_logins_do_not_leak(fixture: &ServerFixture) {
    let mut watch = Watch::new(fixture);
    let host = with_login(fixture, &mut watch);
    let server =
        fixture.testbed().driver().attach(GuestHost { image: fixture.missing_image().0, ..host.clone() }).unwrap();
    let failed = server.prepare(&fixture.cx(), &fixture.spec()).with_subscriber(watch.logs.clone()).await;
    watch.errs("prepare", failed);
    watch.finds_nothing().await;
    server.remove(&fixture.cx()).await.unwrap();
    // With an image that is there nobody has to sign in.
    let server = fixture.testbed().driver().attach(host).unwrap();
    server.prepare(&fixture.cx(), &fixture.spec()).with_subscriber(watch.logs.clone()).await.unwrap();
    watch.finds_nothing().await;
}

async fn requests_do_not_print_secrets(fixture: &ServerFixture) {
    let mut watch = Watch::new(fixture);
    let host = with_login(fixture, &mut watch);
    let spec = planted_spec(fixture, &mut watch);
    let mut release = Release::new(&host.version, &host.image);
    release.login.clone_from(&host.login);
    watch.said("what is asked for", format!("{:?} {spec:?} {host:?} {release:?}", fixture.cx()));
    watch.finds_nothing().await;
}

async fn upgrades_do_not_leak_registry_logins(fixture: &ServerFixture) {
    let mut watch = Watch::new(fixture);
    let mut missing = Release::new(&fixture.host.version, fixture.missing_image().0);
    missing.login = with_login(fixture, &mut watch).login;
    let logs = watch.logs.clone();
    let failed = fixture.upgrade().check(&fixture.cx(), &missing).with_subscriber(logs.clone()).await;
    watch.errs("check", failed);
    let failed = fixture.upgrade().upgrade(&fixture.cx(), &missing).with_subscriber(logs).await;
    watch.errs("upgrade", failed);
    watch.finds_nothing().await;
}

/// What a server begins with here, with planted passwords.
fn planted_spec(fixture: &ServerFixture, watch: &mut Watch<'_>) -> Prepare {
    let (app, other) = (NewUser::new("app", watch.plant()), NewUser::new("other", watch.plant()));
    match fixture.account_rules().is_some_and(|rules| rules.databases) {
        true => Prepare::new(vec![NewDatabase::new("app")], vec![app.granted("app"), other]),
        false => Prepare::new(Vec::new(), vec![app, other]),
    }
}

/// The place with a planted login to its image's registry.
fn with_login(fixture: &ServerFixture, watch: &mut Watch<'_>) -> GuestHost {
    let mut host = fixture.host.clone();
    host.login = Some(RegistryLogin { username: "puller".to_owned(), password: watch.plant() });
    host
}

/// Secrets that were planted, and what was said since.
struct Watch<'a> {
    fixture: &'a ServerFixture,
    logs: Logs,
    planted: Vec<String>,
    said: Vec<Artifact>,
}

impl<'a> Watch<'a> {
    fn new(fixture: &'a ServerFixture) -> Self {
        Self { fixture, logs: Logs::default(), planted: Vec::new(), said: Vec::new() }
    }

    /// A secret that there is nowhere else.
    fn plant(&mut self) -> SecretString {
        let secret = generate_password(SECRET_LETTERS).expect("random bytes");
        self.planted.push(secret.expose_secret().to_owned());
        secret
    }

    fn said(&mut self, place: &str, text: String) {
        self.said.push(Artifact { location: place.to_owned(), content: text.into_bytes() });
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
        let phases = format!("{:?}", self.fixture.progress());
        let logs = self.logs.text();
        let artifacts = self.fixture.testbed().artifacts(&self.fixture.host).await;
        let artifacts = artifacts.unwrap_or_else(|error| panic!("artifacts: {error:?}"));
        let told = [("the progress", phases), ("the log of this process", logs)];
        let told = told.map(|(place, text)| Artifact { location: place.to_owned(), content: text.into_bytes() });
        for secret in &self.planted {
            for form in forms(secret) {
                let finder = Finder::new(&form);
                for Artifact { location, content } in told.iter().chain(&self.said).chain(&artifacts) {
                    assert!(finder.find(content).is_none(), "a secret is in {location}");
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
