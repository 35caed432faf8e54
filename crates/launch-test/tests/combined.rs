//! What is made of the launcher of this machine keeps every promise that it keeps.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use procession_host::Host;
use procession_launch::{Chaos, ChaosRates, Fallback, ProcLauncher, Retry, Throttle};
use procession_launch_test::{Kit, Table};
use tokio::runtime::Builder;

mod caller;

fn table(make: impl Fn(&Host) -> Arc<dyn ProcLauncher> + Send + Sync + 'static) -> Table {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(Kit::new(make).ready_command(caller::command()).jobs(4).run())
}

/// It passes what the launcher itself passes.
fn conforms(make: impl Fn(&Host) -> Arc<dyn ProcLauncher> + Send + Sync + 'static) {
    static NATIVE: OnceLock<Vec<String>> = OnceLock::new();
    let native = NATIVE.get_or_init(|| {
        table(|host| host.native_launcher()).passed().into_iter().map(ToOwned::to_owned).collect()
    });
    let combined = table(make);
    assert_eq!(combined.passed(), *native, "{}", combined.summary());
}

#[test]
fn a_throttle_does() {
    conforms(|host| Arc::new(Throttle::new(host.native_launcher(), Some(8), Some(200.0)).expect("a rate")));
}

#[test]
fn a_retry_does() {
    conforms(|host| Arc::new(Retry::new(host.native_launcher(), 2, Duration::from_millis(20))));
}

#[test]
fn a_fallback_does() {
    conforms(|host| {
        let parts = vec![host.native_launcher(), host.native_launcher()];
        Arc::new(Fallback::new(parts).expect("both reach back in one way"))
    });
}

#[test]
fn chaos_without_faults_does() {
    conforms(|host| {
        Arc::new(Chaos::new(host.native_launcher(), 1, ChaosRates::default()).expect("shares of nothing"))
    });
}
