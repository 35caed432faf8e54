use std::fs::{create_dir_all, read_to_string};
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{chdir, chroot};
use rustix::system::sethostname;

use crate::agent::appears;
use crate::at;

const DISK: &str = "/dev/vda";
const ROOT: &str = "/root";

/// Makes the image the root of all that follows.
pub(crate) fn switch() -> Result<(), String> {
    appears(DISK, || Path::new(DISK).exists().then_some(()))?;
    at(ROOT, create_dir_all(ROOT))?;
    let mounted = mount(DISK, ROOT, "ext4", MountFlags::NOATIME, None);
    at("the image cannot be mounted as ext4", mounted.map_err(io::Error::from))?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    for (kind, path, flags) in [
        ("devtmpfs", "/dev", MountFlags::NOSUID),
        ("devpts", "/dev/pts", MountFlags::NOSUID),
        ("tmpfs", "/dev/shm", plain),
        ("proc", "/proc", plain),
        ("sysfs", "/sys", plain),
        ("cgroup2", "/sys/fs/cgroup", plain),
        ("tmpfs", "/run", plain),
    ] {
        let path = format!("{ROOT}{path}");
        if !Path::new(&path).is_dir() {
            at(&path, create_dir_all(&path))?;
        }
        at(&path, mount("none", path.as_str(), kind, flags, None).map_err(io::Error::from))?;
    }
    at("/tmp", create_dir_all(format!("{ROOT}/tmp")))?;
    at(ROOT, chdir(ROOT).map_err(io::Error::from))?;
    at(ROOT, mount_move(".", "/").map_err(io::Error::from))?;
    at(ROOT, chroot(".").map_err(io::Error::from))?;
    at("/", chdir("/").map_err(io::Error::from))?;
    let name = read_to_string("/etc/hostname").unwrap_or_default();
    let name = if name.trim().is_empty() { "vm" } else { name.trim() };
    at("the host name", sethostname(name.as_bytes()).map_err(io::Error::from))
}
