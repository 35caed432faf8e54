//! Where a host listens for its procs, and what those have to know to be let in.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use procession_model::{DialBack, LaunchId};
use procession_net::{Address, ClientTls, KeyError, Listener, SessionCa, SessionKey};

use crate::core::{Core, SHUTTING_DOWN};
use crate::door::Door;
use crate::host::HostError;
use crate::ledger::Entry;

/// The socket in a directory that stays.
const SOCKET: &str = "host";
/// What each host of a directory calls itself to the procs that outlive it.
const KEPT: &str = "host-of-a-directory";

impl Core {
    /// Listens for procs that have outlived another host, and for its own that will outlive it.
    ///
    /// # Errors
    /// As for any socket.
    pub(crate) async fn listen_for_survivors(
        &self,
        listens: &BTreeMap<String, u16>,
    ) -> Result<(), HostError> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        for (bind, &port) in listens {
            let Some((address, _)) = bind.rsplit_once(':') else { continue };
            self.listen_at(bind, &format!("{address}:{port}")).await.map_err(HostError::Port)?;
        }
        let path = ledger.directory().join(SOCKET);
        // Of a host that was killed: the directory is ours alone.
        let _was_there = std::fs::remove_file(&path);
        let listener = Listener::unix(&path)?;
        let door: Arc<Door> = Arc::clone(&self.door);
        let address = listener.local_address().to_string();
        self.listening.lock().await.insert(address, listener.serve(door, &self.crowd));
        Ok(())
    }

    /// Where the procs of a launcher reach back to, and with which certificates.
    pub(crate) async fn ways_in(
        &self,
        dial_back: &DialBack,
        launch: LaunchId,
        outlives: bool,
    ) -> Result<(Vec<Address>, Option<ClientTls>), String> {
        match dial_back {
            DialBack::Local if outlives => {
                let address = Address::unix(self.common_dir(outlives).join(SOCKET));
                Ok((vec![address.map_err(|error| error.to_string())?], None))
            }
            DialBack::Local => Ok((vec![self.unix.clone()], None)),
            DialBack::Network { bind, advertise } => {
                if advertise.is_none() {
                    dialable(&Address::tcp(bind).map_err(|error| error.to_string())?, ADVERTISE)?;
                }
                let bound = self.listen(bind).await?;
                if let (true, Some(ledger), Address::Tcp { port, .. }) = (outlives, &self.ledger, &bound) {
                    ledger.note(Entry::Listens { bind: bind.clone(), port: *port });
                }
                let address = match advertise {
                    None => bound,
                    Some(name) => advertised(name, &bound)?,
                };
                let tls = self.ca()?.issue(launch).map_err(|error| error.to_string())?;
                Ok((vec![address], Some(tls)))
            }
            DialBack::Nowhere => Ok((Vec::new(), None)),
            // Their launcher leads them there.
            DialBack::Stdio => {
                let bound = self.listen("127.0.0.1:0").await?;
                let tls = self.ca()?.issue(launch).map_err(|error| error.to_string())?;
                Ok((vec![bound], Some(tls)))
            }
        }
    }

    fn ca(&self) -> Result<&SessionCa, String> {
        if self.ca.get().is_none() {
            let ca = match &self.ledger {
                // Procs that outlive this host have to find that the next one is to be trusted like it.
                Some(ledger) => {
                    let key = kept_key(ledger.directory()).map_err(|error| error.to_string())?;
                    SessionCa::from_key(&key, KEPT)
                }
                None => SessionCa::new(self.id.as_str()),
            };
            let ca = ca.map_err(|error| error.to_string())?;
            let _another_was_first = self.ca.set(ca);
        }
        self.ca.get().ok_or_else(|| "the session has no certificate authority".to_owned())
    }

    async fn listen(&self, bind: &str) -> Result<Address, String> {
        self.listen_at(bind, bind).await
    }

    /// Listens at `address`, for all who want to be reached at `bind`.
    async fn listen_at(&self, bind: &str, address: &str) -> Result<Address, String> {
        let mut listening = self.listening.lock().await;
        if let Some(serving) = listening.get(bind) {
            return Ok(serving.local_address().clone());
        }
        if self.is_closing() {
            return Err(SHUTTING_DOWN.to_owned());
        }
        let listener = Listener::tcp(address, self.ca()?).await.map_err(|error| error.to_string())?;
        let door: Arc<Door> = Arc::clone(&self.door);
        let serving = listener.serve(door, &self.crowd);
        let address = serving.local_address().clone();
        listening.insert(bind.to_owned(), serving);
        Ok(address)
    }
}

/// The key of a directory, which all of its hosts have in common.
fn kept_key(directory: &Path) -> Result<SessionKey, KeyError> {
    let path = directory.join("key");
    if path.exists() {
        return SessionKey::read(&path);
    }
    let (key, new) = (SessionKey::random(), directory.join("key.new"));
    let _of_a_killed_host = fs::remove_file(&new);
    key.write(&new)?;
    fs::rename(new, &path).map_err(|source| KeyError::Write { path, source })?;
    Ok(key)
}

/// `name` as given by the user, with the port that was bound unless it names one itself.
pub(crate) fn advertised(name: &str, bound: &Address) -> Result<Address, String> {
    let Address::Tcp { port, .. } = bound else {
        return Err("only a TCP address can be advertised".to_owned());
    };
    let with_port = Address::tcp(name);
    let address = with_port.or_else(|_| Address::tcp(&format!("{name}:{port}")));
    let address = address.map_err(|error| format!("advertise = {name:?}: {error}"))?;
    dialable(&address, "give the name or the address at which the procs reach this machine")?;
    match address {
        Address::Tcp { port: 0, .. } => Err(format!(
            "advertise = {name:?}: nobody can dial port 0; leave the port out for the one that is bound, or give the one that leads to it"
        )),
        address => Ok(address),
    }
}

const ADVERTISE: &str = "give `advertise` too: the name or the address at which the procs reach this machine";

/// Refuses an address that can be bound and that nobody can dial.
pub(crate) fn dialable(address: &Address, instead: &str) -> Result<(), String> {
    match address {
        Address::Tcp { host, .. } if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) => {
            Err(format!(
                "{address} stands for every address of this machine, and is none that can be dialled; {instead}"
            ))
        }
        _ => Ok(()),
    }
}
