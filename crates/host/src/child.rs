use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use procession_actor::{Proc, Router};
use procession_model::{Head, Packet, ProcId};
use procession_net::{DialError, LinkReceiver, LinkSender, dial};
use tokio::sync::watch;

use crate::owner::{Leaving, end_with_owner};
use crate::payload::Payload;

/// Why a proc could not reach back.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The bootstrap payload is not one.
    #[error("PROCESSION_BOOTSTRAP cannot be read: {0}")]
    Payload(String),
    /// Nobody answered, or nobody admitted it.
    #[error("the host could not be reached: {0}")]
    Dial(#[from] DialError),
}

/// The launched side: this process's node, connected to its host.
///
/// When the host is gone this process ends, its descendants first; no thread of its own can delay that.
pub struct Child {
    proc_: Proc,
    host: ProcId,
    rank: usize,
    sys_path: Vec<String>,
    cwd: Option<PathBuf>,
    link: LinkSender,
    setup: watch::Receiver<Option<Bytes>>,
    stop: watch::Receiver<Option<String>>,
    leaving: Leaving,
}

/// Everything goes to the host, which knows where it goes from there.
struct ToHost(LinkSender);

impl Router for ToHost {
    fn route(&self, _: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        self.0.post(packet).map_err(|packet| (packet, "the connection to the host was lost".to_owned()))
    }
}

impl Child {
    /// Reaches back to the host that `payload` names.
    ///
    /// # Errors
    /// The payload cannot be read, or the host admits nobody with it.
    pub async fn dial_back(payload: &str) -> Result<Self, ChildError> {
        let payload = Payload::decode(payload).map_err(ChildError::Payload)?;
        if payload.own_subreaper
            && let Err(error) = procession_sys::become_subreaper()
        {
            tracing::warn!(%error, "orphans of this proc will not be found when it ends");
        }
        let link = dial(&payload.dial).await?;
        let proc_ = Proc::new(payload.proc_id, tokio::runtime::Handle::current());
        proc_.set_router(Arc::new(ToHost(link.sender.clone())));
        let to_host = link.sender.clone();
        proc_.on_actor_end(move |actor, failure| {
            let head = Head::ActorEnded { actor: actor.clone(), failure: failure.map(ToOwned::to_owned) };
            let _host_gone = to_host.post(Packet::bare(head));
        });
        let (setup_tx, setup) = watch::channel(None);
        let (stop_tx, stop) = watch::channel(None);
        let leaving = Leaving::default();
        tokio::spawn(read(proc_.clone(), link.receiver, setup_tx, stop_tx, leaving.clone()));
        Ok(Self {
            proc_,
            host: payload.host,
            rank: payload.rank,
            sys_path: payload.sys_path,
            cwd: payload.cwd,
            link: link.sender,
            setup,
            stop,
            leaving,
        })
    }

    /// This process's node.
    pub fn proc_(&self) -> &Proc {
        &self.proc_
    }

    /// The node of the host.
    pub fn host(&self) -> &ProcId {
        &self.host
    }

    /// The id of the host.
    pub fn host_id(&self) -> &str {
        self.host.host()
    }

    /// Its place in its mesh.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The client's module search path; empty when it is on another machine.
    pub fn sys_path(&self) -> &[String] {
        &self.sys_path
    }

    /// The directory to work in: the one asked for, else the client's when it is on the same machine.
    pub fn cwd(&self) -> Option<&Path> {
        self.cwd.as_deref()
    }

    /// Waits for what to run before anything else; empty for nothing. Cancel safe.
    pub async fn setup(&self) -> Bytes {
        match self.setup.clone().wait_for(Option::is_some).await {
            Ok(setup) => setup.clone().unwrap_or_default(),
            // The host is gone, and this process is about to be.
            Err(_) => std::future::pending().await,
        }
    }

    /// Tells the host that this proc is set up.
    pub fn ready(&self) {
        let _host_gone = self.link.post(Packet::bare(Head::Ready { pid: std::process::id() }));
    }

    /// Waits until the host asks this proc to end; gives the reason. Cancel safe.
    pub async fn stopped(&self) -> String {
        match self.stop.clone().wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Tells the host something about a launch that a launcher in this proc is busy with.
    pub fn report_launch(
        &self,
        proc_id: &ProcId,
        pid: Option<u32>,
        handle: Option<String>,
        progress: Option<String>,
    ) {
        let head = Head::Report { proc_id: proc_id.clone(), pid, handle, progress };
        let _host_gone = self.link.post(Packet::bare(head));
    }

    /// Writes out what was posted and closes the connection; this process ends by itself now.
    pub async fn goodbye(&self) {
        self.leaving.begin();
        self.link.close();
        let _host_gone = self.link.flushed().await;
    }
}

async fn read(
    proc_: Proc,
    mut receiver: LinkReceiver,
    setup: watch::Sender<Option<Bytes>>,
    stop: watch::Sender<Option<String>>,
    leaving: Leaving,
) {
    loop {
        match receiver.recv().await {
            Some(Ok(Packet { head: Head::Welcome, parts })) => {
                setup.send_replace(Some(parts.into_iter().next().unwrap_or_default()));
            }
            Some(Ok(Packet { head: Head::Stop { reason }, .. })) => {
                proc_.stop_actors(&reason);
                stop.send_replace(Some(reason));
            }
            Some(Ok(packet)) => proc_.receive(packet),
            Some(Err(_)) | None => break,
        }
    }
    if !leaving.has_begun() {
        end_with_owner();
    }
    proc_.close_ports("this proc has ended");
}
