//! An engine whose server is a shell script that fails on demand. It has settings, upgrades, a
//! read-only state and data templates.

mod images;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use trove_core::{
    datastore::{Cx, Datastore, Driver, GuestHost, Manifest, Version},
    error::{Error, Result},
    model::{Parameter, ParameterKind, Setting, Settings},
};
use trove_drivers::container::{
    ConfigFile, ContainerDriver, Engine, Helper, Parameters, Readiness, Template, UpgradePath,
};

pub use images::Images;

use crate::common::Fixture;

/// Reads its version from the environment of the image. Each major version migrates the data of
/// earlier ones and rejects that of later ones. The setting `broken` makes the start fail or hang,
/// and the file `stuck` in the data makes it fail.
const SERVE: &str = r#"
    trap 'rm -f /run/trove/*; exit 0' TERM
    cd /store/data || exit 2
    major=${SCRIPTED%%.*}
    [ "$(cat major)" -le "$major" ] || { echo "the data is of a later version" >&2; exit 6; }
    echo "$major" > major
    [ -z "$SCRIPTED_BREAKS" ] || { echo corrupt > content; exit 5; }
    if grep -q '^broken=on' /etc/trove/settings; then echo 'secret: x' >&2; echo 'wrong: broken' >&2; exit 3; fi
    if grep -q '^broken=late' /etc/trove/settings; then while :; do sleep 0.05; done; fi
    [ ! -e stuck ] || exit 7
    cp /etc/trove/settings /run/trove/settings
    cat /etc/trove/memory > /run/trove/memory
    echo "$SCRIPTED" > /run/trove/ready
    while :; do sleep 0.05; done"#;

const INITIALIZE: &str = r#"
    mkdir -p "$0/inner" && cd "$0" && echo "${SCRIPTED%%.*}" > major && echo hello > content &&
    cat /proc/sys/kernel/random/uuid | tee own.id origin > inner/origin"#;

/// The server of one instance.
pub struct Scripted {
    run: PathBuf,
}

pub type Server = Arc<dyn Datastore>;

/// Attaches a scripted server to the host of the fixture, with this image as version 1.
pub fn attach(fixture: &Fixture, image: &str) -> Server {
    attach_at(&host(fixture, image))
}

pub fn attach_at(host: &GuestHost) -> Server {
    ContainerDriver::<Scripted>::new().attach(host.clone()).unwrap()
}

pub fn host(fixture: &Fixture, image: &str) -> GuestHost {
    let mut host = fixture.host.clone();
    (host.version, host.image) = ("1".to_owned(), image.to_owned());
    host
}

/// Returns the settings of the running server as `name=value`.
pub fn effective_settings(host: &GuestHost) -> Vec<String> {
    let text = fs::read_to_string(host.directory.join("run/settings")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Returns the content of a data file.
pub fn content(host: &GuestHost) -> String {
    fs::read_to_string(host.volume.join("data/content")).unwrap()
}

pub fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Setting::from(*value))).collect()
}

#[async_trait]
impl Engine for Scripted {
    fn manifest() -> Manifest {
        let mut manifest = Manifest::new("scripted", Version::new("1", "scripted:1"), 7777);
        manifest.series = ["1", "2", "3"].map(str::to_owned).into();
        (manifest.configuration, manifest.upgrade) = (true, true);
        manifest
    }

    fn new(host: &GuestHost) -> Self {
        Self { run: host.directory.join("run") }
    }

    fn volume_target(&self) -> &str {
        "/store"
    }

    fn files(&self, host: &GuestHost, settings: &Settings) -> Vec<ConfigFile> {
        vec![
            ConfigFile::new("settings", render(settings)),
            ConfigFile::new("memory", format!("{}\n", host.flavor.memory.as_mib())),
        ]
    }

    fn init_command(&self, _host: &GuestHost, data: &str) -> Option<Vec<String>> {
        Some(["sh", "-c", INITIALIZE, data].map(str::to_owned).into())
    }

    fn template(&self) -> Option<Template> {
        Some(Template { options: "x".to_owned(), individual: vec!["*.id".to_owned()] })
    }

    fn server_command(&self, _host: &GuestHost, _data: &str) -> Vec<String> {
        ["sh", "-c", SERVE].map(str::to_owned).into()
    }

    fn version_command(&self) -> Option<Vec<String>> {
        Some(["sh", "-c", "[ -z \"$SCRIPTED\" ] || echo scripted $SCRIPTED"].map(str::to_owned).into())
    }

    fn read_version(&self, output: &str) -> Option<String> {
        output.trim().strip_prefix("scripted ").map(str::to_owned)
    }

    fn check_data(&self, host: &GuestHost, data: &Path) -> Result<()> {
        match fs::read_to_string(data.join("major")) {
            Ok(major) if major.trim() == host.version.split('.').next().unwrap() => Ok(()),
            Ok(_) => Err(Error::conflict("the data directory is another version's")),
            Err(error) => Err(Error::corrupt("the data directory is not scripted").with_source(error)),
        }
    }

    fn start_limit(&self) -> Duration {
        // Only a server with this setting never becomes ready.
        let settings = fs::read_to_string(self.run.with_file_name("conf").join("settings")).unwrap_or_default();
        Duration::from_secs(if settings.contains("broken=late") { 3 } else { 120 })
    }

    async fn probe(&self) -> Readiness {
        match fs::read_to_string(self.run.join("ready")) {
            Ok(version) if version.ends_with('\n') => {
                let version = version.trim().to_owned();
                match self.run.join("open").exists() {
                    true => Readiness::Ready { version },
                    false => Readiness::ReadOnly { version },
                }
            }
            Ok(_) => Readiness::Starting,
            Err(error) => Readiness::Unreachable(Error::unavailable("the server is not ready").with_source(error)),
        }
    }

    async fn allow_writes(&self) -> Result<()> {
        fs::write(self.run.join("open"), "")
            .map_err(|error| Error::unavailable("could not allow writes").with_source(error))
    }

    fn startup_error(&self, output: &str) -> Option<String> {
        output.lines().find(|line| line.starts_with("wrong: ")).map(str::to_owned)
    }

    fn parameters(&self) -> Option<&dyn Parameters> {
        Some(self)
    }

    fn upgrade_path(&self, from: &str, to: &str) -> Result<UpgradePath> {
        let major = |version: &str| version.split('.').next().unwrap().parse::<u32>().unwrap();
        match major(to) {
            to if to == major(from) => Ok(UpgradePath::Compatible),
            to if to > major(from) => Ok(UpgradePath::Changing),
            _ => Err(Error::unsupported("scripted cannot be downgraded")),
        }
    }

    async fn migrate(&self, cx: &Cx, helper: &dyn Helper) -> Result<()> {
        let command = "echo $SCRIPTED > /store/data/migrated && cat /store/data/migrated";
        let written = helper.run(cx, ["sh", "-c", command].map(str::to_owned).into()).await?;
        match written.trim() {
            "" => Err(Error::internal("the helper wrote nothing")),
            _ => Ok(()),
        }
    }
}

/// Parameters with `live` in their names are dynamic.
#[async_trait]
impl Parameters for Scripted {
    async fn read(&self, _cx: &Cx) -> Result<Vec<Parameter>> {
        Ok(vec![Parameter::new("b", ParameterKind::Text), Parameter::new("a", ParameterKind::Boolean)])
    }

    async fn set(&self, _host: &GuestHost, changes: &[(String, Option<Setting>)]) -> Result<Vec<String>> {
        let (file, mut pending) = (self.run.join("settings"), Vec::new());
        for (name, value) in changes {
            if !name.contains("live") {
                pending.push(name.clone());
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            let others = text.lines().filter(|line| !line.starts_with(&format!("{name}=")));
            let changed = value.iter().map(|value| format!("{name}={value}"));
            let mut lines: Vec<String> = others.map(str::to_owned).chain(changed).collect();
            lines.sort();
            fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        }
        Ok(pending)
    }
}

fn render(settings: &Settings) -> String {
    settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}
