use std::path::Path;

use crate::VmConfig;
use crate::config::{Network, Size};
use crate::home::Files;
use crate::kernel::Kernel;

/// The name of the port that leads to the agent, in the guest too.
const PORT: &str = "procession.agent";

/// Whether a guest is there to run an agent, or to see whether it boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Agent,
    Probe,
}

/// What QEMU is run with for one guest.
pub(crate) fn arguments(
    config: &VmConfig,
    kernel: &Kernel,
    files: &Files,
    size: Size,
    kvm: bool,
    purpose: Purpose,
) -> Vec<String> {
    let Size { mebibytes, cpus } = size;
    let mut words = vec![
        "-name".to_owned(),
        format!("procession-{}", quoted(files.name())),
        "-M".to_owned(),
        "q35".to_owned(),
        "-accel".to_owned(),
        if kvm { "kvm" } else { "tcg" }.to_owned(),
        "-cpu".to_owned(),
        "max".to_owned(),
        "-m".to_owned(),
        format!("{mebibytes}M"),
        "-smp".to_owned(),
        cpus.to_string(),
    ];
    // Nothing but what is named here, no file of anybody's, and an end where a PC would start over.
    words.extend(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"].map(str::to_owned));
    let mut pair = |option: &str, value: String| words.extend([option.to_owned(), value]);
    pair("-kernel", kernel.image.to_string_lossy().into_owned());
    pair("-initrd", files.initramfs().to_string_lossy().into_owned());
    pair("-append", kernel_line(config.network.is_some(), kvm, purpose));
    pair("-chardev", "stdio,id=console,signal=off".to_owned());
    pair("-serial", "chardev:console".to_owned());
    pair("-chardev", socket("qmp", &files.qmp()));
    pair("-mon", "chardev=qmp,mode=control".to_owned());
    pair("-chardev", socket("control", &files.control()));
    pair("-mon", "chardev=control,mode=control".to_owned());
    pair("-device", "pvpanic".to_owned());
    if purpose == Purpose::Agent {
        pair("-device", "virtio-serial-pci".to_owned());
        pair("-chardev", socket("agent", &files.agent()));
        pair("-device", format!("virtserialport,chardev=agent,name={PORT}"));
        // What is written goes to a file without a name, which ends with QEMU.
        let image = quoted(&config.image.to_string_lossy());
        pair("-drive", format!("id=root,file={image},format={},if=none,snapshot=on", format(&config.image)));
        pair("-device", "virtio-blk-pci,drive=root".to_owned());
        if config.network == Some(Network::User) {
            pair("-netdev", "user,id=network".to_owned());
            pair("-device", "virtio-net-pci,netdev=network,romfile=".to_owned());
        }
    }
    words.extend(config.options.iter().cloned());
    words
}

fn kernel_line(network: bool, kvm: bool, purpose: Purpose) -> String {
    // A kernel that fails is to end, and one whose processor waits for its turn has not hung.
    let mut line = "console=ttyS0 quiet panic=-1 reboot=t nowatchdog cgroup_no_v1=all".to_owned();
    if !kvm {
        // What they guard against does not get out of a processor that is a program.
        line.push_str(" mitigations=off");
    }
    if network {
        line.push_str(" PROCESSION_NETWORK=user net.ifnames=0");
    }
    if purpose == Purpose::Probe {
        line.push_str(" PROCESSION_PROBE=1");
    }
    line
}

fn socket(id: &str, path: &Path) -> String {
    format!("socket,id={id},path={},server=on,wait=off", quoted(&path.to_string_lossy()))
}

/// A value among those of one option.
fn quoted(text: &str) -> String {
    text.replace(',', ",,")
}

/// What an image is, by its first bytes: QEMU must not guess, for a guest could write a header of another format.
fn format(image: &Path) -> &'static str {
    use std::io::Read;
    let mut magic = [0; 4];
    let read = std::fs::File::open(image).and_then(|mut file| file.read_exact(&mut magic));
    if read.is_ok() && &magic == b"QFI\xfb" { "qcow2" } else { "raw" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_gets_what_it_is_to_have_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let image = dir.path().join("a,b.img");
        std::fs::write(&image, b"QFI\xfb").expect("a file");
        let mut config = VmConfig::new(&image);
        config.options = vec!["-cpu".into(), "qemu64".into()];
        let kernel = Kernel { image: "/boot/vmlinuz-6".into(), modules: None };
        let files = Files::at(Path::new("/state/p-1"));
        let size = Size { mebibytes: 512, cpus: 2 };
        let line = |config: &VmConfig, kvm, purpose| {
            arguments(config, &kernel, &files, size, kvm, purpose).join(" ")
        };
        let agent = line(&config, false, Purpose::Agent);
        for wanted in [
            "-name procession-p-1 -M q35 -accel tcg -cpu max -m 512M -smp 2 -nodefaults",
            "-kernel /boot/vmlinuz-6 -initrd /state/p-1/initramfs",
            "mitigations=off",
            "socket,id=agent,path=/state/p-1/agent,server=on,wait=off",
            "a,,b.img,format=qcow2,if=none,snapshot=on",
        ] {
            assert!(agent.contains(wanted), "{wanted}: {agent}");
        }
        assert!(agent.ends_with(" -cpu qemu64"), "{agent}");
        assert!(!agent.contains("-netdev") && !agent.contains("NETWORK"), "{agent}");
        config.network = Some(Network::User);
        std::fs::write(&image, "").expect("a file");
        let outside = line(&config, true, Purpose::Agent);
        for wanted in ["-accel kvm", "format=raw", "-netdev user,id=network", "PROCESSION_NETWORK=user"] {
            assert!(outside.contains(wanted), "{wanted}: {outside}");
        }
        assert!(!outside.contains("mitigations"), "{outside}");
        let probe = line(&config, true, Purpose::Probe);
        assert!(probe.contains("PROCESSION_PROBE=1") && !probe.contains("-drive"), "{probe}");
    }
}
