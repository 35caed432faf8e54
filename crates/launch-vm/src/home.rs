use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use procession_launch::Labels;

/// The longest path that a socket can have.
const LONGEST: usize = 107;
/// What is below the state directory, at most.
const BELOW: usize = "/0123456789abcdef-0123/initramfs".len();

/// What the names of the directories of guests begin with that are only to boot.
const TRY: &str = "kvm-";

/// The directory of one guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    dir: PathBuf,
}

impl Files {
    #[cfg(test)]
    pub(crate) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(crate) fn name(&self) -> &str {
        self.dir.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    pub(crate) fn agent(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// QEMU's own protocol, for whoever has launched it.
    pub(crate) fn qmp(&self) -> PathBuf {
        self.dir.join("qmp")
    }

    /// As that, for whoever else wants to end the guest: QEMU talks to one at a time.
    pub(crate) fn control(&self) -> PathBuf {
        self.dir.join("control")
    }

    pub(crate) fn initramfs(&self) -> PathBuf {
        self.dir.join("initramfs")
    }

    fn labels(&self) -> PathBuf {
        self.dir.join("labels.json")
    }

    /// Makes the directory, with what QEMU reads there.
    pub(crate) fn make(&self, labels: Option<&Labels>, initramfs: &[u8]) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.dir)?;
        if let Some(labels) = labels {
            let pairs: BTreeMap<_, _> = labels.pairs().into_iter().collect();
            fs::write(self.labels(), serde_json::to_vec(&pairs)?)?;
        }
        fs::write(self.initramfs(), initramfs)
    }

    pub(crate) fn read_labels(&self) -> Option<Labels> {
        let text = fs::read(self.labels()).ok()?;
        Labels::from_map(&serde_json::from_slice(&text).ok()?)
    }

    /// `Ok` where nothing is left.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Where the guests of this user have their directories.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    dir: PathBuf,
}

impl Home {
    /// # Errors
    /// It cannot be made, or others could get in.
    pub(crate) fn make(given: Option<&Path>) -> Result<Self, String> {
        let dir = match given {
            Some(dir) => std::path::absolute(dir).map_err(|error| error.to_string())?,
            None => match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
                Some(home) => PathBuf::from(home).join(".procession/vm"),
                None => return Err("HOME is not set; give state_dir".to_owned()),
            },
        };
        let failed = |error: io::Error| format!("{}: {error}; give another state_dir", dir.display());
        if dir.as_os_str().len() + BELOW > LONGEST {
            return Err(format!(
                "{}: sockets in there would have longer names than {LONGEST} bytes; give a shorter state_dir",
                dir.display()
            ));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        let found = fs::metadata(&dir).map_err(failed)?;
        let own = fs::metadata("/proc/self").map_err(failed)?.uid();
        if found.uid() != own {
            return Err(format!("{}: it is of user {}; give another state_dir", dir.display(), found.uid()));
        }
        if found.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&dir, Permissions::from_mode(0o700)).map_err(failed)?;
        }
        Ok(Self { dir })
    }

    pub(crate) fn files(&self, name: &str) -> Files {
        Files { dir: self.dir.join(name) }
    }

    /// The directory of a guest that is only to boot, which no other has, also in this process.
    pub(crate) fn fresh_try(&self) -> Files {
        static TRIES: AtomicU16 = AtomicU16::new(0);
        self.files(&format!("{TRY}{}-{}", std::process::id(), TRIES.fetch_add(1, Ordering::Relaxed)))
    }

    /// Takes away what such guests have left whose process was killed. Nobody owns it, and so nothing else does.
    pub(crate) fn tidy(&self, age: Duration) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let is_old =
                || entry.metadata()?.modified()?.elapsed().map_err(io::Error::other).map(|old| old > age);
            if entry.file_name().to_string_lossy().starts_with(TRY) && is_old().is_ok_and(|is_old| is_old) {
                let _another_may_do_it = Files { dir: entry.path() }.remove();
            }
        }
    }

    /// Which accelerator was seen to work, for what.
    pub(crate) fn accelerators(&self) -> PathBuf {
        self.dir.join("accelerators.json")
    }

    /// All guests that have a directory, whoever has launched them.
    pub(crate) fn all(&self) -> io::Result<Vec<(Files, Labels)>> {
        let entries = fs::read_dir(&self.dir)?;
        let dirs = entries.flatten().map(|entry| Files { dir: entry.path() });
        Ok(dirs.filter_map(|files| Some((files.clone(), files.read_labels()?))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_have_directories_that_say_whose_they_are_and_that_nobody_else_can_enter() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::make(Some(&dir.path().join("vm"))).expect("it is made");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("vm")), 0o700);
        let files = home.files("p-1");
        let labels = Labels {
            proc: "p".into(),
            session: "s".into(),
            incarnation: "i".into(),
            owner: "o".into(),
            process: "x".into(),
            lease: "30".into(),
        };
        files.make(Some(&labels), b"cpio").expect("it is made");
        assert_eq!(mode(&dir.path().join("vm/p-1")), 0o700);
        fs::write(home.accelerators(), "{}").expect("a file beside it");
        assert_eq!(home.all().expect("it is read"), [(files.clone(), labels)]);
        files.remove().expect("it is removed");
        files.remove().expect("nothing is left");
        assert_eq!(home.all().expect("it is read"), []);
    }

    #[test]
    fn tries_do_not_share_a_directory_and_what_they_have_left_goes_in_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::make(Some(dir.path())).expect("it is there");
        let (one, other) = (home.fresh_try(), home.fresh_try());
        assert_ne!(one, other);
        one.make(None, b"cpio").expect("it is made");
        home.files("p-1").make(None, b"cpio").expect("it is made");
        home.tidy(Duration::from_secs(60));
        assert!(one.initramfs().exists(), "somebody may need it");
        home.tidy(Duration::ZERO);
        assert!(!one.initramfs().exists() && home.files("p-1").initramfs().exists());
    }

    #[test]
    fn a_directory_whose_sockets_would_have_names_that_are_too_long_is_refused() {
        let why = Home::make(Some(Path::new(&format!("/{}", "a".repeat(90))))).expect_err("it is too long");
        assert!(why.contains("give a shorter state_dir"), "{why}");
    }
}
