//! Nothing grows with the number of launches.

use std::time::Duration;

use procession_model::ProcExitKind;
use procession_sys::Snapshot;

use crate::common::{host, program, script, shut_down, soon, spawn, within};

/// Descriptors, threads, children and open ports of this process.
fn holdings(host: &procession_host::Host) -> (usize, usize, usize, usize) {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    let all = Snapshot::take().unwrap();
    let children = all.all().iter().filter(|p| p.parent == std::process::id()).count();
    (fds, threads, children, host.proc_().open_ports())
}

#[tokio::test]
async fn two_hundred_lives_leave_no_descriptor_thread_process_or_port() {
    let host = host().await;
    let one = async |name: &str| {
        let proc_ = spawn(&host, program(name, "proc"));
        soon(proc_.ready()).await.unwrap();
        let exit = soon(proc_.stop("test", None)).await;
        assert_eq!(exit.kind, ProcExitKind::Exited { code: 0 });
        let exit = soon(spawn(&host, script(name, "exit 1")).ended()).await;
        assert_eq!(exit.kind, ProcExitKind::Exited { code: 1 });
    };
    // The runtime makes threads for blocking calls when it needs them, and keeps them for a while.
    for round in 0..20 {
        one(&format!("warm-up-{round}")).await;
    }
    let before = holdings(&host);
    for round in 0..200 {
        one(&format!("p{round}")).await;
    }
    let at_most = |(fds, threads, children, ports): (usize, usize, usize, usize)| {
        fds <= before.0 && threads <= before.1 + 1 && children <= before.2 && ports <= before.3
    };
    within(Duration::from_secs(15), "all is given back", || at_most(holdings(&host))).await;
    shut_down(host).await;
}
