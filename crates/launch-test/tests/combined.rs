//! What is made of the launcher of this machine keeps every promise that it keeps.

use std::sync::Arc;
use std::time::Duration;

use procession_host::Host;
use procession_launch::{Chaos, ChaosRates, Fallback, ProcLauncher, Retry, Throttle};
use procession_launch_test::Kit;
use tokio::runtime::Builder;

mod caller;

/// It passes what the launcher itself passes, which is all that can be checked of it.
fn conforms(make: impl Fn(&Host) -> Arc<dyn ProcLauncher> + Send + Sync + 'static) {
    let claims_the_same = move |host: &Host| {
        let combined = make(host);
        assert_eq!(combined.capabilities(), host.native_launcher().capabilities());
        combined
    };
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let kit = Kit::new(claims_the_same).ready_command(caller::command()).jobs(4);
    let table = runtime.block_on(kit.run());
    assert!(table.failed().is_empty(), "{}", table.summary());
    assert!(table.passed().len() > 100, "{}", table.summary());
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
