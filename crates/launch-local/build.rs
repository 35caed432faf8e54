//! Builds the keeper, which the launcher carries inside itself.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("cargo sets {name} for build scripts: {error}"))
}

fn build(keeper: &Path, target_dir: &Path, rustflags: &str) -> bool {
    let status = Command::new(variable("CARGO"))
        .args(["build", "--release", "--locked", "--quiet", "--target", &variable("TARGET")])
        .arg("--manifest-path")
        .arg(keeper.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target_dir)
        .args(env::var_os("CARGO_FEATURE_FAILPOINTS").map(|_| "--features=failpoints"))
        // What the outer build was asked to do with its own crates is no business of this one.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags)
        .status();
    status.is_ok_and(|status| status.success())
}

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let keeper = here.join("keeper");
    for input in ["keeper/Cargo.toml", "keeper/Cargo.lock", "keeper/src", "../sys/Cargo.toml", "../sys/src"] {
        println!("cargo::rerun-if-changed={}", here.join(input).display());
    }
    let out = PathBuf::from(variable("OUT_DIR")).join("keeper");
    // A static one starts faster and needs nothing of the machine; not every C library can.
    if !build(&keeper, &out, "-Ctarget-feature=+crt-static") && !build(&keeper, &out, "") {
        panic!("the keeper cannot be built; see the compiler's messages above");
    }
    let binary = out.join(variable("TARGET")).join("release/procession-keeper");
    println!("cargo::rustc-env=PROCESSION_KEEPER={}", binary.display());
}
