//! Where this process's own groups are in the file system.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The directories of the groups that this process is in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OwnGroups {
    pub(super) unified: Option<PathBuf>,
    /// By controller.
    pub(super) v1: HashMap<String, PathBuf>,
}

pub(super) fn own_groups() -> OwnGroups {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut own = parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
    own.unified = own.unified.filter(|path| path.is_dir());
    own.v1.retain(|_, path| path.is_dir());
    own
}

fn parse(mounts: &str, groups: &str) -> OwnGroups {
    let mut own = OwnGroups::default();
    for (root, point, kind, options) in mounts.lines().filter_map(mount) {
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            // Where only a part of the hierarchy is mounted, the path starts above it.
            let Ok(below) = Path::new(path).strip_prefix(&root) else { continue };
            // Above the root of our namespace nothing can be named.
            if below.components().any(|part| part == Component::ParentDir) {
                continue;
            }
            let directory = if below.as_os_str().is_empty() { point.clone() } else { point.join(below) };
            if kind == "cgroup2" && controllers.is_empty() {
                own.unified.get_or_insert(directory);
            } else if kind == "cgroup" {
                let mounted =
                    controllers.split(',').filter(|one| options.split(',').any(|option| option == *one));
                for controller in mounted {
                    own.v1.entry(controller.to_owned()).or_insert_with(|| directory.clone());
                }
            }
        }
    }
    own
}

/// Root, mount point, type and options of the file system.
fn mount(line: &str) -> Option<(PathBuf, PathBuf, &str, &str)> {
    let (place, system) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (unescaped(place.next()?), unescaped(place.next()?));
    let mut system = system.split(' ');
    let (kind, options) = (system.next()?, system.nth(1)?);
    kind.starts_with("cgroup").then_some((root, point, kind, options))
}

fn unescaped(path: &str) -> PathBuf {
    // The kernel writes these four as octal numbers.
    let mut plain = path.to_owned();
    for (code, char) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(code, char);
    }
    plain.into()
}

/// The group above, where a service manager has put this process into a leaf and has left all that is
/// above it, up to the mark, to us: only there do groups get controllers.
pub(super) fn delegated_parent(own: &Path) -> Option<PathBuf> {
    let parent = own.parent()?;
    let path = CString::new(parent.as_os_str().as_bytes()).ok()?;
    [c"user.delegate", c"trusted.delegate"]
        .into_iter()
        .any(|name| {
            let mut value = [0_u8; 2];
            // SAFETY: the kernel writes at most as many bytes as the array has.
            let length = unsafe {
                libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
            };
            length == 1 && value[0] == b'1'
        })
        .then(|| parent.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_machine_has_groups_of_both_versions() {
        let mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      38 31 0:35 / /sys/fs/cgroup/cpu\\040both rw - cgroup cgroup rw,cpu,cpuacct\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      42 31 0:39 / /proc rw - proc proc rw\n";
        let own = parse(mounts, "4:memory:/a/b\n2:cpu,cpuacct:/\n0::/c\n");
        assert_eq!(own.unified, Some("/sys/fs/cgroup/unified/c".into()));
        assert_eq!(own.v1["memory"], Path::new("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(own.v1["cpu"], Path::new("/sys/fs/cgroup/cpu both"));
        assert_eq!(own.v1.len(), 3);
    }

    #[test]
    fn in_a_container_a_path_starts_at_what_is_mounted_and_elsewhere_is_nowhere() {
        let mounts = "1 2 0:32 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let own = parse(mounts, "4:memory:/docker/x/y\n");
        assert_eq!(own.v1["memory"], Path::new("/sys/fs/cgroup/memory/y"));
        assert_eq!(parse(mounts, "4:memory:/other\n"), OwnGroups::default());
        assert_eq!(parse(mounts, "4:memory:/docker/x/../y\n"), OwnGroups::default());
        assert_eq!(parse("", ""), OwnGroups::default());
    }
}
