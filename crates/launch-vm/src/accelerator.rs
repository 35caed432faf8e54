use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::VmConfig;
use crate::command_line::{Purpose, arguments};
use crate::config::{Accelerator, Size};
use crate::home::{Files, Home};
use crate::kernel::Kernel;
use crate::machine::Machine;

const KVM: &str = "/dev/kvm";
/// How long a guest may take to boot with KVM, which takes a second where it works.
const BOOTS: Duration = Duration::from_secs(10);
/// How long after its beginning a try is surely over, whoever has begun it.
const KEEPS: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// What PID 1 of a guest says that was only to boot.
const HELLO: &str = "it boots";

/// Whether guests run with KVM. Where it is not said, one is booted to see, once for each kernel, QEMU and boot of this machine:
/// that the device is there does not mean that it runs this kernel.
pub(crate) async fn with_kvm(config: &VmConfig, kernel: &Kernel, home: &Home, initramfs: &[u8]) -> bool {
    match config.accel {
        Accelerator::Kvm => return true,
        Accelerator::Tcg => return false,
        Accelerator::Auto => {}
    }
    if fs::OpenOptions::new().read(true).write(true).open(KVM).is_err() {
        return false;
    }
    let (key, file) = (key(config, kernel), home.accelerators());
    let known =
        fs::read(&file).ok().and_then(|text| serde_json::from_slice::<BTreeMap<String, bool>>(&text).ok());
    let mut known = known.unwrap_or_default();
    if let Some(works) = known.get(&key) {
        return *works;
    }
    let works = match boots(config, kernel, home, initramfs).await {
        Ok(works) => works,
        Err(why) => {
            tracing::warn!("guests run without KVM: it could not be tried whether they boot with it ({why})");
            return false;
        }
    };
    if let Err(why) = &works {
        tracing::warn!(
            "guests run without KVM: none has booted with it within {BOOTS:?} ({why}); accel=\"kvm\" insists on it"
        );
    }
    known.insert(key, works.is_ok());
    // Another process may do the same; whichever comes second is as good.
    let new = file.with_extension(format!("{}", std::process::id()));
    let written =
        serde_json::to_vec(&known).map_err(std::io::Error::from).and_then(|text| fs::write(&new, text));
    if let Err(error) = written.and_then(|()| fs::rename(&new, &file)) {
        tracing::debug!(%error, "which accelerator works could not be written down");
    }
    works.is_ok()
}

/// What the answer is good for.
fn key(config: &VmConfig, kernel: &Kernel) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let changed = |path: &Path| fs::metadata(path).map_or(0, |found| found.mtime());
    let kernel = &kernel.image;
    format!("{} {} {} {:?}", boot.trim(), kernel.display(), changed(kernel), (&config.qemu, &config.options))
}

/// Whether one boots, and else why not; fails where that could not be tried.
async fn boots(
    config: &VmConfig,
    kernel: &Kernel,
    home: &Home,
    initramfs: &[u8],
) -> Result<Result<(), String>, String> {
    home.tidy(KEEPS);
    let Tried(files) = &Tried(home.fresh_try());
    files.make(None, initramfs).map_err(|error| error.to_string())?;
    let size = Size { mebibytes: 256, cpus: 1 };
    let words = arguments(config, kernel, files, size, true, Purpose::Probe);
    let machine = Machine::start(&config.qemu, words).await?;
    let hello = async {
        while !machine.console.lines().iter().any(|line| line.ends_with(HELLO)) {
            sleep(LOOK).await;
        }
    };
    let tried = timeout(BOOTS, async {
        tokio::select! {
            () = hello => Ok(()),
            why = machine.last_words() => if why.contains(HELLO) { Ok(()) } else { Err(why) },
        }
    });
    let tried = tried.await.unwrap_or_else(|_| Err("it has said nothing".to_owned()));
    let _it_is_gone_or_told_in_the_log = machine.kill().await;
    Ok(tried)
}

/// The files of a guest that was only to boot; they go also when nobody waits for the answer any more.
struct Tried(Files);

impl Drop for Tried {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove() {
            tracing::warn!(%error, "the files of a guest could not be removed");
        }
    }
}
