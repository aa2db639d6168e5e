//! Templates: freshly initialized data directories that are kept for later instances of the same
//! image on this host.
//!
//! They are in the directory that a host's instances share, where only agents may write:
//!
//! ```text
//! <shared>/templates/lock             held locked while a template is made
//! <shared>/templates/<name>/data/     the data directory, without individual files
//! <shared>/templates/<name>/seal      the key, and a digest of the data
//! <shared>/templates/<name>.new/      a template that is being made
//! ```
//!
//! Every copy is verified against the seal, so a damaged or incomplete template is never used.
//! Everything here blocks.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use trove_core::{datastore::ServerIdentity, error::Result, fs::replace};

use super::{
    Template, failed, open_lock_file,
    safe_fs::{CopyOptions, copy_tree_with_digest, remove_tree},
    state_file::{self, StateFile},
};
use crate::{hash::short_hash, reserved_names::matches_pattern};

/// The maximum number of templates.
const MOST: usize = 8;

/// The maximum size of a template in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// The key of a template, which must match for the template to be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TemplateKey {
    /// The name of the datastore.
    pub(crate) engine: String,
    pub(crate) version: String,
    /// The id of the image.
    pub(crate) image: String,
    /// Options of the engine that affect the data.
    pub(crate) options: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct TemplateManifest {
    key: TemplateKey,
    digest: String,
}

/// The templates of a host.
#[derive(Clone, Debug)]
pub(crate) struct Templates {
    root: PathBuf,
}

impl Templates {
    /// Returns the templates in the directory that a host's instances share.
    pub(crate) fn new(shared: &Path) -> Self {
        Self { root: shared.join("templates") }
    }

    /// Returns true if there seems to be a template for this key.
    pub(crate) fn has(&self, key: &TemplateKey) -> bool {
        self.path(key).exists()
    }

    /// Copies the template for this key to a new data directory. Returns false, and leaves nothing
    /// at the path, if there is no usable one.
    pub(crate) fn take(
        &self,
        key: &TemplateKey,
        to: &Path,
        owner: ServerIdentity,
        progress: &dyn Fn(u64) -> bool,
    ) -> Result<bool> {
        let path = self.path(key);
        let manifest = match state_file::read::<TemplateManifest>(&path.join("seal"))? {
            StateFile::Absent => return Ok(false),
            StateFile::Found(manifest) if manifest.key == *key => manifest,
            StateFile::Found(_) | StateFile::Damaged => return self.discard(&path).map(|()| false),
        };
        let owner = Some((owner.uid, owner.gid));
        let how = CopyOptions { owner, links: false, without: &|_| false, durable: true, progress };
        match copy_tree_with_digest(&path.join("data"), to, &how) {
            Ok(digest) if digest == manifest.digest => {
                // Marks the template as recently used. A failure is harmless.
                let _ = File::open(&path).and_then(|path| path.set_modified(SystemTime::now()));
                return Ok(true);
            }
            Ok(_) => self.discard(&path)?,
            Err(error) => tracing::warn!(template = %path.display(), %error, "failed to copy a template"),
        }
        remove_tree(to).map_err(|error| failed("remove an incomplete data directory", to, error))?;
        Ok(false)
    }

    /// Keeps a data directory that was just initialized, before any server ran on it, as a
    /// template. Does nothing if there is one or another is being made. Returns true if it made
    /// one.
    pub(crate) fn keep(&self, key: &TemplateKey, from: &Path, template: &Template) -> Result<bool> {
        let make = || -> io::Result<bool> {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
            let lock = open_lock_file(&self.root.join("lock"))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let path = self.path(key);
            if path.try_exists()? {
                return Ok(false);
            }
            let draft = path.with_extension("new");
            let made = self.draft(key, &draft, from, template).and_then(|()| fs::rename(&draft, &path));
            if made.is_err() {
                remove_tree(&draft)?;
            }
            made.map(|()| true)
        };
        make().map_err(|error| failed("keep a template", &self.root, error))
    }

    /// Removes all but the most recently used templates, and returns the keys of those.
    pub(crate) fn sweep(&self) -> Result<Vec<TemplateKey>> {
        let swept = || -> io::Result<Vec<(SystemTime, PathBuf)>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(&self.root)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() && entry.path().extension().is_none() {
                    found.push((entry.metadata()?.modified()?, entry.path()));
                }
            }
            found.sort();
            Ok(found)
        };
        let mut found = swept().map_err(|error| failed("list the templates", &self.root, error))?;
        let surplus = found.len().saturating_sub(MOST);
        for (_, path) in found.drain(..surplus) {
            self.discard(&path)?;
        }
        let mut kept = Vec::new();
        for (_, path) in found {
            match state_file::read::<TemplateManifest>(&path.join("seal"))? {
                StateFile::Found(manifest) => kept.push(manifest.key),
                StateFile::Absent | StateFile::Damaged => self.discard(&path)?,
            }
        }
        Ok(kept)
    }

    /// Removes the template for this key.
    pub(crate) fn remove(&self, key: &TemplateKey) -> Result<()> {
        self.discard(&self.path(key))
    }

    fn draft(&self, key: &TemplateKey, draft: &Path, from: &Path, template: &Template) -> io::Result<()> {
        // A draft of a killed process may be left.
        remove_tree(draft)?;
        DirBuilder::new().mode(0o700).create(draft)?;
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let how = CopyOptions {
            owner: Some(owner),
            links: false,
            without: &|name| template.individual.iter().any(|pattern| matches_pattern(pattern, name)),
            // The seal detects missing content.
            durable: false,
            progress: &|bytes| bytes <= MAX_BYTES,
        };
        let digest = copy_tree_with_digest(from, &draft.join("data"), &how)?;
        let manifest = serde_json::to_vec(&TemplateManifest { key: key.clone(), digest })?;
        replace(&draft.join("seal"), &manifest)
    }

    fn path(&self, key: &TemplateKey) -> PathBuf {
        let TemplateKey { engine, version, image, options } = key;
        let name = short_hash(format!("{version}\0{image}\0{options}").as_bytes());
        self.root.join(format!("{engine}-{name}"))
    }

    fn discard(&self, path: &Path) -> Result<()> {
        remove_tree(path).map_err(|error| failed("remove a template", path, error))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    struct Bench {
        directory: tempfile::TempDir,
        templates: Templates,
        template: Template,
        owner: ServerIdentity,
    }

    impl Bench {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let data = directory.path().join("initialized");
            fs::create_dir_all(data.join("mysql/inner")).unwrap();
            for (name, text) in [("a", "one"), ("auto.cnf", "me"), ("x.pem", "key"), ("mysql/inner/b", "two")] {
                fs::write(data.join(name), text).unwrap();
            }
            fs::set_permissions(data.join("a"), fs::Permissions::from_mode(0o640)).unwrap();
            let templates = Templates::new(&directory.path().join("shared"));
            let individual = vec!["auto.cnf".to_owned(), "*.pem".to_owned()];
            let template = Template { options: String::new(), individual };
            let own = fs::metadata(&data).unwrap();
            let owner = match own.uid() {
                0 => ServerIdentity { uid: 2_000_000_007, gid: 2_000_000_007 },
                uid => ServerIdentity { uid, gid: own.gid() },
            };
            Self { directory, templates, template, owner }
        }

        fn keep(&self, subject: &TemplateKey) -> bool {
            self.templates.keep(subject, &self.directory.path().join("initialized"), &self.template).unwrap()
        }

        fn take(&self, subject: &TemplateKey) -> bool {
            let to = self.directory.path().join("copy");
            remove_tree(&to).unwrap();
            let taken = self.templates.take(subject, &to, self.owner, &|_| true).unwrap();
            assert_eq!(to.exists(), taken);
            taken
        }
    }

    fn subject(image: &str) -> TemplateKey {
        TemplateKey { engine: "e".into(), version: "1".into(), image: image.into(), options: String::new() }
    }

    #[test]
    fn copies_of_a_template_are_complete_and_owned_by_their_server() {
        let bench = Bench::new();
        let subject = subject("sha256:1");
        assert!(!bench.take(&subject));
        assert!(bench.keep(&subject) && !bench.keep(&subject) && bench.take(&subject));
        let copy = bench.directory.path().join("copy");
        assert_eq!(fs::read_to_string(copy.join("mysql/inner/b")).unwrap(), "two");
        assert!(!copy.join("auto.cnf").exists() && !copy.join("x.pem").exists());
        for path in ["", "a", "mysql/inner", "mysql/inner/b"] {
            let found = fs::metadata(copy.join(path)).unwrap();
            assert_eq!((found.uid(), found.gid()), (bench.owner.uid, bench.owner.gid), "{path:?}");
        }
        assert_eq!(fs::metadata(copy.join("a")).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::metadata(&bench.templates.root).unwrap().mode() & 0o7777, 0o700);
        assert!(!bench.take(&super::tests::subject("sha256:2")));
    }

    #[test]
    fn damaged_templates_are_discarded() {
        let subject = subject("sha256:1");
        type Damage = fn(&Path);
        let damages: [Damage; 6] = [
            |place| fs::write(place.join("data/a"), "onE").unwrap(),
            |place| fs::write(place.join("data/more"), "").unwrap(),
            |place| fs::remove_file(place.join("data/mysql/inner/b")).unwrap(),
            |place| fs::write(place.join("seal"), "{").unwrap(),
            |place| fs::set_permissions(place.join("data/a"), fs::Permissions::from_mode(0o644)).unwrap(),
            |place| {
                fs::remove_file(place.join("data/a")).unwrap();
                symlink("/etc/passwd", place.join("data/a")).unwrap();
            },
        ];
        for (at, damage) in damages.into_iter().enumerate() {
            let bench = Bench::new();
            assert!(bench.keep(&subject));
            damage(&bench.templates.path(&subject));
            assert!(!bench.take(&subject), "damage {at}");
        }
    }

    #[test]
    fn templates_with_links_are_refused() {
        let bench = Bench::new();
        symlink("/etc/passwd", bench.directory.path().join("initialized/link")).unwrap();
        let from = bench.directory.path().join("initialized");
        bench.templates.keep(&subject("sha256:1"), &from, &bench.template).unwrap_err();
        assert!(!bench.take(&subject("sha256:1")));
        assert_eq!(fs::read_dir(&bench.templates.root).unwrap().count(), 1, "the lock");
    }

    #[test]
    fn only_the_most_recently_used_templates_are_kept() {
        let bench = Bench::new();
        for image in 0..=MOST {
            assert!(bench.keep(&subject(&image.to_string())));
        }
        let first = File::open(bench.templates.path(&subject("3"))).unwrap();
        first.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let kept = bench.templates.sweep().unwrap();
        assert_eq!(kept.len(), MOST);
        assert!(!kept.contains(&subject("3")) && !bench.take(&subject("3")) && bench.take(&subject("0")));
    }
}
