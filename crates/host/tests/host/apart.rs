//! A host in a process of its own, to which a test can do anything.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use procession_host::ProcRef;
use procession_model::BootstrapCommand;
use procession_sys::{FAILPOINTS, Process, Snapshot};

use crate::common::{HOLD, host, program, script};

/// For what should come at once; only a broken host ever waits for it.
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
#[ignore = "a role that other tests play in a process of its own"]
fn role_of_a_host() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, mut commands) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lines() {
                let _the_role_is_over = sender.send(line.unwrap());
            }
        });
        let start = Instant::now();
        let host = host().await;
        println!("up {}", start.elapsed().as_micros());
        let mut procs: Vec<ProcRef> = Vec::new();
        while let Some(line) = commands.recv().await {
            let (word, text) = line.split_once(' ').unwrap_or((&line, ""));
            let spec = match word {
                "script" => script("it", text),
                "program" => {
                    let mut spec = program("it", "proc");
                    spec.command.env.insert(HOLD.to_owned(), text.to_owned());
                    after_a_daemon(&mut spec.command);
                    spec
                }
                "stop" => {
                    for proc_ in &procs {
                        let stopping = proc_.clone();
                        tokio::spawn(
                            async move { stopping.stop("test", Some(Duration::from_secs(600))).await },
                        );
                    }
                    println!("stopping it");
                    continue;
                }
                "kill" | "terminate" => {
                    for proc_ in &procs {
                        let (proc_, kill) = (proc_.clone(), word == "kill");
                        tokio::spawn(async move {
                            let asked = if kill {
                                proc_.kill("test").await
                            } else {
                                proc_.terminate(Duration::from_secs(2), "test").await
                            };
                            asked.unwrap();
                        });
                    }
                    continue;
                }
                other => panic!("there is no command {other:?}"),
            };
            let proc_ = host.spawn(spec, host.native_launcher()).unwrap();
            procs.push(proc_.clone());
            println!("launch {}", proc_.id().launch_id());
            let seen = proc_.clone();
            tokio::spawn(async move {
                if seen.ready().await.is_ok() {
                    println!("ready {}", seen.status().pid.unwrap());
                }
            });
            tokio::spawn(async move { println!("exit {}", proc_.ended().await.kind) });
        }
        host.shutdown(Duration::from_secs(5)).await;
        println!("bye");
    });
}

/// The same program, once it has left a process behind that is in a session of its own.
fn after_a_daemon(command: &mut BootstrapCommand) {
    let script = "setsid sh -c 'sleep 1000 &'; exec \"$0\" \"$@\"".to_owned();
    let program = std::mem::replace(&mut command.program, "/bin/sh".into());
    let words = ["-c".to_owned(), script, program.to_str().unwrap().to_owned()];
    command.args.splice(0..0, words);
}

pub(crate) struct Apart {
    child: Child,
    said: Receiver<String>,
    heard: Vec<String>,
    directory: PathBuf,
    /// How long its start took, in its own measure.
    pub(crate) start: Duration,
    pub(crate) own: Process,
    pub(crate) guard: Process,
    pub(crate) keeper: Process,
}

/// The files that one or several hosts share: run directories, failpoints.
pub(crate) fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["run", "failpoints", "cwd"] {
        std::fs::create_dir(directory.path().join(name)).unwrap();
    }
    directory
}

impl Apart {
    pub(crate) fn start(directory: &Path) -> Self {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "ulimit -c 0; exec \"$0\" --exact apart::role_of_a_host --ignored --nocapture"])
            .arg(std::env::current_exe().unwrap())
            .current_dir(directory.join("cwd"))
            .env("XDG_RUNTIME_DIR", directory.join("run"))
            .env(FAILPOINTS, directory.join("failpoints"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, said) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let _the_test_is_over = sender.send(line.unwrap_or_default());
            }
        });
        let own = Process::look(child.id()).unwrap();
        let mut apart = Self {
            guard: own.clone(),
            keeper: own.clone(),
            own,
            child,
            said,
            heard: Vec::new(),
            directory: directory.to_owned(),
            start: Duration::ZERO,
        };
        apart.start = Duration::from_micros(apart.hear("up").parse().unwrap());
        apart.guard = apart.helper("procession-guard");
        apart.keeper = apart.helper("procession-keeper");
        apart
    }

    fn helper(&self, name: &str) -> Process {
        let mut found = None;
        until(name, || {
            let line = |p: &&Process| std::fs::read(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
            let all = Snapshot::take().unwrap();
            let below = all.descendants([self.own.pid]);
            found = below.into_iter().find(|p| line(p).starts_with(format!("{name}\0").as_bytes())).cloned();
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn ask(&mut self, command: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    /// What follows `word` in the first line that begins with it.
    pub(crate) fn hear(&mut self, word: &str) -> String {
        self.hear_one_of(&[word]).1
    }

    /// The first of these to be said, with what follows it.
    pub(crate) fn hear_one_of(&mut self, words: &[&str]) -> (String, String) {
        let start = Instant::now();
        let mut at = 0;
        loop {
            for line in &self.heard[at..] {
                // The test harness writes in front of the first one.
                for word in words {
                    if let Some((_, rest)) = line.split_once(&format!("{word} ")) {
                        return ((*word).to_owned(), rest.to_owned());
                    }
                }
            }
            at = self.heard.len();
            let left = DEADLINE.checked_sub(start.elapsed()).unwrap_or_default();
            let line = self.said.recv_timeout(left);
            self.heard.push(line.unwrap_or_else(|_| panic!("none of {words:?} after {:?}", self.heard)));
        }
    }

    /// How many exits it has told of by now.
    pub(crate) fn exits(&mut self) -> usize {
        self.heard.extend(self.said.try_iter());
        self.heard.iter().filter(|line| line.starts_with("exit ")).count()
    }

    pub(crate) fn arm(&self, name: &str) {
        std::fs::write(self.directory.join("failpoints").join(name), "").unwrap();
    }

    pub(crate) fn reached(&self, name: &str) {
        let hit = self.directory.join("failpoints").join(format!("{name}.hit"));
        until(name, || std::fs::read_to_string(&hit).is_ok_and(|text| text.ends_with('\n')));
    }

    /// Who waits at `name`.
    pub(crate) fn who_reached(&self, name: &str) -> Process {
        let hit = self.directory.join("failpoints").join(format!("{name}.hit"));
        let pids = std::fs::read_to_string(hit).unwrap();
        Process::look(pids.lines().next().unwrap().parse().unwrap()).unwrap()
    }

    pub(crate) fn disarm(&self, name: &str) {
        std::fs::remove_file(self.directory.join("failpoints").join(name)).unwrap();
    }

    /// Ends it in its own way; it has to say that it did.
    pub(crate) fn end(mut self) {
        drop(self.child.stdin.take());
        until("it ends", || self.child.try_wait().unwrap().is_some());
        self.heard.extend(self.said.iter());
        assert!(self.heard.iter().any(|line| line == "bye"), "{:?}", self.heard);
    }

    /// Takes its zombie away; it was killed.
    pub(crate) fn bury(mut self) {
        self.child.wait().unwrap();
    }
}

/// Asks until `condition` holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

pub(crate) fn lives(process: &Process) -> bool {
    Process::look(process.pid).is_ok_and(|now| now.started == process.started && now.is_alive())
}

/// What lives of a launch, wherever it went.
pub(crate) fn members(launch: &str) -> Vec<Process> {
    let all = Snapshot::take().unwrap();
    all.all().iter().filter(|p| p.is_alive() && p.belongs_to(launch)).cloned().collect()
}
