//! Where a host may listen on this machine, and which users may reach it.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::{CallBacks, Host, private_directory, soon};
use procession_net::{Crowd, Listener, SessionCa, dial};
use procession_wire::ClientHandshake;

fn refusal(path: impl AsRef<std::path::Path>) -> String {
    Listener::unix(path).err().expect("it listens").to_string()
}

#[tokio::test]
async fn what_stands_at_a_sockets_path_is_neither_replaced_nor_removed() {
    let directory = private_directory();
    let path = directory.path().join("s");
    let first = Listener::unix(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert!(refusal(&path).contains("in use"));
    fs::remove_file(&path).unwrap();
    let second = Listener::unix(&path).unwrap();
    drop(first);
    assert!(path.exists(), "it is another's");
    drop(second);
    assert!(!path.exists());
}

#[tokio::test]
async fn both_ends_of_a_socket_know_the_process_at_the_other() {
    let host = Host::unix();
    let (proc_end, host_end) = soon(host.link()).await;
    for peer in [proc_end.peer, host_end.peer] {
        assert_eq!(peer.pid, Some(std::process::id()));
        assert_eq!(peer.uid, Some(fs::metadata(host.path()).unwrap().uid()));
        assert_eq!(peer.address, format!("unix:{}", host.path().display()));
    }
}

#[tokio::test]
async fn a_listener_that_was_never_served_leaves_no_file() {
    let directory = private_directory();
    let path = directory.path().join("s");
    drop(Listener::unix(&path).unwrap());
    assert!(!path.exists());
    drop(Listener::unix(&path).unwrap().serve(Arc::new(CallBacks::default()), &Crowd::default()));
    tokio::task::yield_now().await;
    assert!(!path.exists());
}

mod f94 {
    use super::*;

    #[tokio::test]
    async fn another_user_is_kept_out_by_the_directory_and_refused_when_it_is_not() {
        let host = Host::unix();
        let path = host.path();
        if fs::metadata(&path).unwrap().uid() != 0 {
            println!("skipped: capability: change-user");
            return;
        }
        // Says what a proc that is expected says first; prints whether it gets in, and how much it is told.
        let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ntry: s.connect(sys.argv[1])\n\
                      except OSError as e: sys.exit(type(e).__name__)\n\
                      try:\n s.sendall(bytes.fromhex(sys.argv[2]))\n print(len(s.recv(99)))\n\
                      except ConnectionError: print(0)";
        let (how, _call_back) = host.expect();
        let (_, hello) = ClientHandshake::new(how.launch, &how.token);
        let hello: String = hello.iter().map(|byte| format!("{byte:02x}")).collect();
        let says_hello = async |user| {
            let mut command = Command::new("python3");
            command
                .args(["-c", script])
                .arg(&path)
                .arg(&hello)
                .uid(user)
                .gid(user)
                .current_dir("/")
                .stderr(Stdio::piped());
            let output = tokio::task::spawn_blocking(move || command.output().unwrap());
            let output = soon(output).await.unwrap();
            String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
        };
        assert_eq!(says_hello(65_534).await.trim(), "PermissionError");
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
        assert_eq!(says_hello(65_534).await.trim(), "0", "it gets no answer");
        assert_eq!(says_hello(0).await.trim(), "76", "the same words of its own user have one");
        assert!(soon(dial(&how)).await.is_ok());
    }

    #[tokio::test]
    async fn a_directory_that_others_can_enter_holds_no_socket() {
        let directory = private_directory();
        let path = directory.path();
        for mode in [0o755, 0o750, 0o701, 0o777, 0o1777, 0o500] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            let text = refusal(path.join("s"));
            assert!(text.contains(&format!("{mode:04o}")) && text.contains("chmod 0700"), "{text}");
        }
        fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
        let link = private_directory();
        symlink(path, link.path().join("turned")).unwrap();
        assert!(refusal(link.path().join("turned/s")).contains("symbolic link"));
        fs::write(path.join("file"), "").unwrap();
        assert!(refusal(path.join("file/s")).contains("not a directory"));
        assert!(refusal(path.join("none/s")).contains("No such file"));
        assert!(refusal("relative").contains("absolute"));
        assert!(refusal("@abstract").contains("abstract"));
        assert!(refusal(path.join("x".repeat(107))).contains("107 bytes"));
        assert!(Listener::unix(path.join("s")).is_ok());
    }
}

mod f102 {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_or_no_address_is_refused_with_the_reason() {
        let ca = SessionCa::new("h").unwrap();
        let first = Listener::tcp("127.0.0.1:0", &ca).await.unwrap();
        let taken = first.local_address().to_string();
        let text = Listener::tcp(taken.strip_prefix("tcp:").unwrap(), &ca).await.err().unwrap().to_string();
        assert!(text.contains("in use") && text.contains(&taken), "{text}");
        for (bind, needle) in [
            ("127.0.0.1", "port follow"),
            ("", "host is missing"),
            ("127.0.0.1:65536", "0..=65535"),
            ("192.0.2.1:0", "192.0.2.1"),
        ] {
            let text = Listener::tcp(bind, &ca).await.err().unwrap().to_string();
            assert!(text.contains(needle), "{text}");
        }
    }
}
