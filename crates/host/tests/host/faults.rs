//! Keeper, guard, host (which is in its client), leader and grandchild are killed, aborted or stopped for 3 s, in
//! every state of a launch in which there are such: it has one exit, of the right kind, and nothing stays.

use std::path::Path;
use std::time::Duration;

use procession_sys::Process;

use crate::apart::{Apart, directory, lives, members, until};

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGUSR1: i32 = 10;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

/// Ends with 7 when told so, whoever else asks; leaves a daemon.
const SCRIPT: &str = "script trap '' TERM; trap 'exit 7' USR1; setsid sh -c 'sleep 1000 &'; \
                      while :; do sleep 0.01; done";

/// The states of a launch, by what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    S0Requested,
    S1Sent,
    S2Forked,
    S3Executed,
    S4Proved,
    S4Handshaking,
    S5Ready,
    S6Stopping,
    S7Dead,
    S8Reaped,
    S8ReapedAndTold,
}

use State::*;

const STATES: [State; 11] = [
    S0Requested,
    S1Sent,
    S2Forked,
    S3Executed,
    S4Proved,
    S4Handshaking,
    S5Ready,
    S6Stopping,
    S7Dead,
    S8Reaped,
    S8ReapedAndTold,
];

impl State {
    /// Where somebody is stopped in this state.
    fn failpoint(self) -> Option<&'static str> {
        match self {
            S0Requested => Some("host-before-asking"),
            S1Sent => Some("keeper-before-launching"),
            S2Forked => Some("child-before-exec"),
            S4Proved => Some("host-before-accepting"),
            S4Handshaking => Some("host-before-welcome"),
            S7Dead => Some("keeper-before-telling"),
            S8Reaped => Some("keeper-after-reaping"),
            S8ReapedAndTold => Some("host-before-publishing"),
            S3Executed | S5Ready | S6Stopping => None,
        }
    }

    /// The proc calls back in it, or will.
    fn calls_back(self) -> bool {
        matches!(self, S3Executed | S4Proved | S4Handshaking)
    }
}

/// A launch that has come to a state and stays there.
struct Case {
    apart: Apart,
    /// Guard and keeper.
    helpers: [Process; 2],
    state: State,
    launch: String,
    pid: u32,
    hold: std::path::PathBuf,
}

impl Case {
    fn reach(state: State, directory: &Path) -> Self {
        let mut apart = Apart::start(directory);
        let helpers = [apart.guard.clone(), apart.keeper.clone()];
        let hold = directory.join("hold");
        let before_exec = state <= S2Forked;
        if let Some(name) =
            state.failpoint().filter(|_| before_exec || matches!(state, S4Proved | S4Handshaking))
        {
            apart.arm(name);
        }
        if state == S3Executed {
            std::fs::write(&hold, "").unwrap();
        }
        let program = format!("program {}", hold.display());
        apart.ask(if state.calls_back() { &program } else { SCRIPT });
        let launch = if state == S0Requested { String::new() } else { apart.hear("launch") };
        let mut pid = 0;
        match state {
            S0Requested | S1Sent | S2Forked | S4Proved | S4Handshaking => {}
            S3Executed => drop(until("it executes its program", || started_a_daemon(&launch))),
            _ => {
                pid = apart.hear("ready").parse().unwrap();
                until("its daemon is there", || members(&launch).iter().any(left_home));
            }
        }
        if state == S6Stopping {
            apart.ask("stop");
            apart.hear("stopping");
        }
        if state > S6Stopping {
            apart.arm(state.failpoint().unwrap());
            signal(pid, SIGUSR1);
        }
        if let Some(name) = state.failpoint() {
            apart.reached(name);
        }
        Self { apart, helpers, state, launch, pid, hold }
    }

    /// Its first process, which may be a zombie; none where there is none in this state.
    fn leader(&self) -> Option<Process> {
        match self.state {
            S0Requested | S1Sent | S8Reaped | S8ReapedAndTold => None,
            S2Forked => Some(self.apart.who_reached("child-before-exec")),
            S3Executed | S4Proved | S4Handshaking => members(&self.launch).into_iter().find(leads),
            S5Ready | S6Stopping | S7Dead => Process::look(self.pid).ok(),
        }
    }

    /// The daemon that its leader has made.
    fn grandchild(&self) -> Option<Process> {
        (self.state > S2Forked).then(|| members(&self.launch).into_iter().find(left_home)).flatten()
    }

    /// Lets go on whoever waits.
    fn let_go(&self) {
        self.state.failpoint().into_iter().for_each(|name| self.apart.disarm(name));
        let _is_held_in_one_state_only = std::fs::remove_file(&self.hold);
    }

    /// Brings the launch to its end, if it is not there yet; how it ended.
    fn finish(&mut self) -> String {
        if self.launch.is_empty() {
            self.launch = self.apart.hear("launch");
        }
        if self.state <= S4Handshaking {
            let (word, rest) = self.apart.hear_one_of(&["ready", "exit"]);
            if word == "exit" {
                return rest;
            }
            self.pid = rest.parse().unwrap();
        }
        if self.state.calls_back() {
            self.apart.ask("stop");
        } else if self.state <= S6Stopping {
            until("its trap is set", || catches(self.pid, SIGUSR1));
            signal(self.pid, SIGUSR1);
        }
        self.apart.hear("exit")
    }
}

fn signal(pid: u32, signal: i32) {
    Process::look(pid).unwrap().signal(signal);
}

/// Whether a process has a handler for this signal, as the kernel shows it.
fn catches(pid: u32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
    u64::from_str_radix(caught, 16).unwrap() >> (signal - 1) & 1 == 1
}

/// Leaders lead a session; their daemons are in one that nobody leads any more.
fn leads(process: &Process) -> bool {
    process.pid == process.session
}

fn left_home(process: &Process) -> bool {
    !leads(process) && Process::look(process.session).is_err()
}

fn started_a_daemon(launch: &str) -> bool {
    members(launch).iter().any(left_home)
}

fn nothing_stays(launch: &str, helpers: &[Process]) {
    until("nothing of it is left", || launch.is_empty() || members(launch).is_empty());
    until("no helper is left", || !helpers.iter().any(lives));
}

/// What a launch ends with that nothing happened to.
fn usual(state: State) -> &'static str {
    if state.calls_back() { "exit code 0" } else { "exit code 7" }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Keeper,
    Guard,
    Host,
}

/// The fault itself, which lets go on whoever waits: while the process is stopped, or once it is dead.
fn strike(case: &Case, hit: &Process, number: i32) {
    let ran = lives(hit);
    hit.signal(number);
    if number != SIGSTOP {
        until("it is dead", || !lives(hit));
        return case.let_go();
    }
    until("it is stopped", || !ran || Process::look(hit.pid).unwrap().state == 'T');
    case.let_go();
    // The fault itself, and no waiting for something.
    std::thread::sleep(Duration::from_secs(3));
    hit.signal(SIGCONT);
}

/// Everything has come to its end: one exit was told, and nothing stays.
fn is_over(mut case: Case, what: &str) {
    let gone = until("what it left is killed", || members(&case.launch).is_empty());
    assert!(gone < Duration::from_secs(10), "{what}: {gone:?}");
    assert_eq!(case.apart.exits(), 1, "{what}");
    // Whoever could still start it has ended when the host has.
    case.apart.end();
    nothing_stays(&case.launch, &case.helpers);
}

fn one(victim: Victim, number: i32, state: State) {
    let what = format!("{victim:?}, signal {number}, {state:?}");
    println!("{what}");
    let directory = directory();
    let mut case = Case::reach(state, directory.path());
    let hit = match victim {
        Victim::Keeper => &case.apart.keeper,
        Victim::Guard => &case.apart.guard,
        Victim::Host => &case.apart.own,
    }
    .clone();
    if victim == Victim::Host && number != SIGSTOP {
        hit.signal(number);
        // Who waits at a failpoint is left there: its end must not depend on it.
        until("it is dead", || !lives(&hit));
        nothing_stays(&case.launch, &case.helpers);
        case.apart.bury();
        return;
    }
    strike(&case, &hit, number);
    let exit = case.finish();
    let may_be_refused = victim == Victim::Keeper && number != SIGSTOP && state <= S2Forked;
    if exit != usual(state) {
        assert!(may_be_refused && exit.contains("launch again"), "{what}: {exit}");
    } else {
        assert!(!may_be_refused || state == S0Requested, "{what}: {exit}");
    }
    is_over(case, &what);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Leader,
    Grandchild,
}

/// A process of the launch itself is hit, in a state in which there is one.
fn member(member: Member, number: i32, state: State) {
    let what = format!("{member:?}, signal {number}, {state:?}");
    println!("{what}");
    let directory = directory();
    let mut case = Case::reach(state, directory.path());
    let hit = match member {
        Member::Leader => case.leader(),
        Member::Grandchild => case.grandchild(),
    }
    .expect("in this state there is one");
    assert!(lives(&hit) || state == S7Dead, "it runs");
    strike(&case, &hit, number);
    if number == SIGSTOP || member == Member::Grandchild || state == S7Dead {
        assert_eq!(case.finish(), usual(state), "{what}");
    } else {
        let exit = case.apart.hear("exit");
        assert!(exit.starts_with(&format!("signal {number} ")), "{what}: {exit}");
    }
    is_over(case, &what);
}

/// All of them at once: each has a host of its own.
fn in_all_of(states: impl IntoIterator<Item = State>, one: impl Fn(State) + Clone + Send + 'static) {
    let cases: Vec<_> = states
        .into_iter()
        .map(|state| {
            let one = one.clone();
            (state, std::thread::spawn(move || one(state)))
        })
        .collect();
    let failed: Vec<_> =
        cases.into_iter().filter_map(|(state, case)| case.join().is_err().then_some(state)).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

fn in_every_state(victim: Victim, number: i32) {
    if number != SIGSTOP {
        STATES.into_iter().for_each(|state| one(victim, number, state));
        return;
    }
    in_all_of(STATES, move |state| one(victim, number, state));
}

mod f1 {
    use super::*;

    #[test]
    fn a_killed_keeper_costs_at_most_a_launch_that_is_being_started() {
        in_every_state(Victim::Keeper, SIGKILL);
    }

    #[test]
    fn an_aborted_keeper_costs_at_most_a_launch_that_is_being_started() {
        in_every_state(Victim::Keeper, SIGABRT);
    }

    #[test]
    fn a_keeper_that_is_stopped_for_a_while_costs_nothing() {
        in_every_state(Victim::Keeper, SIGSTOP);
    }

    #[test]
    fn a_killed_guard_costs_nothing() {
        in_every_state(Victim::Guard, SIGKILL);
    }

    #[test]
    fn an_aborted_guard_costs_nothing() {
        in_every_state(Victim::Guard, SIGABRT);
    }

    #[test]
    fn a_guard_that_is_stopped_for_a_while_costs_nothing() {
        in_every_state(Victim::Guard, SIGSTOP);
    }

    #[test]
    fn a_killed_host_leaves_nothing() {
        in_every_state(Victim::Host, SIGKILL);
    }

    #[test]
    fn an_aborted_host_leaves_nothing() {
        in_every_state(Victim::Host, SIGABRT);
    }

    #[test]
    fn a_host_that_is_stopped_for_a_while_loses_and_invents_nothing() {
        in_every_state(Victim::Host, SIGSTOP);
    }

    const WITH_A_LEADER: [State; 7] =
        [S2Forked, S3Executed, S4Proved, S4Handshaking, S5Ready, S6Stopping, S7Dead];
    const WITH_A_GRANDCHILD: [State; 6] = [S3Executed, S4Proved, S4Handshaking, S5Ready, S6Stopping, S7Dead];

    #[test]
    fn a_killed_leader_is_told_as_what_it_is_and_takes_its_tree_along() {
        in_all_of(WITH_A_LEADER, |state| member(Member::Leader, SIGKILL, state));
    }

    #[test]
    fn an_aborted_leader_is_told_as_what_it_is_and_takes_its_tree_along() {
        in_all_of(WITH_A_LEADER, |state| member(Member::Leader, SIGABRT, state));
    }

    #[test]
    fn a_leader_that_is_stopped_for_a_while_is_not_taken_for_dead() {
        in_all_of(WITH_A_LEADER, |state| member(Member::Leader, SIGSTOP, state));
    }

    #[test]
    fn a_killed_grandchild_is_not_taken_for_the_proc() {
        in_all_of(WITH_A_GRANDCHILD, |state| member(Member::Grandchild, SIGKILL, state));
    }

    #[test]
    fn an_aborted_grandchild_is_not_taken_for_the_proc() {
        in_all_of(WITH_A_GRANDCHILD, |state| member(Member::Grandchild, SIGABRT, state));
    }

    #[test]
    fn a_grandchild_that_is_stopped_for_a_while_holds_up_nothing() {
        in_all_of(WITH_A_GRANDCHILD, |state| member(Member::Grandchild, SIGSTOP, state));
    }
}

mod f32 {
    use super::*;

    /// Asks for the end of a launch that has not come further than this.
    fn early(how: &str, state: State) {
        let what = format!("{how} in {state:?}");
        println!("{what}");
        let directory = directory();
        let mut case = Case::reach(state, directory.path());
        case.apart.ask(how);
        case.let_go();
        let exit = case.apart.hear("exit");
        let cancelled = exit.starts_with("failed: cancelled before start");
        // One that is let go of, and is not expected any more, may end by itself before the signal is there.
        let refused = state >= S3Executed && exit.starts_with("exit code 101");
        let ended = exit.starts_with("signal 9") || exit.starts_with("signal 15") || refused;
        assert!(cancelled && state < S3Executed || ended, "{what}: {exit}");
        if case.launch.is_empty() {
            case.launch = case.apart.hear("launch");
        }
        is_over(case, &what);
    }

    const EARLY: [State; 6] = [S0Requested, S1Sent, S2Forked, S3Executed, S4Proved, S4Handshaking];

    #[test]
    fn a_kill_before_the_launch_is_through_gives_one_exit_and_no_late_start() {
        in_all_of(EARLY, |state| early("kill", state));
    }

    #[test]
    fn a_terminate_before_the_launch_is_through_gives_one_exit_and_no_late_start() {
        in_all_of(EARLY, |state| early("terminate", state));
    }
}
