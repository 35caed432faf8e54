//! The test program itself, as a command that calls back.

use procession_host::Child;
use procession_model::{BOOTSTRAP_ENV, BootstrapCommand};

/// This program, doing what is below.
pub(crate) fn command() -> BootstrapCommand {
    let mut command = BootstrapCommand::new(std::env::current_exe().expect("a test has a program"));
    command.args = ["--ignored", "--exact", "caller::calls_back", "--nocapture", "--test-threads=1"]
        .map(Into::into)
        .to_vec();
    command
}

#[test]
#[ignore = "the program that procs of the group `ready` run"]
fn calls_back() {
    let Ok(payload) = std::env::var(BOOTSTRAP_ENV) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let child = Child::dial_back(&payload).await.expect("its host can be reached");
        child.ready();
        child.stopped().await;
        child.goodbye().await;
    });
}
