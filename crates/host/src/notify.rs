use std::io;
use std::path::Path;
use std::sync::Arc;

use procession_supervise::Event;
use tokio::net::UnixDatagram;

use crate::driver::Input;
use crate::proc_ref::Shared;

/// Opens the socket on which a program without our runtime can say `READY=1` or `STATUS=…`, in the
/// manner of sd_notify(3); gives its path. It goes with the proc.
pub(crate) fn listen(run_dir: &Path, shared: &Arc<Shared>) -> io::Result<String> {
    let path = run_dir.join(format!("n{}", &shared.id.launch_id().to_string()[..16]));
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
        let _gone_with_the_run_dir = std::fs::remove_file(&path);
    });
    Ok(text)
}

fn take(shared: &Shared, datagram: &[u8]) {
    for line in String::from_utf8_lossy(datagram).lines() {
        let input = match line.split_once('=') {
            Some(("READY", "1")) => Input::Event(Event::NotifiedReady),
            Some(("STATUS", text)) => {
                Input::ReportedBy { pid: None, handle: None, progress: Some(text.to_owned()) }
            }
            _ => continue,
        };
        let _driver_gone = shared.driver.send(input);
    }
}
