use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use procession_actor::Proc;
use procession_model::{DialBack, Head, HostId, InvalidArgument, LaunchId, Packet, ProcId};
use procession_net::{Address, ClientTls, Crowd, ListenError, Listener, Serving, SessionCa};
use procession_supervise::Event;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::door::Door;
use crate::group::Group;
use crate::holdings::Holdings;
use crate::hub::Hub;
use crate::incarnations::Incarnations;
use crate::input::Input;
use crate::ledger::Ledger;
use crate::proc_ref::{ProcRef, Shared};
use crate::records::Records;
use crate::run_dir::RunDir;
use crate::spec::SpawnSpec;
use crate::watchdog::Watchdog;

/// The socket in a directory that stays.
const SOCKET: &str = "host";
/// How many ended procs are remembered for late reports.
const ENDED: usize = 1000;
/// How many more ends there are before those that nobody remembers are forgotten.
const FORGET_EVERY: usize = 64;

/// What all parts of a host share. Every launch keeps it until its driver is done.
pub(crate) struct Core {
    pub(crate) id: HostId,
    pub(crate) machine: String,
    pub(crate) runtime: Handle,
    pub(crate) clock: Arc<Clock>,
    pub(crate) proc_: Proc,
    pub(crate) hub: Arc<Hub>,
    pub(crate) door: Arc<Door>,
    unix: Address,
    ca: OnceLock<SessionCa>,
    /// Those at any of its sockets who have not proved themselves.
    crowd: Crowd,
    /// Every socket that is listened on, by what it was asked to bind.
    listening: tokio::sync::Mutex<HashMap<String, Serving>>,
    run_dir_path: PathBuf,
    run_dir: Mutex<Option<RunDir>>,
    live: Mutex<Live>,
    /// Names that are kept for slots between two launches. Locked after `live`, and before `incarnations`.
    reserved: Mutex<HashSet<String>>,
    groups: Mutex<Vec<Weak<Group>>>,
    /// What belongs to procs, and ends with them.
    pub(crate) holdings: Holdings,
    /// The last that have ended, for what is still said about them.
    ended: Mutex<VecDeque<(ProcId, Weak<Shared>)>>,
    incarnations: Mutex<Incarnations>,
    /// Of those that have ended.
    pub(crate) records: Records,
    /// What the next host of the same directory has to know; none where there will be none.
    pub(crate) ledger: Option<Ledger>,
    closing: AtomicBool,
    _watchdog: Option<Watchdog>,
}

/// The procs that have not ended. No two have one name.
#[derive(Default)]
struct Live {
    by_id: HashMap<ProcId, ProcRef>,
    /// With the number of that launch.
    names: HashMap<String, u32>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn new(
        machine: String,
        id: HostId,
        proc_: Proc,
        hub: Arc<Hub>,
        run_dir: RunDir,
        unix: Listener,
        ledger: Option<Ledger>,
    ) -> Self {
        let door = Arc::new(Door::default());
        let address = unix.local_address().clone();
        let keeper: Arc<Door> = Arc::clone(&door);
        let crowd = Crowd::default();
        let watchdog = Watchdog::start(Handle::current());
        let watchdog = watchdog.inspect_err(|error| tracing::warn!(%error, "the runtime is not watched"));
        let listening = HashMap::from([(address.to_string(), unix.serve(keeper, &crowd))]);
        Self {
            id,
            machine,
            runtime: Handle::current(),
            clock: Arc::new(Clock::new(Handle::current())),
            proc_,
            hub,
            door,
            unix: address,
            ca: OnceLock::new(),
            crowd,
            listening: tokio::sync::Mutex::new(listening),
            run_dir_path: run_dir.path().to_owned(),
            run_dir: Mutex::new(Some(run_dir)),
            live: Mutex::default(),
            reserved: Mutex::default(),
            groups: Mutex::default(),
            holdings: Holdings::default(),
            ended: Mutex::default(),
            incarnations: Mutex::default(),
            records: Records::in_state_dir(),
            ledger,
            closing: AtomicBool::new(false),
            _watchdog: watchdog.ok(),
        }
    }

    /// Where the sockets of this host are.
    pub(crate) fn run_dir(&self) -> &Path {
        &self.run_dir_path
    }

    /// Where the files and sockets are that a proc has in common with its host: those of one that `outlives` it stay.
    pub(crate) fn common_dir(&self, outlives: bool) -> &Path {
        self.ledger.as_ref().filter(|_| outlives).map_or(&self.run_dir_path, Ledger::directory)
    }

    /// Listens for procs that have outlived another host, and for its own that will outlive it.
    ///
    /// # Errors
    /// As for any socket.
    pub(crate) async fn listen_for_survivors(&self) -> Result<(), ListenError> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
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
            let ca = SessionCa::new(self.id.as_str()).map_err(|error| error.to_string())?;
            let _another_was_first = self.ca.set(ca);
        }
        self.ca.get().ok_or_else(|| "the session has no certificate authority".to_owned())
    }

    async fn listen(&self, bind: &str) -> Result<Address, String> {
        let mut listening = self.listening.lock().await;
        if let Some(serving) = listening.get(bind) {
            return Ok(serving.local_address().clone());
        }
        if self.is_closing() {
            return Err(SHUTTING_DOWN.to_owned());
        }
        let listener = Listener::tcp(bind, self.ca()?).await.map_err(|error| error.to_string())?;
        let door: Arc<Door> = Arc::clone(&self.door);
        let serving = listener.serve(door, &self.crowd);
        let address = serving.local_address().clone();
        listening.insert(bind.to_owned(), serving);
        Ok(address)
    }

    /// Takes a packet that came from the proc `from`, or from the host above: also what launchers say, wherever they are.
    pub(crate) fn take(&self, packet: Packet, from: Option<&ProcId>) {
        let about = match &packet.head {
            Head::Report { proc_id, .. }
            | Head::Unreachable { proc_id, .. }
            | Head::ReportedAgain { proc_id } => proc_id,
            _ => return self.hub.forward(packet, from),
        };
        if about.host() != self.id.as_str() {
            let about = about.clone();
            return self.hub.send_towards(&about, packet, from.is_none());
        }
        match packet.head {
            Head::Report { proc_id, pid, handle, progress } => {
                // Where the launcher is another process may have that number.
                let pid = pid.filter(|_| !self.hub.is_host(from));
                self.report(&proc_id, pid, handle, progress);
            }
            Head::Unreachable { proc_id, why } => self.unreachable(&proc_id, Some(why)),
            Head::ReportedAgain { proc_id } => self.reported_again(&proc_id),
            _ => {}
        }
    }

    pub(crate) fn report(
        &self,
        proc_id: &ProcId,
        pid: Option<u32>,
        handle: Option<String>,
        progress: Option<String>,
    ) {
        match self.find(proc_id) {
            Some(proc_) => drop(proc_.0.driver.send(Input::ReportedBy { pid, handle, progress })),
            None => tracing::debug!(%proc_id, "a launcher reported on a proc that has ended, or never was"),
        }
    }

    /// What `proc_id` runs on cannot be asked, or can be again.
    pub(crate) fn unreachable(&self, proc_id: &ProcId, why: Option<String>) {
        if let Some(proc_) = self.find(proc_id) {
            let input = why.map_or_else(|| Input::Event(Event::HeardAgain), Input::Unreachable);
            let _ended = proc_.0.driver.send(input);
        }
    }

    /// The exit of `proc_id` was reported once more; its sender was told that it counts for nothing.
    fn reported_again(&self, proc_id: &ProcId) {
        let ended = || locked(&self.ended).iter().find(|(id, _)| id == proc_id)?.1.upgrade();
        if let Some(shared) = self.find(proc_id).map(|proc_| proc_.0).or_else(ended) {
            shared.late_report("the launcher reported the exit again");
        }
    }

    /// Takes in the proc that `make` makes of the number of its launch, with what belongs to it.
    ///
    /// # Errors
    /// One of its name lives, or will: unless the name is `reserved` for this launch, which takes it.
    pub(crate) fn add<T>(
        &self,
        spec: &SpawnSpec,
        reserved: bool,
        make: impl FnOnce(u32) -> (ProcRef, T),
    ) -> Result<(ProcRef, T), InvalidArgument> {
        let mut live = locked(&self.live);
        if reserved {
            locked(&self.reserved).remove(&spec.name);
        }
        self.refuse_taken(&live, &spec.name)?;
        let (proc_, rest) = make(self.incarnation(spec, &live));
        live.names.insert(spec.name.clone(), proc_.incarnation());
        live.by_id.insert(proc_.id().clone(), proc_.clone());
        drop(live);
        self.hub.add(proc_.id());
        Ok((proc_, rest))
    }

    fn refuse_taken(&self, live: &Live, name: &str) -> Result<(), InvalidArgument> {
        let taken = match live.names.get(name) {
            Some(incarnation) => format!("incarnation {incarnation} of this name is alive"),
            None if locked(&self.reserved).contains(name) => {
                format!("incarnation {} of this name is about to be launched", self.next_incarnation(name))
            }
            None => return Ok(()),
        };
        let rule = format!("AlreadyExists: {taken}; stop it first, or choose another name");
        Err(InvalidArgument::new("name", format!("{name:?}"), rule))
    }

    /// Keeps a name for the next launch of a slot that has it already.
    pub(crate) fn reserve(&self, name: &str) {
        locked(&self.reserved).insert(name.to_owned());
    }

    /// Keeps a name for the next launch of a slot that has ended.
    ///
    /// # Errors
    /// Another proc of this name lives, or will.
    pub(crate) fn claim(&self, name: &str) -> Result<(), InvalidArgument> {
        let live = locked(&self.live);
        self.refuse_taken(&live, name)?;
        self.reserve(name);
        Ok(())
    }

    pub(crate) fn release(&self, name: &str) {
        locked(&self.reserved).remove(name);
    }

    /// The names that are kept for slots between two launches, each with the number of the next one.
    pub(crate) fn reserved(&self) -> Vec<(String, u32)> {
        let names: Vec<_> = locked(&self.reserved).iter().cloned().collect();
        names.into_iter().map(|name| (name.clone(), self.next_incarnation(&name))).collect()
    }

    /// A proc that was added is not launched after all.
    pub(crate) fn unlaunched(&self, proc_id: &ProcId) {
        self.forget(proc_id);
        self.hub.gone(proc_id, "it was never launched");
    }

    /// From now on the end of the host is the end of this group too.
    pub(crate) fn keep_in_mind(&self, group: &Arc<Group>) {
        let mut groups = locked(&self.groups);
        groups.retain(|group| group.strong_count() > 0);
        groups.push(Arc::downgrade(group));
    }

    pub(crate) fn forget(&self, proc_id: &ProcId) {
        self.door.forget(proc_id.launch_id());
        // A binding, so that what may be the last reference is dropped outside of the lock.
        let proc_ = {
            let mut live = locked(&self.live);
            let proc_ = live.by_id.remove(proc_id);
            if proc_.is_some() {
                live.names.remove(proc_id.name());
            }
            proc_
        };
        if let Some(ProcRef(shared)) = &proc_ {
            let mut ended = locked(&self.ended);
            if ended.len().is_multiple_of(FORGET_EVERY) {
                // Of what nobody looks at any more not even the place is kept.
                ended.retain(|(_, shared)| shared.strong_count() > 0);
            }
            ended.push_back((proc_id.clone(), Arc::downgrade(shared)));
            if ended.len() > ENDED {
                ended.pop_front();
            }
        }
    }

    pub(crate) fn find(&self, proc_id: &ProcId) -> Option<ProcRef> {
        locked(&self.live).by_id.get(proc_id).cloned()
    }

    pub(crate) fn live(&self) -> Vec<ProcRef> {
        locked(&self.live).by_id.values().cloned().collect()
    }

    /// Whether `pid` can be the process of `proc_id`: that of another proc, or this one, cannot.
    pub(crate) fn may_be_of(&self, proc_id: &ProcId, pid: u32) -> bool {
        let others = |proc_: &ProcRef| proc_.id() != proc_id && proc_.0.snapshot().pid == Some(pid);
        pid > 1 && pid != std::process::id() && !self.live().iter().any(others)
    }

    /// The number of the next launch of this name.
    pub(crate) fn next_incarnation(&self, name: &str) -> u32 {
        locked(&self.incarnations).last(name) + 1
    }

    /// The next launch of that name is this one.
    pub(crate) fn expect_incarnation(&self, name: &str, incarnation: u32) {
        locked(&self.incarnations).at_least(name, incarnation.saturating_sub(1));
    }

    fn incarnation(&self, spec: &SpawnSpec, live: &Live) -> u32 {
        let reserved = locked(&self.reserved);
        let mut all = locked(&self.incarnations);
        let this = if spec.incarnation == 0 { all.last(&spec.name) + 1 } else { spec.incarnation };
        all.at_least(&spec.name, this);
        if all.are_many() {
            all.forget(|name| name == spec.name || live.names.contains_key(name) || reserved.contains(name));
        }
        this
    }

    /// From now on nothing is launched, and nothing launched again.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::SeqCst);
        let groups: Vec<_> = locked(&self.groups).iter().filter_map(Weak::upgrade).collect();
        for group in groups {
            group.stop_requested((0..group.places.len()).collect());
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Takes away what is listened on, and the run directory.
    pub(crate) async fn close(&self) {
        let listening = std::mem::take(&mut *self.listening.lock().await);
        for (_, serving) in listening {
            serving.stop().await;
        }
        self.records.flush().await;
        self.remove_run_dir();
    }

    /// Like [`Self::close`], from anywhere: the listening ends as soon as the runtime runs again.
    pub(crate) fn abandon(&self) {
        if let Ok(mut listening) = self.listening.try_lock() {
            listening.clear();
        }
        self.remove_run_dir();
    }

    fn remove_run_dir(&self) {
        let _removed = locked(&self.run_dir).take();
    }
}

/// Why a launch is refused once the end has begun.
pub(crate) const SHUTTING_DOWN: &str = "ShuttingDown: the host is ending, and launches nothing more";

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
