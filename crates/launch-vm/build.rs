//! Builds PID 1 of the guests, which the launcher carries inside itself.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("cargo sets {name} for build scripts: {error}"))
}

fn main() {
    let init = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("init");
    for input in ["Cargo.toml", "Cargo.lock", "src"] {
        println!("cargo::rerun-if-changed={}", init.join(input).display());
    }
    let out = PathBuf::from(variable("OUT_DIR")).join("init");
    let status = Command::new(variable("CARGO"))
        .args(["build", "--release", "--locked", "--quiet", "--target", &variable("TARGET")])
        .arg("--manifest-path")
        .arg(init.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&out)
        // What the outer build was asked to do with its own crates is no business of this one.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET")
        // There is no library in a guest before its image is mounted.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "PID 1 of the guests cannot be built; see the compiler's messages above, and install the static C library if they miss it"
    );
    let binary = out.join(variable("TARGET")).join("release/procession-vm-init");
    println!("cargo::rustc-env=PROCESSION_VM_INIT={}", binary.display());
}
