//! Nothing grows with the number of launches.

use std::time::Duration;

use procession_model::ProcExitKind;
use procession_sys::Snapshot;

use crate::common::{host, program, run_dirs, script, shut_down, soon, spawn, within};

/// Descriptors, threads, children, open ports and socket files of this process.
fn holdings(host: &procession_host::Host) -> [usize; 5] {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    let all = Snapshot::take().unwrap();
    let children = all.all().iter().filter(|p| p.parent == std::process::id()).count();
    let files = std::fs::read_dir(&run_dirs()[0]).unwrap().count();
    [fds, threads, children, host.proc_().open_ports(), files]
}

mod f38 {
    use super::*;

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
        let at_most = |now: [usize; 5]| {
            let threads_of_the_pool = 1;
            now.iter()
                .zip(before)
                .enumerate()
                .all(|(n, (&now, before))| now <= before + if n == 1 { threads_of_the_pool } else { 0 })
        };
        within(Duration::from_secs(15), "all is given back", || at_most(holdings(&host))).await;
        shut_down(host).await;
    }
}
