use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

use procession_model::{ActorId, InvalidArgument, ProcId, check_name};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::actor::Actor;
use crate::cell::{Cell, Feed, TypedCell};
use crate::handle::ActorHandle;
use crate::held_table::HeldTable;
use crate::instance::Instance;
use crate::life::{Ending, live, unwritten};
use crate::mailbox::Mailbox;
use crate::message::Message;
use crate::obituaries::Obituaries;
use crate::port_table::PortTable;
use crate::recorder::{FlightRecorder, Handling};
use crate::routing::{Router, no_route};

/// How many ended actors a process remembers.
const OBITUARIES: usize = 1000;

/// Hears of every actor that ends in a process: its id, and why unless it ended regularly.
type EndObserver = Arc<dyn Fn(&ActorId, Option<&str>) + Send + Sync>;

struct Inner {
    id: ProcId,
    runtime: Handle,
    cells: RwLock<HashMap<Arc<str>, Arc<dyn Cell>>>,
    ports: PortTable,
    /// The once ports of others that are here.
    held: HeldTable,
    router: RwLock<Arc<dyn Router>>,
    on_end: RwLock<Option<EndObserver>>,
    recorder: OnceLock<Arc<dyn FlightRecorder>>,
    next_instance: AtomicU64,
    /// How many actors live.
    alive: watch::Sender<usize>,
    /// What became of those that no longer do.
    obituaries: Obituaries<Arc<str>>,
}

/// The node that this process is: its actors, its ports and its way to other processes.
///
/// Cheap to clone; every clone is the same node.
#[derive(Clone)]
pub struct Proc(Arc<Inner>);

/// A [`Proc`] that does not keep it alive.
#[derive(Clone)]
pub struct WeakProc(Weak<Inner>);

impl WeakProc {
    /// The node, while it exists.
    pub fn upgrade(&self) -> Option<Proc> {
        self.0.upgrade().map(Proc)
    }
}

impl Proc {
    /// A node called `id` whose actors run on `runtime`, and which knows no other process yet.
    pub fn new(id: ProcId, runtime: Handle) -> Self {
        Self(Arc::new(Inner {
            id,
            runtime,
            cells: RwLock::default(),
            ports: PortTable::default(),
            held: HeldTable::default(),
            router: RwLock::new(no_route()),
            on_end: RwLock::default(),
            recorder: OnceLock::new(),
            next_instance: AtomicU64::new(0),
            alive: watch::channel(0).0,
            obituaries: Obituaries::new(OBITUARIES),
        }))
    }

    /// Its id.
    pub fn id(&self) -> &ProcId {
        &self.0.id
    }

    /// Sets the way to other processes. A router that refers to this node must do so weakly.
    pub fn set_router(&self, router: Arc<dyn Router>) {
        let mut slot = self.0.router.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *slot, router);
        // In this order, because the drop of a router may send, which reads the slot.
        drop(slot);
        drop(before);
    }

    /// Calls `observer` whenever an actor of this process has ended, before its name is free again.
    pub fn on_actor_end(&self, observer: impl Fn(&ActorId, Option<&str>) + Send + Sync + 'static) {
        let mut slot = self.0.on_end.write().unwrap_or_else(PoisonError::into_inner);
        let before = slot.replace(Arc::new(observer));
        drop(slot);
        drop(before);
    }

    /// From now on `recorder` notes what actors of this process handle. Only the first one counts.
    pub fn set_recorder(&self, recorder: Arc<dyn FlightRecorder>) {
        let _first = self.0.recorder.set(recorder);
    }

    /// Notes that `actor` handles a message until what this gives is dropped; none where nobody notes it.
    pub fn handling(&self, actor: &ActorId, what: &str, sender: &ActorId) -> Option<Handling> {
        self.0.recorder.get().map(|recorder| Handling::begin(recorder, actor, what, sender))
    }

    /// A context to send from that is no actor itself.
    pub fn instance(&self) -> Instance<()> {
        let number = self.0.next_instance.fetch_add(1, Ordering::Relaxed);
        // No actor can have a name with a colon in it.
        Instance::new(self.clone(), ActorId::new(self.id().clone(), format!("client:{number}")))
    }

    /// Where ports are opened.
    pub fn mailbox(&self) -> Mailbox {
        Mailbox::new(self.clone())
    }

    /// Starts `actor` under `name`.
    ///
    /// # Errors
    /// The name is not legal, or taken by an actor that lives.
    pub fn spawn<A: Actor>(&self, name: &str, actor: A) -> Result<ActorHandle<A>, InvalidArgument> {
        self.spawn_with(name, actor, None)
    }

    /// As [`Self::spawn`], of an actor that only passes on each `M` that comes to it as a packet: `feed` gets that instead, with who has
    /// sent it, where it arrives. It must neither block nor panic, and takes messages until the actor has ended.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    ///
    /// # Panics
    /// `M` has no wire form.
    pub fn spawn_fed<A: Actor, M: Message>(
        &self,
        name: &str,
        actor: A,
        feed: impl Fn(ActorId, M) + Send + Sync + 'static,
    ) -> Result<ActorHandle<A>, InvalidArgument> {
        self.spawn_with(name, actor, Some(Feed::of(feed)))
    }

    fn spawn_with<A: Actor>(
        &self,
        name: &str,
        actor: A,
        feed: Option<Feed>,
    ) -> Result<ActorHandle<A>, InvalidArgument> {
        check_name("actor name", name)?;
        let id = ActorId::new(self.id().clone(), name);
        let (mail, inbox) = mpsc::unbounded_channel();
        let (ended_tx, ended) = watch::channel(None);
        let epitaph = unwritten(&id);
        let cell = TypedCell::<A>::new(id.clone(), mail.clone(), feed, Arc::clone(&epitaph));
        self.register(&id.name, Arc::new(cell))?;
        let ending = Ending::new(self.clone(), id.clone(), ended_tx, Arc::clone(&epitaph));
        self.0.runtime.spawn(live(ending, Instance::new(self.clone(), id.clone()), inbox, actor));
        Ok(ActorHandle::local(id, self.clone(), mail, ended, epitaph))
    }

    fn register(&self, name: &Arc<str>, cell: Arc<dyn Cell>) -> Result<(), InvalidArgument> {
        let mut cells = self.0.cells.write().unwrap_or_else(PoisonError::into_inner);
        if cells.contains_key(name) {
            return Err(InvalidArgument::new(
                "actor name",
                format!("{name:?}"),
                "AlreadyExists: an actor of this name lives in this proc; choose another name or stop it first",
            ));
        }
        cells.insert(Arc::clone(name), cell);
        self.0.alive.send_replace(cells.len());
        Ok(())
    }

    /// Asks every actor to end after what it has queued.
    pub fn stop_actors(&self, reason: &str) {
        let cells: Vec<_> =
            self.0.cells.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for cell in cells {
            cell.stop(reason);
        }
    }

    /// Asks one actor to end after what it has queued; false when there is none of that name.
    pub fn stop_actor(&self, name: &str, reason: &str) -> bool {
        self.cell(name).map(|cell| cell.stop(reason)).is_some()
    }

    /// Waits until no actor lives here. Cancel safe.
    pub async fn actors_ended(&self) {
        let mut alive = self.0.alive.subscribe();
        let _never_closed = alive.wait_for(|alive| *alive == 0).await;
    }

    /// Errs every port that is open here; for a process that has lost its way to the others.
    pub fn close_ports(&self, reason: &str) {
        self.ports().close_all(reason);
    }

    /// How many answers came that nobody waited for any more, or were not sent because they were second ones.
    pub fn late_answers(&self) -> u64 {
        self.ports().late()
    }

    /// How many ports are open here; for leak tests.
    pub fn open_ports(&self) -> usize {
        self.ports().len()
    }

    /// How many once ports came here in messages and are here still; for leak tests.
    pub fn held_ports(&self) -> usize {
        self.held().len()
    }

    /// A reference that does not keep the node alive.
    pub fn downgrade(&self) -> WeakProc {
        WeakProc(Arc::downgrade(&self.0))
    }

    pub(crate) fn ports(&self) -> &PortTable {
        &self.0.ports
    }

    pub(crate) fn held(&self) -> &HeldTable {
        &self.0.held
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    pub(crate) fn router(&self) -> Arc<dyn Router> {
        Arc::clone(&self.0.router.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn cell(&self, name: &str) -> Option<Arc<dyn Cell>> {
        self.0.cells.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Whether an actor called `name` lives here, or did as far as is remembered.
    pub fn knows_actor(&self, name: &Arc<str>) -> bool {
        self.cell(name).is_some() || self.0.obituaries.read(name).is_some()
    }

    /// Why there is no actor called `name` here.
    pub(crate) fn absence(&self, name: &Arc<str>) -> String {
        self.0.obituaries.read(name).unwrap_or_else(|| {
            format!("no actor {name:?} lives in proc {}: it has ended, or never was", self.id())
        })
    }

    pub(crate) fn actor_ended(&self, id: &ActorId, failure: Option<&str>, epitaph: String) {
        self.0.obituaries.write(Arc::clone(&id.name), epitaph);
        // Bindings, so that neither the observer nor the drop of the cell runs under a lock.
        let observer = self.0.on_end.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(observer) = observer {
            observer(id, failure);
        }
        let mut cells = self.0.cells.write().unwrap_or_else(PoisonError::into_inner);
        let cell = cells.remove(&id.name);
        self.0.alive.send_replace(cells.len());
        drop(cells);
        drop(cell);
    }
}

impl fmt::Debug for Proc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proc({})", self.id())
    }
}
