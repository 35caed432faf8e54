use std::path::PathBuf;
use std::time::Duration;

use procession_model::{Confinement, InvalidArgument};
use serde::{Deserialize, Serialize};

/// What a guest needs beside the proc: its kernel, its agent.
const OVERHEAD: u64 = 256 << 20;
/// Below this no kernel of a distribution starts.
const LEAST: u64 = 128 << 20;
/// Options of QEMU that the launcher needs for itself.
const OWN: [&str; 8] =
    ["-append", "-daemonize", "-initrd", "-kernel", "-name", "-no-shutdown", "-pidfile", "-S"];

/// What runs a guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// KVM where a guest was seen to boot with it, else TCG.
    #[default]
    Auto,
    /// The processor itself.
    Kvm,
    /// QEMU, which translates them; it needs nothing of the machine.
    Tcg,
}

/// What a guest reaches beside its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Whatever the user that runs QEMU reaches, through QEMU.
    User,
}

/// How guests are made. The names of the fields are those of the keyword arguments in Python and of the keys in TOML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VmConfig {
    /// The file with the root file system, ext4, which holds the agent and what procs run: raw, or qcow2. It is never written.
    pub image: PathBuf,
    /// The kernel; none is the newest of `/boot/vmlinuz-*-cloud-amd64`, or else of `/boot/vmlinuz-*`.
    pub kernel: Option<PathBuf>,
    /// The directory with its modules, that has `modules.dep`; none is `/lib/modules/` and the version in the kernel's name.
    pub modules: Option<PathBuf>,
    /// The command of the agent in the image: `procession agent --stdio`, or a program that calls
    /// [`serve_stdio`](procession_host::serve_stdio).
    pub agent: Vec<String>,
    /// How many bytes of memory a guest has at least. Where a proc has a limit, it has 256 MiB more than that.
    pub memory: u64,
    /// How many processors a guest has at least.
    pub cpus: u32,
    /// What runs their instructions.
    pub accel: Accelerator,
    /// What guests reach beside their host; none is nothing.
    pub network: Option<Network>,
    /// The program.
    pub qemu: String,
    /// What is passed to it after all that the launcher passes, and so in its place where QEMU takes something once.
    pub options: Vec<String>,
    /// How many seconds a guest may take until its agent speaks.
    pub boot_timeout: f64,
    /// How many seconds an agent may not answer before its guest is ended.
    pub lease: f64,
    /// How many guests may boot at the same time.
    pub launches_at_once: usize,
    /// Where guests have their sockets, each in a directory of its own. None is `~/.procession/vm`.
    pub state_dir: Option<PathBuf>,
}

impl Default for VmConfig {
    fn default() -> Self {
        Self {
            image: PathBuf::new(),
            kernel: None,
            modules: None,
            agent: ["python3", "-m", "procession", "agent", "--stdio"].map(str::to_owned).into(),
            memory: 512 << 20,
            cpus: 1,
            accel: Accelerator::Auto,
            network: None,
            qemu: "qemu-system-x86_64".to_owned(),
            options: Vec::new(),
            boot_timeout: 300.0,
            lease: 30.0,
            launches_at_once: 2,
            state_dir: None,
        }
    }
}

/// What a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) mebibytes: u64,
    pub(crate) cpus: u64,
}

impl VmConfig {
    /// With the defaults of everything else.
    pub fn new(image: impl Into<PathBuf>) -> Self {
        Self { image: image.into(), ..Self::default() }
    }

    /// Refuses what could not work later.
    ///
    /// # Errors
    /// Names the field, what was given and the rule.
    pub fn check(&self) -> Result<(), InvalidArgument> {
        let refused = |field: &str, given: String, rule: &str| Err(InvalidArgument::new(field, given, rule));
        // It may be a block device, too.
        if !self.image.exists() || self.image.is_dir() {
            let rule = "give the file of a root file system (ext4, raw or qcow2) that is there";
            return refused("image", format!("{:?}", self.image), rule);
        }
        if let Some(kernel) = self.kernel.as_ref().filter(|kernel| !kernel.is_file()) {
            return refused("kernel", format!("{kernel:?}"), "give the file of a kernel, a bzImage");
        }
        if let Some(modules) = self.modules.as_ref().filter(|modules| !modules.join("modules.dep").is_file())
        {
            let rule = "there is no modules.dep in it; give a directory such as /lib/modules/VERSION";
            return refused("modules", format!("{modules:?}"), rule);
        }
        if self.agent.is_empty() || self.agent.iter().any(|word| word.contains('\0')) {
            let rule = "give the command of the agent in the image, as a list of words";
            return refused("agent", format!("{:?}", self.agent), rule);
        }
        if self.memory < LEAST {
            return refused("memory", self.memory.to_string(), "a guest needs at least 128 MiB to boot");
        }
        for (field, given) in [("cpus", self.cpus as usize), ("launches_at_once", self.launches_at_once)] {
            if given == 0 {
                return refused(field, "0".to_owned(), "at least 1");
            }
        }
        if self.qemu.is_empty() || self.qemu.contains('\0') {
            return refused("qemu", format!("{:?}", self.qemu), "give the path or the name of a program");
        }
        if let Some(own) = self.options.iter().find(|option| is_own(option)) {
            return refused("options", format!("{own:?}"), "the launcher needs that itself; leave it out");
        }
        self.within()?;
        self.lease()?;
        Ok(())
    }

    pub(crate) fn within(&self) -> Result<Duration, InvalidArgument> {
        seconds("boot_timeout", self.boot_timeout)
    }

    pub(crate) fn lease(&self) -> Result<Duration, InvalidArgument> {
        seconds("lease", self.lease)
    }

    /// What the guest of a proc has that is held to this.
    pub(crate) fn size(&self, confinement: &Confinement) -> Size {
        let resources = &confinement.resources;
        let limited = resources.memory.map_or(0, |limit| limit.saturating_add(OVERHEAD));
        let cpus = resources.cpu_millis.map_or(0, |millis| millis.div_ceil(1000));
        Size { mebibytes: self.memory.max(limited).div_ceil(1 << 20), cpus: u64::from(self.cpus).max(cpus) }
    }
}

/// QEMU takes two dashes for one.
fn is_own(option: &str) -> bool {
    OWN.contains(&option) || option.strip_prefix('-').is_some_and(|option| OWN.contains(&option))
}

fn seconds(field: &str, given: f64) -> Result<Duration, InvalidArgument> {
    Duration::try_from_secs_f64(given)
        .ok()
        .filter(|span| !span.is_zero())
        .ok_or_else(|| InvalidArgument::new(field, given.to_string(), "give a number of seconds above 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused_by_the_name_of_its_field() {
        let dir = tempfile::tempdir().expect("a directory");
        let image = dir.path().join("root.img");
        std::fs::write(&image, "").expect("a file");
        let good = VmConfig::new(&image);
        good.check().expect("it is good");
        for (field, bad) in [
            ("image", VmConfig::new("/no/such/image")),
            ("kernel", VmConfig { kernel: Some("/no/such/kernel".into()), ..good.clone() }),
            ("modules", VmConfig { modules: Some(dir.path().into()), ..good.clone() }),
            ("agent", VmConfig { agent: Vec::new(), ..good.clone() }),
            ("memory", VmConfig { memory: 1, ..good.clone() }),
            ("cpus", VmConfig { cpus: 0, ..good.clone() }),
            ("launches_at_once", VmConfig { launches_at_once: 0, ..good.clone() }),
            ("qemu", VmConfig { qemu: String::new(), ..good.clone() }),
            ("options", VmConfig { options: vec!["-daemonize".into()], ..good.clone() }),
            ("options", VmConfig { options: vec!["--append".into(), "init=/bin/sh".into()], ..good.clone() }),
            ("boot_timeout", VmConfig { boot_timeout: 0.0, ..good.clone() }),
            ("lease", VmConfig { lease: f64::NAN, ..good.clone() }),
        ] {
            assert_eq!(bad.check().expect_err(field).field, field);
        }
        let error = serde_json::from_str::<VmConfig>(r#"{"imgae": "root.img"}"#).expect_err("misspelt");
        assert!(error.to_string().contains("imgae"), "{error}");
        let config: VmConfig =
            serde_json::from_str(r#"{"accel": "kvm", "network": "user"}"#).expect("both are known");
        assert_eq!((config.accel, config.network), (Accelerator::Kvm, Some(Network::User)));
    }

    #[test]
    fn a_guest_has_room_for_the_limits_of_its_proc_and_for_its_own_kernel() {
        let config = VmConfig { memory: 512 << 20, cpus: 2, ..VmConfig::default() };
        let mut confinement = Confinement::default();
        assert_eq!(config.size(&confinement), Size { mebibytes: 512, cpus: 2 });
        confinement.resources.memory = Some(64 << 20);
        confinement.resources.cpu_millis = Some(500);
        assert_eq!(config.size(&confinement), Size { mebibytes: 512, cpus: 2 });
        confinement.resources.memory = Some((1 << 30) + 1);
        confinement.resources.cpu_millis = Some(2001);
        assert_eq!(config.size(&confinement), Size { mebibytes: 1281, cpus: 3 });
    }
}
