//! The launcher of this machine with a state directory, in which it finds again what an earlier host has left.

use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use procession_launch::ProcLauncher;
use procession_launch_local::NativeLauncher;
use procession_launch_test::Kit;

#[test]
fn what_takes_procs_over_keeps_the_promises_of_that() {
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().join("state");
    std::fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
    let kit = Kit::new(move |_| -> Arc<dyn ProcLauncher> {
        Arc::new(NativeLauncher::start_in(&directory, |_| ()).unwrap())
    });
    let kit = kit.only("adopt.*").only("exit.*").only("identity.*");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let table = runtime.block_on(kit.run());
    println!("{table}");
    assert_eq!(table.failed(), [""; 0]);
    assert_eq!(table.not_capable(), ["adopt.what-is-not-claimed-is-refused"]);
}
