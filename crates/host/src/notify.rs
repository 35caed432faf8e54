use std::io;
use std::path::Path;
use std::sync::Arc;

use procession_supervise::Event;
use tokio::net::UnixDatagram;
use tokio::time::sleep;

use crate::input::Input;
use crate::proc_ref::Shared;
use crate::recording::AFTERWARDS;

/// Opens the socket on which a program without our runtime can say `READY=1` or `STATUS=…`, in the
/// manner of sd_notify(3); gives its path. It goes with the proc.
pub(crate) fn listen(run_dir: &Path, shared: &Arc<Shared>) -> io::Result<String> {
    let path = run_dir.join(format!("n{}", &shared.id.launch_id().to_string()[..16]));
    if shared.is_adopted {
        // Of the host before: what is sent to it from now on comes here.
        let _was_never_made = std::fs::remove_file(&path);
    }
    let socket = UnixDatagram::bind(&path)?;
    let text = path.to_string_lossy().into_owned();
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut exit = shared.exit.subscribe();
        let ended = exit.wait_for(Option::is_some);
        tokio::pin!(ended);
        let mut buffer = [0; 4096];
        loop {
            tokio::select! {
                received = socket.recv(&mut buffer) => match received {
                    Ok(n) => take(&shared, &buffer[..n]),
                    Err(_) => break,
                },
                _ = &mut ended => break,
            }
        }
        // Those who wait for the exit come first.
        sleep(AFTERWARDS).await;
        let _gone_with_the_run_dir = std::fs::remove_file(&path);
    });
    Ok(text)
}

/// Whatever one datagram says over and over costs the driver two inputs at most.
fn take(shared: &Shared, datagram: &[u8]) {
    let text = String::from_utf8_lossy(datagram);
    let Notices { ready, status } = notices(&text);
    let ready = ready.then_some(Input::Event(Event::NotifiedReady));
    let status =
        status.map(|text| Input::ReportedBy { pid: None, handle: None, progress: Some(text.to_owned()) });
    for input in ready.into_iter().chain(status) {
        let _driver_gone = shared.driver.send(input);
    }
}

#[derive(Debug, Default, PartialEq)]
struct Notices<'a> {
    ready: bool,
    /// The last one counts.
    status: Option<&'a str>,
}

fn notices(datagram: &str) -> Notices<'_> {
    datagram.lines().fold(Notices::default(), |so_far, line| match line.split_once('=') {
        Some(("READY", "1")) => Notices { ready: true, ..so_far },
        Some(("STATUS", text)) => Notices { status: Some(text), ..so_far },
        _ => so_far,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_notices_in_one_datagram_the_last_status_and_one_readiness_count() {
        let text = "STATUS=one\nREADY=0\nMAINPID=1\nREADY=1\nSTATUS=two = 2\nREADY=1\nnothing".repeat(50);
        assert_eq!(notices(&text), Notices { ready: true, status: Some("two = 2") });
        assert_eq!(notices("READY=yes\n=\nSTATUS"), Notices::default());
    }
}
