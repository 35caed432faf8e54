//! A TCP proxy between a proc and its host that does what networks do to bytes.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use procession_net::{Address, Dial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of connections, old and new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Bytes pass.
    Fair,
    /// Every connection is taken, and nothing passes.
    Silent,
    /// Every connection is ended.
    Cut,
}

/// What becomes of one chunk on its way from the proc to the host: what is sent in its place.
pub(crate) type Change = Box<dyn FnMut(Vec<u8>) -> Vec<u8> + Send>;

pub(crate) struct Proxy {
    port: u16,
    /// With how often there was a cut.
    weather: watch::Sender<(Weather, u32)>,
    change: Arc<Mutex<Option<Change>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let weather = watch::channel((Weather::Fair, 0)).0;
        let (change, connections) = (Arc::<Mutex<Option<Change>>>::default(), Arc::<AtomicUsize>::default());
        let (weathers, changes, count) = (weather.clone(), Arc::clone(&change), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            loop {
                let stream = listener.accept().await.unwrap().0;
                tokio::spawn(pass(
                    stream,
                    port,
                    weathers.subscribe(),
                    Arc::clone(&changes),
                    Arc::clone(&count),
                ));
            }
        });
        Self { port: own, weather, change, connections, task }
    }

    /// How to dial the host through this.
    pub(crate) fn between(&self, how: &Dial) -> Dial {
        let address: Address = format!("tcp:127.0.0.1:{}", self.port).parse().unwrap();
        Dial { addresses: vec![address], ..how.clone() }
    }

    pub(crate) fn turn(&self, weather: Weather) {
        self.weather.send_modify(|now| {
            now.0 = weather;
            now.1 += u32::from(weather == Weather::Cut);
        });
    }

    /// Ends every connection there is; new ones pass.
    pub(crate) fn cut(&self) {
        self.turn(Weather::Cut);
        self.turn(Weather::Fair);
    }

    /// From now on `change` is done to what comes from the proc.
    pub(crate) fn meddle(&self, change: Change) {
        *self.change.lock().unwrap() = Some(change);
    }

    pub(crate) fn leave_alone(&self) {
        *self.change.lock().unwrap() = None;
    }

    /// How many connections have passed to the host.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn pass(
    near: TcpStream,
    port: u16,
    mut weather: watch::Receiver<(Weather, u32)>,
    change: Arc<Mutex<Option<Change>>>,
    connections: Arc<AtomicUsize>,
) {
    let (_, cuts) = *weather.borrow();
    let mut silence = weather.clone();
    let both = async {
        if silence.wait_for(|(weather, _)| *weather != Weather::Silent).await.is_err() {
            return;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
        connections.fetch_add(1, Ordering::SeqCst);
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::select! {
            () = copy(near_in, far_out, silence.clone(), Some(change)) => {}
            () = copy(far_in, near_out, silence.clone(), None) => {}
        }
    };
    tokio::select! {
        biased;
        _ = weather.wait_for(|now| now.0 == Weather::Cut || now.1 != cuts) => {}
        () = both => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<(Weather, u32)>,
    change: Option<Arc<Mutex<Option<Change>>>>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        if weather.wait_for(|(weather, _)| *weather != Weather::Silent).await.is_err() {
            return;
        }
        let mut chunk = buffer[..bytes].to_vec();
        if let Some(change) =
            change.as_ref().and_then(|change| change.lock().unwrap().as_mut().map(|it| it(chunk.clone())))
        {
            chunk = change;
        }
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}
