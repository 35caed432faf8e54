//! A launcher that is a Python object, served by the interpreter inside this process.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::ffi::CString;
use std::sync::OnceLock;
use std::time::Duration;

use common::{Session, proc_id};
use procession_actor::{ActorHandle, Proc};
use procession_launch::{Capabilities, ProcLauncher, ProcLauncherError};
use procession_model::{
    BootstrapCommand, ChannelAddr, DialBack, LaunchOptions, ProcExitKind, ProcExitResult, ProcId,
};
use procession_native::{ActorProcLauncher, PythonActor, embed};
use pyo3::prelude::*;
use tokio::runtime::Runtime;

const LAUNCHER: &str = r#"
import asyncio, dataclasses, threading
from procession.actor import endpoint
from procession.launch import LaunchOptions, ProcExitResult, ProcLauncher

class Scripted(ProcLauncher):
    """Does what the program's name says."""

    def __init__(self):
        super().__init__()
        self.ports = {}
        self.release = threading.Event()

    @endpoint(explicit_response_port=True)
    async def launch(self, exit_port, proc_id, opts):
        assert type(opts) is LaunchOptions and type(proc_id) is str
        match opts.program:
            case 'hold':
                self.ports[proc_id] = exit_port
            case 'tell':
                fields = dataclasses.asdict(opts)
                exit_port.send(ProcExitResult(None, None, False, repr(fields), []))
            case 'raise':
                raise RuntimeError('no such image')
            case 'bad code':
                exit_port.send(ProcExitResult(-9, None, False, None, []))
            case 'twice':
                exit_port.send(ProcExitResult(1, None, False, None, ['first']))
                exit_port.send(ProcExitResult(2, None, False, None, ['second']))
            case 'exception':
                exit_port.exception(ValueError('asked for'))
            case 'forget':
                pass
            case 'die':
                raise SystemExit('bye')

    @endpoint
    async def terminate(self, proc_id, timeout_secs):
        port = self.ports.pop(proc_id)
        port.send(ProcExitResult(None, 15, False, None, [f'terminated within {timeout_secs!r}']))

    @endpoint
    def kill(self, proc_id):
        if proc_id == self.blocked:
            self.release.wait()
        elif proc_id not in self.ports:
            raise KeyError(f'never launched {proc_id}')
        else:
            self.ports.pop(proc_id).send(ProcExitResult(None, 9, True, None, []))

    blocked = None
"#;

struct Stage {
    runtime: Runtime,
    host: Proc,
    launchers: Proc,
}

/// A process has one node, whatever its tests.
fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let entered = runtime.enter();
        let session = Session::default();
        let (host, launchers) = (session.join("host"), session.join("launchers"));
        drop(entered);
        Python::attach(|py| {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python");
            py.import("sys").unwrap().getattr("path").unwrap().call_method1("insert", (0, path)).unwrap();
            embed(py, &launchers, runtime.handle().clone()).unwrap();
            embed(py, &launchers, runtime.handle().clone()).unwrap();
            let other = embed(py, &host, runtime.handle().clone()).unwrap_err().to_string();
            assert!(other.contains("can have no other"), "{other}");
        });
        Stage { runtime, host, launchers }
    })
}

/// A launcher object of its own under `name`, and a host's view of it.
fn scripted(name: &str) -> (ActorHandle<PythonActor>, Py<PyAny>, ActorProcLauncher) {
    let stage = stage();
    let (handle, object) = Python::attach(|py| {
        let code = CString::new(LAUNCHER).unwrap();
        let module = PyModule::from_code(py, &code, c"scripted.py", c"scripted").unwrap();
        let object = module.getattr("Scripted").unwrap().call0().unwrap();
        (PythonActor::spawn_object(py, name, &object).unwrap(), object.unbind())
    });
    let spawner = ActorHandle::attach(&stage.host, handle.id().clone());
    let launcher = ActorProcLauncher::new(spawner, stage.host.mailbox(), stage.host.instance());
    (handle, object, launcher)
}

fn options(program: &str) -> LaunchOptions {
    LaunchOptions {
        bootstrap_payload: "payload".to_owned(),
        process_name: "w @ h".to_owned(),
        command: BootstrapCommand::new(program),
        want_stdio: false,
        tail_lines: 5,
        log_channel: None,
        detach: false,
        lease: std::time::Duration::ZERO,
        output: None,
    }
}

async fn exit_of(launcher: &ActorProcLauncher, id: &ProcId, opts: LaunchOptions) -> ProcExitResult {
    let launched = launcher.launch(id, opts).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), launched.exit_rx).await.unwrap().unwrap()
}

fn failed(result: &ProcExitResult) -> &str {
    match &result.kind {
        ProcExitKind::Failed { reason } => reason,
        other => panic!("{other:?} is no failure"),
    }
}

async fn end(handle: ActorHandle<PythonActor>) {
    handle.stop("the test is over");
    assert_eq!(handle.ended().await, None);
}

#[test]
fn a_launch_lives_until_it_is_terminated_or_killed() {
    stage().runtime.block_on(async {
        let (handle, _, launcher) = scripted("ladder");
        let (soft, hard) = (proc_id("w-0"), proc_id("w-1"));
        let terminated = launcher.launch(&soft, options("hold")).await.unwrap().exit_rx;
        let killed = launcher.launch(&hard, options("hold")).await.unwrap().exit_rx;
        assert_eq!(launcher.tracked().len(), 2);
        launcher.terminate(&soft, Duration::from_millis(1500)).await.unwrap();
        let exit = terminated.await.unwrap();
        assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 15, core_dumped: false });
        assert_eq!(exit.stderr_tail, Some(vec!["terminated within 1.5".to_owned()]));
        launcher.kill(&hard).await.unwrap();
        assert_eq!(killed.await.unwrap().kind, ProcExitKind::Signaled { signal: 9, core_dumped: true });
        assert!(launcher.tracked().is_empty());
        end(handle).await;
    });
}

#[test]
fn every_option_arrives_under_its_name() {
    stage().runtime.block_on(async {
        let (handle, _, launcher) = scripted("options");
        let mut opts = options("tell");
        opts.command.arg0 = Some("zero".to_owned());
        opts.command.args = vec!["-c".to_owned(), "päss".to_owned()];
        opts.command.env = [("B".to_owned(), "2".to_owned()), ("A".to_owned(), "1".to_owned())].into();
        opts.want_stdio = true;
        opts.log_channel = Some(ChannelAddr("p.0@h#7".to_owned()));
        let nine = "{'bootstrap_payload': 'payload', 'process_name': 'w @ h', 'program': 'tell', 'arg0': 'zero', \
                    'args': ['-c', 'päss'], 'env': {'A': '1', 'B': '2'}, 'want_stdio': True, 'tail_lines': 5, \
                    'log_channel': 'p.0@h#7'";
        let free = "'resources': {}, 'user': None, 'rlimits': {}, 'security': {}, 'proc_bind': {}";
        let told = exit_of(&launcher, &proc_id("w"), opts.clone()).await;
        assert_eq!(failed(&told), format!("{nine}, 'cwd': None, 'clear_env': False, 'env_remove': [], {free}}}"));

        let able = Capabilities { command_attributes: true, ..launcher.capabilities() };
        assert_eq!(able.dial_back, DialBack::Local);
        let launcher = launcher.with_capabilities(able);
        opts.command.cwd = Some("/tmp".into());
        opts.command.clear_env = true;
        opts.command.env_remove = vec!["HOME".to_owned()];
        let told = exit_of(&launcher, &proc_id("w"), opts).await;
        assert_eq!(
            failed(&told),
            format!("{nine}, 'cwd': '/tmp', 'clear_env': True, 'env_remove': ['HOME'], {free}}}")
        );
        end(handle).await;
    });
}

#[test]
fn what_goes_wrong_in_one_launch_costs_that_launch_alone() {
    stage().runtime.block_on(async {
        let (handle, _, launcher) = scripted("faults");
        let other = proc_id("other");
        let lives = launcher.launch(&other, options("hold")).await.unwrap().exit_rx;
        for (program, reason) in [
            ("raise", "spawner raised: no such image"),
            ("exception", "spawner raised: asked for"),
            (
                "bad code",
                "failed to decode exit result: exit_code must be 0 to 255, not -9; \
                 for a proc that a signal ended use signal=",
            ),
            (
                "forget",
                "exit port closed (spawner crashed or forgot to send): PortDropped: the port was dropped without an answer",
            ),
        ] {
            let exit = exit_of(&launcher, &proc_id("w"), options(program)).await;
            assert_eq!(failed(&exit), reason, "{program}");
            assert_eq!(exit.stderr_tail, None, "{program}");
        }
        let exit = exit_of(&launcher, &proc_id("w"), options("twice")).await;
        assert_eq!(exit.kind, ProcExitKind::Exited { code: 1 });
        assert_eq!(exit.stderr_tail, Some(vec!["first".to_owned()]));

        let stranger = proc_id("stranger");
        let error = launcher.kill(&stranger).await.unwrap_err();
        let ProcLauncherError::Kill(why) = &error else { panic!("{error:?}") };
        assert!(
            why.contains("spawner raised: ") && why.contains(&format!("never launched {stranger}")),
            "{why}"
        );
        let error = launcher.terminate(&stranger, Duration::ZERO).await.unwrap_err();
        assert!(
            matches!(&error, ProcLauncherError::Terminate(why) if why.contains("spawner raised: ")),
            "{error}"
        );

        launcher.kill(&other).await.unwrap();
        assert_eq!(lives.await.unwrap().kind, ProcExitKind::Signaled { signal: 9, core_dumped: true });
        assert!(launcher.tracked().is_empty());
        end(handle).await;
    });
}

#[test]
fn an_endpoint_that_blocks_stalls_neither_the_host_nor_other_launches() {
    stage().runtime.block_on(async {
        let (handle, object, launcher) = scripted("blocked");
        let id = proc_id("w-0");
        Python::attach(|py| object.setattr(py, "blocked", id.to_string()).unwrap());
        let _exit = launcher.launch(&id, options("hold")).await.unwrap().exit_rx;
        let release = async {
            let exit = exit_of(&launcher, &proc_id("w-1"), options("twice")).await;
            assert_eq!(exit.kind, ProcExitKind::Exited { code: 1 });
            Python::attach(|py| object.getattr(py, "release").unwrap().call_method0(py, "set").unwrap());
        };
        let (killed, ()) = tokio::join!(launcher.kill(&id), release);
        killed.unwrap();
        end(handle).await;
    });
}

#[test]
fn a_launcher_that_ends_closes_the_exits_that_it_owes_and_its_name_is_free_again() {
    stage().runtime.block_on(async {
        let (handle, _, launcher) = scripted("mortal");
        let owed = launcher.launch(&proc_id("w-0"), options("hold")).await.unwrap().exit_rx;
        let last = exit_of(&launcher, &proc_id("w-1"), options("die")).await;
        assert_eq!(failed(&last), "spawner raised: bye");
        let failure = handle.ended().await.unwrap();
        assert!(
            failure.contains("SystemExit: bye") && failure.contains(&handle.id().to_string()),
            "{failure}"
        );
        let owed = failed(&owed.await.unwrap()).to_owned();
        assert!(
            owed.starts_with("exit port closed (spawner crashed or forgot to send): LauncherLost: actor "),
            "{owed}"
        );
        assert!(owed.contains("SystemExit: bye"), "{owed}");
        assert!(launcher.tracked().is_empty());
        let (handle, _, _) = scripted("mortal");
        end(handle).await;
    });
}

#[test]
fn an_object_that_cannot_be_served_leaves_no_actor_behind() {
    let stage = stage();
    Python::attach(|py| {
        let actor =
            PyModule::import(py, "procession.actor").unwrap().getattr("Actor").unwrap().call0().unwrap();
        let bad_name = PythonActor::spawn_object(py, "not/a/name", &actor).unwrap_err().to_string();
        assert!(bad_name.contains("actor name"), "{bad_name}");
        let no_actor = PythonActor::spawn_object(py, "nobody", py.None().bind(py)).unwrap_err().to_string();
        assert_eq!(no_actor, "TypeError: give an instance of procession.actor.Actor, not of NoneType");
    });
    assert!(!stage.launchers.stop_actor("nobody", "the test looks"));
}
