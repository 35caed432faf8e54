//! What the tests share: hosts that listen, procs that dial.
#![allow(dead_code, reason = "each test file uses its own part")]

mod call_backs;
pub(crate) mod proxy;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use procession_model::{Head, LaunchId, Packet};
use procession_net::{Address, Crowd, Dial, Link, Listener, Serving, SessionCa, dial};
use tempfile::TempDir;

pub(crate) use call_backs::{CallBack, CallBacks, LEASE};

/// A host that listens at a unix socket or at a port of loopback.
pub(crate) struct Host {
    pub(crate) call_backs: Arc<CallBacks>,
    pub(crate) serving: Serving,
    pub(crate) ca: Option<SessionCa>,
    pub(crate) directory: Option<TempDir>,
}

pub(crate) fn private_directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700)).unwrap();
    directory
}

impl Host {
    pub(crate) fn unix() -> Self {
        Self::unix_in(&Crowd::default())
    }

    pub(crate) async fn tcp() -> Self {
        Self::tcp_in(&Crowd::default()).await
    }

    pub(crate) async fn both() -> [Self; 2] {
        [Self::unix(), Self::tcp().await]
    }

    /// Hosts whose strangers are counted together.
    pub(crate) async fn both_in(crowd: &Crowd) -> [Self; 2] {
        [Self::unix_in(crowd), Self::tcp_in(crowd).await]
    }

    fn unix_in(crowd: &Crowd) -> Self {
        let directory = private_directory();
        let call_backs = Arc::new(CallBacks::default());
        let listener = Listener::unix(directory.path().join("host.sock")).unwrap();
        let serving = listener.serve(call_backs.clone(), crowd);
        Self { call_backs, serving, ca: None, directory: Some(directory) }
    }

    async fn tcp_in(crowd: &Crowd) -> Self {
        Self::tcp_as(CallBacks::default(), crowd).await
    }

    /// A host that waits for `lease` until a lost proc comes back.
    pub(crate) async fn tcp_with(lease: Duration) -> Self {
        Self::tcp_as(CallBacks::with_lease(lease), &Crowd::default()).await
    }

    async fn tcp_as(call_backs: CallBacks, crowd: &Crowd) -> Self {
        let ca = SessionCa::new("host-0123456789abcdef").unwrap();
        let call_backs = Arc::new(call_backs);
        let listener = Listener::tcp("127.0.0.1:0", &ca).await.unwrap();
        let serving = listener.serve(call_backs.clone(), crowd);
        Self { call_backs, serving, ca: Some(ca), directory: None }
    }

    pub(crate) fn path(&self) -> PathBuf {
        match self.serving.local_address() {
            Address::Unix(path) => path.clone(),
            other => panic!("{other} is no socket"),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self.serving.local_address() {
            Address::Tcp { port, .. } => *port,
            other => panic!("{other} has no port"),
        }
    }

    /// Expects a launch, and says how it has to dial.
    pub(crate) fn expect(&self) -> (Dial, CallBack) {
        let launch = LaunchId::fresh();
        let call_back = self.call_backs.expect(launch);
        let dial = Dial {
            addresses: vec![self.serving.local_address().clone()],
            launch,
            token: call_back.token().clone(),
            tls: self.ca.as_ref().map(|ca| ca.issue(launch).unwrap()),
            lease: LEASE,
        };
        (dial, call_back)
    }

    /// A link, as (the proc's end, the host's end).
    pub(crate) async fn link(&self) -> (Link, Link) {
        let (how, mut call_back) = self.expect();
        let (proc_end, host_end) = tokio::join!(dial(&how), call_back.link());
        (proc_end.unwrap(), host_end.unwrap())
    }
}

/// A TLS connection to a host at `port`, with the certificate of `how`.
pub(crate) async fn tls(how: &Dial, port: u16) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let given = how.tls.clone().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(given.ca.into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![given.certificate.into()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(given.key.into()),
        )
        .unwrap();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = given.server_name.try_into().unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

pub(crate) fn packet(number: u32, payload: impl Into<Bytes>) -> Packet {
    Packet { head: Head::Ready { pid: number }, parts: vec![payload.into()] }
}

pub(crate) fn number(packet: &Packet) -> u32 {
    match packet.head {
        Head::Ready { pid } => pid,
        ref other => panic!("unexpected {other:?}"),
    }
}

/// Fails, rather than hangs, when something takes longer than it ever should.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it hangs")
}
