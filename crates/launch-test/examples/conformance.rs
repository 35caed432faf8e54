//! Runs the conformance checks on the launcher of this machine: `conformance [PATTERN…]`, such as `'stop.*'`.

use std::process::ExitCode;

use procession_launch_test::Kit;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    let kit = Kit::new(|host| host.native_launcher()).jobs(2);
    let kit = std::env::args().skip(1).fold(kit, Kit::only);
    let table = runtime.block_on(kit.run());
    println!("{table}");
    if table.failed().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
