//! The launcher for virtual machines of QEMU: each proc has one of its own, and needs no network to be reached there.

mod accelerator;
mod command_line;
mod config;
mod console;
mod cpio;
mod home;
mod initramfs;
mod kernel;
mod launch;
mod live;
mod machine;
mod modules;
mod outcome;
mod qmp;
mod vm;

pub use config::{Accelerator, Network, VmConfig};
pub use vm::{Vm, VmError};
