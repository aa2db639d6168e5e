//! Secrets do not leak: the cases plant unique ones and search the artifacts of the host, the log,
//! errors and progress for them.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use memchr::memmem::Finder;
use tracing::instrument::WithSubscriber;

use super::{
    Artifact, ServerFault, ServerFixture,
    group::{Group, Need},
    log_capture::LogCapture,
};
use crate::{
    conformance::case::cases,
    datastore::{GuestHost, Prepare, RegistryLogin, Release},
    error::{Kind, Result},
    model::{NewDatabase, NewUser, UserName},
    secret::{ExposeSecret, SecretString, generate_password},
};

const SECRET_LENGTH: usize = 24;

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
        Group::empty("secrets", &[], cases![registry_logins_do_not_leak]).common(),
        Group::shared("secrets", &[], cases![requests_do_not_print_secrets]).common(),
        Group::shared("secrets", &[Need::Upgrade], cases![upgrades_do_not_leak_registry_logins]).common(),
    ]
}

async fn passwords_of_a_new_server_do_not_leak(fixture: &ServerFixture) {
    let mut detector = LeakDetector::new(fixture);
    let spec = planted_spec(fixture, &mut detector);
    let work = async {
        fixture.server.prepare(&fixture.cx(), &spec).await.unwrap();
        fixture.observe().await;
        fixture.restart().await;
    };
    work.with_subscriber(detector.logs.clone()).await;
    detector.assert_no_leaks().await;
    fixture.server.stop(&fixture.cx()).await.unwrap();
    detector.assert_no_leaks().await;
    fixture.server.remove(&fixture.cx()).await.unwrap();
    detector.assert_no_leaks().await;
}

async fn a_failed_prepare_does_not_leak_passwords(fixture: &ServerFixture) {
    let mut detector = LeakDetector::new(fixture);
    let spec = planted_spec(fixture, &mut detector);
    let mut host = fixture.host.clone();
    host.image = fixture.missing_image().0;
    let server = fixture.testbed().driver().attach(host).unwrap();
    let cx = fixture.cx();
    let failed = server.prepare(&cx, &spec).with_subscriber(detector.logs.clone()).await;
    detector.record_error("prepare", failed);
    let other = Prepare::new(Vec::new(), vec![NewUser::new("other", detector.plant())]);
    let conflict = server.prepare(&cx, &other).with_subscriber(detector.logs.clone()).await;
    assert_eq!(detector.record_error("a prepare with other arguments", conflict), Kind::Conflict);
    detector.assert_no_leaks().await;
}

async fn changed_passwords_do_not_leak(fixture: &ServerFixture) {
    let mut detector = LeakDetector::new(fixture);
    let [first, second, root] = [detector.plant(), detector.plant(), detector.plant()];
    let user = UserName::new(fixture.unique_name("planted"));
    let work = async {
        let (accounts, cx) = (fixture.accounts(), fixture.cx());
        accounts.create_users(&cx, &[NewUser::new(user.clone(), first)]).await.unwrap();
        accounts.set_password(&cx, &user, &second).await.unwrap();
        accounts.enable_root(&cx, &root).await.unwrap();
    };
    work.with_subscriber(detector.logs.clone()).await;
    detector.assert_no_leaks().await;
    let work = async {
        let (accounts, cx) = (fixture.accounts(), fixture.cx());
        accounts.disable_root(&cx).await.unwrap();
        accounts.drop_user(&cx, &user).await.unwrap();
    };
    work.with_subscriber(detector.logs.clone()).await;
    detector.assert_no_leaks().await;
}

async fn errors_do_not_leak_passwords(fixture: &ServerFixture) {
    let mut detector = LeakDetector::new(fixture);
    let [first, second, third] = [detector.plant(), detector.plant(), detector.plant()];
    let absent = UserName::new(fixture.unique_name("absent"));
    let logs = detector.logs.clone();
    let (accounts, cx) = (fixture.accounts(), fixture.cx());
    let taken = [NewUser::new("app", first.clone())];
    let failed = accounts.create_users(&cx, &taken).with_subscriber(logs.clone()).await;
    assert_eq!(detector.record_error("create_users with an existing name", failed), Kind::Conflict);
    let failed = accounts.set_password(&cx, &absent, &second).with_subscriber(logs.clone()).await;
    assert_eq!(detector.record_error("set_password of an absent user", failed), Kind::NotFound);
    if fixture.account_rules().is_some_and(|rules| rules.databases) {
        let users = [NewUser::new(absent.clone(), third).granted(fixture.unique_name("absent"))];
        let failed = accounts.create_users(&fixture.cx(), &users).with_subscriber(logs).await;
        assert_eq!(detector.record_error("create_users with an absent database", failed), Kind::NotFound);
    }
    detector.assert_no_leaks().await;
}

async fn errors_of_a_server_that_is_down_do_not_leak_passwords(fixture: &ServerFixture) {
    let mut detector = LeakDetector::new(fixture);
    let [first, second, root] = [detector.plant(), detector.plant(), detector.plant()];
    let logs = detector.logs.clone();
    fixture.inject(ServerFault::Kill).await;
    let accounts = fixture.accounts();
    let new = [NewUser::new(fixture.unique_name("planted"), first)];
    let failed = accounts.create_users(&fixture.cx(), &new).with_subscriber(logs.clone()).await;
    assert_eq!(detector.record_error("create_users", failed), Kind::Unavailable);
    let failed = accounts.set_password(&fixture.cx(), &"app".into(), &second).with_subscriber(logs.clone()).await;
    assert_eq!(detector.record_error("set_password", failed), Kind::Unavailable);
    let failed = accounts.enable_root(&fixture.cx(), &root).with_subscriber(logs).await;
    assert_eq!(detector.record_error("enable_root", failed), Kind::Unavailable);
    fixture.server.start(&fixture.cx()).await.unwrap();
    detector.assert_no_leaks().await;
}

async fn registry_logins_do_not_leak(fixture: &ServerFixture) {
    let mut detector = LeakDetector::new(fixture);
    let host = with_login(fixture, &mut detector);
    let server =
        fixture.testbed().driver().attach(GuestHost { image: fixture.missing_image().0, ..host.clone() }).unwrap();
    let failed = server.prepare(&fixture.cx(), &fixture.spec()).with_subscriber(detector.logs.clone()).await;
    detector.record_error("prepare", failed);
    detector.assert_no_leaks().await;
    server.remove(&fixture.cx()).await.unwrap();
    // An image that is already present needs no login.
    let server = fixture.testbed().driver().attach(host).unwrap();
    server.prepare(&fixture.cx(), &fixture.spec()).with_subscriber(detector.logs.clone()).await.unwrap();
    detector.assert_no_leaks().await;
}

async fn requests_do_not_print_secrets(fixture: &ServerFixture) {
    let mut detector = LeakDetector::new(fixture);
    let host = with_login(fixture, &mut detector);
    let spec = planted_spec(fixture, &mut detector);
    let mut release = Release::new(&host.version, &host.image);
    release.login.clone_from(&host.login);
    detector.record("the debug output of the request", format!("{:?} {spec:?} {host:?} {release:?}", fixture.cx()));
    detector.assert_no_leaks().await;
}

async fn upgrades_do_not_leak_registry_logins(fixture: &ServerFixture) {
    let mut detector = LeakDetector::new(fixture);
    let mut missing = Release::new(&fixture.host.version, fixture.missing_image().0);
    missing.login = with_login(fixture, &mut detector).login;
    let logs = detector.logs.clone();
    let failed = fixture.upgrade().check(&fixture.cx(), &missing).with_subscriber(logs.clone()).await;
    detector.record_error("check", failed);
    let failed = fixture.upgrade().upgrade(&fixture.cx(), &missing).with_subscriber(logs).await;
    detector.record_error("upgrade", failed);
    detector.assert_no_leaks().await;
}

/// Returns the initial contents of a server, with planted passwords.
fn planted_spec(fixture: &ServerFixture, detector: &mut LeakDetector<'_>) -> Prepare {
    let (app, other) = (NewUser::new("app", detector.plant()), NewUser::new("other", detector.plant()));
    match fixture.account_rules().is_some_and(|rules| rules.databases) {
        true => Prepare::new(vec![NewDatabase::new("app")], vec![app.granted("app"), other]),
        false => Prepare::new(Vec::new(), vec![app, other]),
    }
}

/// Returns the host with a planted login to the registry of its image.
fn with_login(fixture: &ServerFixture, detector: &mut LeakDetector<'_>) -> GuestHost {
    let mut host = fixture.host.clone();
    host.login = Some(RegistryLogin { username: "puller".to_owned(), password: detector.plant() });
    host
}

/// Plants secrets, records output, and searches everything for the secrets.
struct LeakDetector<'a> {
    fixture: &'a ServerFixture,
    logs: LogCapture,
    secrets: Vec<String>,
    records: Vec<Artifact>,
}

impl<'a> LeakDetector<'a> {
    fn new(fixture: &'a ServerFixture) -> Self {
        Self { fixture, logs: LogCapture::default(), secrets: Vec::new(), records: Vec::new() }
    }

    /// Returns a new secret, and searches for it from now on.
    fn plant(&mut self) -> SecretString {
        let secret = generate_password(SECRET_LENGTH).expect("random bytes");
        self.secrets.push(secret.expose_secret().to_owned());
        secret
    }

    fn record(&mut self, location: &str, text: String) {
        self.records.push(Artifact { location: location.to_owned(), content: text.into_bytes() });
    }

    /// Records everything that the error of a call contains, and returns the kind of the error.
    #[track_caller]
    fn record_error<T>(&mut self, call: &str, result: Result<T>) -> Kind {
        let Err(error) = result else { panic!("{call} should fail, but succeeded") };
        let context: Vec<_> = error.context().collect();
        let text = format!("{error} {error:?} {error:#?} {} {context:?}", error.report());
        self.record(&format!("the error of {call}"), text);
        error.kind()
    }

    /// Searches the log, the progress, the records and the artifacts for every secret in every
    /// encoding.
    async fn assert_no_leaks(&self) {
        let progress = format!("{:?}", self.fixture.progress());
        let logs = self.logs.text();
        let artifacts = self.fixture.testbed().artifacts(&self.fixture.host).await;
        let artifacts = artifacts.unwrap_or_else(|error| panic!("artifacts: {error:?}"));
        let captured = [("the progress", progress), ("the log of this process", logs)];
        let captured =
            captured.map(|(location, text)| Artifact { location: location.to_owned(), content: text.into_bytes() });
        for secret in &self.secrets {
            for encoding in encodings(secret) {
                let finder = Finder::new(&encoding);
                for Artifact { location, content } in captured.iter().chain(&self.records).chain(&artifacts) {
                    assert!(finder.find(content).is_none(), "{location} contains a secret");
                }
            }
        }
    }
}

/// Returns a secret verbatim, in hexadecimal, and in Base64 at any offset of a longer text.
fn encodings(secret: &str) -> Vec<Vec<u8>> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut encodings = vec![secret.to_owned(), hex.to_ascii_uppercase(), hex];
    for offset in 0..3 {
        let encoded = BASE64_STANDARD_NO_PAD.encode([&vec![0; offset], secret.as_bytes()].concat());
        // The characters at either end also encode bits of the adjacent bytes.
        let own = &encoded[(offset * 8).div_ceil(6)..(offset + secret.len()) * 8 / 6];
        encodings.extend([own.to_owned(), own.replace('+', "-").replace('/', "_")]);
    }
    encodings.into_iter().map(String::into_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_recognized_in_every_encoding() {
        let secret = "Xhunter2hunter2hunter2~?";
        let contains = |text: &str| {
            encodings(secret)
                .iter()
                .any(|encoding| text.as_bytes().windows(encoding.len()).any(|part| part == encoding))
        };
        for prefix in ["", "a", "ab", "abc", "app:"] {
            assert!(contains(&format!("{prefix}{secret}.")));
            assert!(contains(&BASE64_STANDARD_NO_PAD.encode(format!("{prefix}{secret}and more"))), "{prefix:?}");
        }
        let hex: String = secret.bytes().map(|byte| format!("{byte:02X}")).collect();
        assert!(contains(&hex) && !contains("hunter2"));
    }
}
