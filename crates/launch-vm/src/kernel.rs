use std::path::{Path, PathBuf};

use crate::VmConfig;

/// A kernel, and where its modules are; none where it has all that it needs itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    pub(crate) modules: Option<PathBuf>,
}

const PREFIX: &str = "vmlinuz-";

impl Kernel {
    /// # Errors
    /// There is none.
    pub(crate) fn find(config: &VmConfig) -> Result<Self, String> {
        Self::among(config, Path::new("/boot"), Path::new("/lib/modules"))
    }

    fn among(config: &VmConfig, boot: &Path, all_modules: &Path) -> Result<Self, String> {
        let image = match &config.kernel {
            Some(image) => image.clone(),
            None => newest(boot).ok_or_else(|| {
                format!(
                    "there is no kernel {}/{PREFIX}* for guests; install one (Debian: linux-image-cloud-amd64), or give kernel=",
                    boot.display()
                )
            })?,
        };
        // It is read by QEMU, which would say less.
        std::fs::File::open(&image).map_err(|error| format!("the kernel {}: {error}", image.display()))?;
        let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let own = name.strip_prefix(PREFIX).map(|version| all_modules.join(version));
        let own = own.filter(|modules| modules.join("modules.dep").is_file());
        Ok(Self { image, modules: config.modules.clone().or(own) })
    }
}

/// The newest kernel, of those for clouds where there are some: they are small.
fn newest(boot: &Path) -> Option<PathBuf> {
    let names = std::fs::read_dir(boot).ok()?.flatten().map(|entry| entry.file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    let kernels = names.filter(|name| name.starts_with(PREFIX));
    let best = kernels.max_by_key(|name| (name.ends_with("-cloud-amd64"), numbers(name)))?;
    Some(boot.join(best))
}

/// The numbers in a version, by which versions have an order.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_for_clouds_is_taken_with_its_modules_where_there_is_no_other_wish() {
        let dir = tempfile::tempdir().expect("a directory");
        let (boot, modules) = (dir.path().join("boot"), dir.path().join("modules"));
        std::fs::create_dir_all(&boot).expect("a directory");
        let why = Kernel::among(&VmConfig::default(), &boot, &modules).expect_err("there is none");
        assert!(why.contains("install one"), "{why}");
        for version in ["6.1.0-9-cloud-amd64", "6.1.0-10-cloud-amd64", "6.12.0-1-amd64"] {
            std::fs::write(boot.join(format!("vmlinuz-{version}")), "").expect("a file");
        }
        let found = Kernel::among(&VmConfig::default(), &boot, &modules).expect("there are three");
        assert_eq!(found, Kernel { image: boot.join("vmlinuz-6.1.0-10-cloud-amd64"), modules: None });
        let own = modules.join("6.12.0-1-amd64");
        std::fs::create_dir_all(&own).expect("a directory");
        std::fs::write(own.join("modules.dep"), "").expect("a file");
        let wished = VmConfig { kernel: Some(boot.join("vmlinuz-6.12.0-1-amd64")), ..VmConfig::default() };
        assert_eq!(Kernel::among(&wished, &boot, &modules).expect("it is there").modules, Some(own));
    }
}
