//! How a kit is used: on a host that goes on, in part, and by name.

use std::time::Duration;

use procession_host::Host;
use procession_launch::ProcLauncher;
use procession_launch_test::{Kit, Outcome, checks};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_runs_already_goes_on_and_has_nothing_of_the_checks() {
    let host = Host::start().await.expect("a host");
    let kit = Kit::within(host.clone(), host.native_launcher()).only("stop.*").only("tree.*").jobs(4);
    let table = kit.run().await;
    assert_eq!(table.failed(), [""; 0], "{table}");
    assert_eq!(table.rows.len(), kit.selected().len());
    assert_eq!(table.launcher, "native");
    assert!(host.live().is_empty(), "{:?}", host.live());
    let row = kit.run_one("exit.code-0-is-told-as-code-0").await.expect("there is such a check");
    assert_eq!(row.outcome, Outcome::Passed, "{}", row.outcome.why());
    host.shutdown(Duration::from_secs(5)).await;
}

#[test]
fn patterns_select_checks() {
    let kit = || Kit::new(|host| host.native_launcher());
    assert_eq!(kit().selected().len(), checks().len());
    let one = kit().only("exit.code-0-is-told-as-code-0").selected();
    assert_eq!(one.iter().map(|check| check.name).collect::<Vec<_>>(), ["exit.code-0-is-told-as-code-0"]);
    assert!(kit().only("tree.*").selected().iter().all(|check| check.group() == "tree"));
    assert!(kit().only("nothing").selected().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_cannot_be_made_fails_its_checks_and_not_the_kit() {
    let make = |_: &Host| -> std::sync::Arc<dyn ProcLauncher> { panic!("no daemon answers") };
    let table = Kit::new(make).only("exit.code-0-is-told-as-code-0").run().await;
    assert!(table.rows[0].outcome.why().contains("no daemon answers"), "{table}");
    assert!(Kit::new(make).run_one("no.such-check").await.is_none());
}
