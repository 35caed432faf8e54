use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use procession_model::LaunchId;
use rustix::fs::{FlockOperation, flock};

const LOCK: &str = "lock";
/// Leaves room for a file name below the 107 bytes of a socket's path.
const LONGEST: usize = 80;

/// The directory of a host that is started again after its end: it stays. Only its user can enter it, and one host at a
/// time uses it.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    _lock: File,
}

impl Kept {
    /// Takes `path` for this process; makes it when there is none.
    ///
    /// # Errors
    /// It cannot be used, or another host uses it.
    pub(crate) fn take(path: &Path) -> io::Result<Self> {
        let unfit = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        let path = std::path::absolute(path)?;
        if path.as_os_str().len() > LONGEST {
            return unfit(format!("the path is longer than {LONGEST} bytes, too long for the sockets in it"));
        }
        if !path.try_exists()? {
            DirBuilder::new().mode(0o700).recursive(true).create(&path)?;
        }
        let found = fs::symlink_metadata(&path)?;
        let own = fs::metadata("/proc/self")?.uid();
        if !found.is_dir() {
            return unfit("it is not a directory; a symbolic link is not followed".to_owned());
        }
        if found.uid() != own {
            return unfit(format!("it belongs to user {} and this process runs as {own}", found.uid()));
        }
        if found.mode() & 0o7777 != 0o700 {
            return unfit(format!("its mode is {:04o}: use chmod 0700", found.mode() & 0o7777));
        }
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what hosts that were killed had in common with launches that are over: of none in `going_on`.
    pub(crate) fn tidy(&self, going_on: &[LaunchId]) {
        let of = |id: &str| going_on.iter().any(|launch| launch.to_string().starts_with(id));
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(common_with);
            if id.is_some_and(|id| !of(id)) {
                // What cannot be removed is tried again by the next host.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn lock(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file =
        options.create(true).truncate(false).read(true).write(true).mode(0o600).open(directory.join(LOCK))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        file.read_to_string(&mut pid)?;
        let why = format!("process {} is a host that uses it; end that one, or give another", pid.trim());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// Of which launch a file or socket of that name is: its id, or the beginning of it.
fn common_with(name: &str) -> Option<&str> {
    let id = ["launch-", "flight-", "n"].iter().find_map(|prefix| name.strip_prefix(prefix))?;
    (id.len() >= 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_host_at_a_time_has_it_and_it_stays() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b");
        let kept = Kept::take(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        let why = Kept::take(&path).unwrap_err().to_string();
        assert!(why.contains(&format!("process {} is a host", std::process::id())), "{why}");
        drop(kept);
        Kept::take(&path).unwrap();
    }

    #[test]
    fn what_a_killed_host_had_in_common_with_launches_that_are_over_is_removed_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let kept = Kept::take(&base.path().join("kept")).unwrap();
        let [going_on, over] = [LaunchId::fresh(), LaunchId::fresh()];
        let names = |launch: LaunchId| {
            let id = launch.to_string();
            [format!("launch-{id}"), format!("flight-{id}"), format!("n{}", &id[..16])]
        };
        let others = ["notes".to_owned(), "launch-pad".to_owned(), "nd".to_owned()];
        let stay: Vec<_> = names(going_on).into_iter().chain(others).collect();
        for name in names(over).iter().chain(&stay) {
            fs::write(kept.path().join(name), "").unwrap();
        }
        kept.tidy(&[going_on]);
        assert!(stay.iter().all(|name| kept.path().join(name).exists()));
        assert!(!names(over).iter().any(|name| kept.path().join(name).exists()));
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused_and_so_are_links_and_long_paths() {
        let base = tempfile::tempdir().unwrap();
        let open = base.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).unwrap();
        for (path, word) in [(open, "chmod"), (link, "symbolic"), (base.path().join("x".repeat(90)), "long")]
        {
            let why = Kept::take(&path).unwrap_err().to_string();
            assert!(why.contains(word), "{why}");
        }
    }
}
