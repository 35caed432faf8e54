use std::os::unix::fs::PermissionsExt;

use procession_model::{LaunchId, Secret};
use procession_net::{Crowd, Listener};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::*;
use crate::door::Door;

fn private_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700)).expect("it is ours");
    directory
}

fn how(path: &Path) -> Dial {
    let addresses = vec![Address::unix(path).expect("a short path")];
    Dial { addresses, launch: LaunchId::fresh(), token: Secret::random(), tls: None, lease: Duration::ZERO }
}

#[tokio::test]
async fn a_host_that_hangs_up_or_does_not_listen_for_a_moment_is_dialled_again() {
    let directory = private_directory();
    let path = directory.path().join("s");
    let how = how(&path);
    let busy = UnixListener::bind(&path).expect("a free path");
    let door = Arc::new(Door::default());
    let (driver, mut inputs) = mpsc::unbounded_channel();
    door.expect(how.launch, how.token.clone(), Duration::ZERO, driver);
    let host = async {
        for _ in 0..2 {
            drop(busy.accept().await);
        }
        drop(busy);
        std::fs::remove_file(&path).expect("the socket's file");
        let keeper: Arc<Door> = Arc::clone(&door);
        Listener::unix(&path).expect("the path is free again").serve(keeper, &Crowd::default())
    };
    let (reached, _serving) = tokio::join!(reach(&how), host);
    assert!(reached.is_ok(), "{:?}", reached.err());
    assert!(inputs.recv().await.is_some());
}

#[tokio::test]
async fn the_next_host_is_waited_for_however_long_it_takes_and_one_that_goes_on_refusing_is_believed() {
    let directory = private_directory();
    let path = directory.path().join("s");
    let how = how(&path);
    let door = Arc::new(Door::default());
    let listen = || {
        let keeper: Arc<Door> = Arc::clone(&door);
        Listener::unix(&path).expect("a free path").serve(keeper, &Crowd::default())
    };
    let patience = Duration::from_millis(300);
    let (rejoined, serving) = tokio::join!(rejoin(&how, patience), async {
        sleep(patience * 3).await; // nobody is there for longer than a refusal is taken
        let (driver, _inputs) = mpsc::unbounded_channel();
        door.expect(how.launch, how.token.clone(), Duration::ZERO, driver);
        listen()
    });
    assert!(rejoined.is_ok(), "{:?}", rejoined.err());
    // The token was used: this host takes it from nobody any more.
    let (start, refused) = (Instant::now(), rejoin(&how, patience).await);
    assert!(refused.is_err() && start.elapsed() >= patience);
    drop(serving);
}

#[tokio::test]
async fn a_directory_that_is_gone_is_not_waited_for_for_ever() {
    let directory = private_directory();
    let how = how(&directory.path().join("s"));
    drop(directory);
    let error = rejoin(&how, Duration::from_millis(300)).await.expect_err("nobody can come");
    assert!(error.to_string().contains("cannot connect"), "{error}");
}

#[tokio::test]
async fn a_host_that_cannot_be_trusted_is_not_dialled_again() {
    let directory = private_directory();
    let path = directory.path().join("s");
    let how = how(&path);
    let door = Arc::new(Door::default());
    door.expect(how.launch, Secret::random(), Duration::ZERO, mpsc::unbounded_channel().0);
    let _serving = Listener::unix(&path).expect("a free path").serve(door, &Crowd::default());
    let start = Instant::now();
    let error = reach(&how).await.expect_err("the tokens differ");
    assert!(!error.is_temporary() && start.elapsed() < TROUBLE, "{error}");
}
