use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;

/// What a guest may need: its bus, its disk, its port, its network card, its root file system, and who tells of a panic.
const WANTED: [&str; 7] =
    ["virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "ext4", "pvpanic-mmio", "virtio_rng"];

/// The paths below the directory of `modules.dep` of what guests need, each after those that it needs. What is not among them
/// is part of the kernel, or not there.
pub(crate) fn wanted(modules_dep: &str) -> Vec<String> {
    let needs: HashMap<&str, Vec<&str>> = modules_dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (path, needs.split_whitespace().collect()))
        .collect();
    let by_name: HashMap<String, &str> = needs.keys().map(|path| (name(path), *path)).collect();
    let (mut ordered, mut seen) = (Vec::new(), HashSet::new());
    for wanted in WANTED {
        if let Some(path) = by_name.get(&wanted.replace('-', "_")) {
            visit(path, &needs, &mut seen, &mut ordered);
        }
    }
    ordered
}

fn visit<'a>(
    path: &'a str,
    needs: &HashMap<&'a str, Vec<&'a str>>,
    seen: &mut HashSet<&'a str>,
    ordered: &mut Vec<String>,
) {
    if !seen.insert(path) {
        return;
    }
    for need in needs.get(path).into_iter().flatten() {
        visit(need, needs, seen, ordered);
    }
    ordered.push(path.to_owned());
}

/// A module's name, in which the kernel takes - for _.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// A module as the kernel takes it.
///
/// # Errors
/// It cannot be read, or what unpacks it is not here.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let unpacks = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return std::fs::read(path).map_err(failed),
    };
    let unpacked = Command::new(unpacks).arg("-dc").arg(path).output();
    let unpacked = unpacked
        .map_err(|error| format!("{unpacks}, which unpacks {}: {error}; install it", path.display()))?;
    if !unpacked.status.success() {
        let said = String::from_utf8_lossy(&unpacked.stderr);
        return Err(format!("{unpacks} cannot unpack {}: {}", path.display(), said.trim()));
    }
    Ok(unpacked.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_those_that_they_need_and_each_once() {
        let text = "kernel/virtio.ko: kernel/virtio_ring.ko\n\
                    kernel/virtio_ring.ko:\n\
                    kernel/virtio_pci.ko.xz: kernel/virtio_pci_modern_dev.ko kernel/virtio.ko kernel/virtio_ring.ko\n\
                    kernel/virtio_pci_modern_dev.ko:\n\
                    kernel/virtio_blk.ko: kernel/virtio.ko kernel/virtio_ring.ko\n\
                    kernel/virtio-rng.ko: kernel/virtio.ko\n\
                    kernel/other.ko: kernel/virtio.ko\n";
        let found = wanted(text);
        assert_eq!(
            found,
            [
                "kernel/virtio_pci_modern_dev.ko",
                "kernel/virtio_ring.ko",
                "kernel/virtio.ko",
                "kernel/virtio_pci.ko.xz",
                "kernel/virtio_blk.ko",
                "kernel/virtio-rng.ko",
            ]
        );
    }

    #[test]
    fn a_module_is_read_as_it_is_or_unpacked() {
        let dir = tempfile::tempdir().expect("a directory");
        let plain = dir.path().join("a.ko");
        std::fs::write(&plain, b"\x7fELF").expect("a file");
        assert_eq!(read(&plain).expect("it is there"), b"\x7fELF");
        let packed = Command::new("gzip").arg("-k").arg(&plain).status().expect("there is a gzip");
        assert!(packed.success());
        assert_eq!(read(&dir.path().join("a.ko.gz")).expect("it is unpacked"), b"\x7fELF");
        std::fs::write(dir.path().join("b.ko.gz"), "no").expect("a file");
        let why = read(&dir.path().join("b.ko.gz")).expect_err("it is not packed");
        assert!(why.contains("gzip cannot unpack"), "{why}");
    }
}
