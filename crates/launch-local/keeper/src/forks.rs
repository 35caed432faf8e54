//! Launches that are forked instead of executed. None may fail for that: what cannot be forked, or is not in
//! time, is executed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use procession_sys::{self as sys, OpenFiles};

use crate::asked::Asked;
use crate::fork_server::{Kind, Server, Word};
use crate::groups::{Groups, ProcGroup};

/// How long a launch waits for a server that still imports.
const WARM_UP: Duration = Duration::from_secs(10);
/// How long a fork may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(5);
/// How many forks are on their way at one moment.
const AT_ONCE: usize = 8;
/// How many servers there are at one moment; the one that was used last stays longest.
const MOST: usize = 4;
/// How often a server of one kind may be lost, with no fork in between, before that kind is executed for good.
const LOSSES: u32 = 3;

/// A launch that waits for its fork.
struct Waiting {
    asked: Asked,
    kind: Kind,
    since: Instant,
    fork: Option<Fork>,
}

/// One that is on its way, or there.
pub(crate) struct Fork {
    /// Until it reads a word here it does nothing; when this closes it ends.
    gate: OwnedFd,
    pub(crate) group: ProcGroup,
    pub(crate) pipes: Option<[OwnedFd; 2]>,
    since: Instant,
}

impl Fork {
    /// Lets it go on.
    pub(crate) fn go(&self) -> io::Result<()> {
        sys::send(self.gate.as_fd(), b"G", &[])
    }
}

/// What has become of a launch, or of a server.
pub(crate) enum News {
    /// The process waits for [`Fork::go`].
    Forked { id: u64, pid: u32, asked: Asked, fork: Fork },
    /// It is to be executed, in that group if it has one.
    Execute { id: u64, asked: Asked, group: Option<ProcGroup> },
    /// For people: why procs are executed from here on.
    Warning(String),
}

#[derive(Default)]
pub(crate) struct Forks {
    /// The one that was used last at the end.
    servers: Vec<Server>,
    waiting: BTreeMap<u64, Waiting>,
    lost: Vec<(Kind, u32)>,
    news: Vec<News>,
}

impl Forks {
    /// Takes a launch over; gives it back when it is to be executed.
    pub(crate) fn take(
        &mut self,
        id: u64,
        asked: Asked,
        open_files: OpenFiles,
        oom_score_adj: Option<i32>,
    ) -> Result<(), Asked> {
        let Some(kind) = Kind::of(&asked) else { return Err(asked) };
        // One that has ended is known to have by now.
        self.hear_servers();
        if self.lost.iter().any(|(lost, times)| *lost == kind && *times >= LOSSES) {
            return Err(asked);
        }
        match self.servers.iter().position(|server| server.kind == kind) {
            Some(at) => {
                let server = self.servers.remove(at);
                self.servers.push(server);
            }
            None => {
                if self.servers.len() >= MOST && !self.end_an_idle_one() {
                    return Err(asked);
                }
                match Server::start(kind.clone(), &asked, open_files, oom_score_adj) {
                    Ok(server) => self.servers.push(server),
                    Err(_) => return Err(asked),
                }
            }
        }
        self.waiting.insert(id, Waiting { asked, kind, since: Instant::now(), fork: None });
        Ok(())
    }

    fn end_an_idle_one(&mut self) -> bool {
        let waits = |server: &Server| self.waiting.values().any(|waiting| waiting.kind == server.kind);
        let Some(at) = self.servers.iter().position(|server| !waits(server)) else { return false };
        self.servers.remove(at).end();
        true
    }

    /// Takes a launch out that is to be dealt with at once.
    pub(crate) fn withdraw(&mut self, id: u64) -> Option<News> {
        let Waiting { asked, fork, .. } = self.waiting.remove(&id)?;
        Some(execute(id, asked, fork))
    }

    fn give_back(&mut self, id: u64) {
        let news = self.withdraw(id);
        self.news.extend(news);
    }

    /// All of them, when nothing is launched any more, with the launch that each is marked with and its group.
    pub(crate) fn withdraw_all(&mut self) -> Vec<(u64, String, Option<ProcGroup>)> {
        let all = std::mem::take(&mut self.waiting).into_iter();
        all.map(|(id, it)| (id, it.asked.marker(), it.fork.map(|fork| fork.group))).collect()
    }

    /// The servers, which belong to no proc; none are known of what is on its way, as [`Self::is_busy`] says.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.servers.iter().map(|server| server.child.pid)
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn watches(&self) -> impl Iterator<Item = sys::Watch<'_>> {
        let gates = self.waiting.values().filter_map(|waiting| waiting.fork.as_ref());
        let gates = gates.map(|fork| sys::Watch::readable(fork.gate.as_fd()));
        self.servers.iter().map(Server::watch).chain(gates)
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.values().map(Waiting::due).min()
    }

    /// One turn: hears what there is to hear, and asks for what can be forked now.
    pub(crate) fn turn(&mut self, groups: &mut Groups) -> Vec<News> {
        self.hear_servers();
        self.hear_forks();
        self.give_up_late_ones();
        self.ask(groups);
        std::mem::take(&mut self.news)
    }

    fn hear_servers(&mut self) {
        for mut server in std::mem::take(&mut self.servers) {
            let mut stays = true;
            while stays && let Some(word) = server.hear() {
                match word {
                    Word::Ready => server.is_ready = true,
                    Word::Refuses(why) => {
                        self.lose(&server, LOSSES, format!("procs are executed and not forked: {why}"));
                        stays = false;
                    }
                    Word::Gone => {
                        // One that never got ready would not the next time.
                        let times = if server.is_ready { 1 } else { LOSSES };
                        let pid = server.child.pid;
                        self.lose(&server, times, format!("the fork server (pid {pid}) has ended"));
                        stays = false;
                    }
                }
            }
            if stays {
                self.servers.push(server);
            }
        }
    }

    /// Ends a server, and notes that as so many losses.
    fn lose(&mut self, server: &Server, times: u32, warning: String) {
        server.end();
        match self.lost.iter_mut().find(|(kind, _)| *kind == server.kind) {
            Some((_, lost)) => *lost += times,
            None => self.lost.push((server.kind.clone(), times)),
        }
        self.news.push(News::Warning(warning));
    }

    fn hear_forks(&mut self) {
        let heard = |waiting: &Waiting| waiting.fork.as_ref().and_then(|fork| hear(&fork.gate));
        let heard: Vec<_> = self.waiting.iter().filter_map(|(&id, it)| Some((id, heard(it)?))).collect();
        for (id, pid) in heard {
            let Some(Waiting { asked, kind, fork, .. }) = self.waiting.remove(&id) else { continue };
            self.news.push(match (pid, fork) {
                (Some(pid), Some(fork)) => {
                    self.lost.retain(|(lost, _)| *lost != kind);
                    News::Forked { id, pid, asked, fork }
                }
                (_, fork) => execute(id, asked, fork),
            });
        }
    }

    fn give_up_late_ones(&mut self) {
        let now = Instant::now();
        let mut mute = Vec::new();
        let late: Vec<u64> =
            self.waiting.iter().filter(|(_, it)| it.due() <= now).map(|(&id, _)| id).collect();
        for id in late {
            let Some(Waiting { asked, kind, fork, .. }) = self.waiting.remove(&id) else { continue };
            if fork.is_some() {
                mute.push(kind);
            }
            self.news.push(execute(id, asked, fork));
        }
        for kind in mute {
            if let Some(at) = self.servers.iter().position(|server| server.kind == kind) {
                let server = self.servers.remove(at);
                let pid = server.child.pid;
                self.lose(&server, 1, format!("the fork server (pid {pid}) has not answered for {ANSWER:?}"));
            }
        }
    }

    fn ask(&mut self, groups: &mut Groups) {
        let mut under_way = self.waiting.values().filter(|waiting| waiting.fork.is_some()).count();
        let ids: Vec<u64> = self.waiting.keys().copied().collect();
        for id in ids {
            let Some(waiting) = self.waiting.get_mut(&id).filter(|waiting| waiting.fork.is_none()) else {
                continue;
            };
            let server = self.servers.iter().find(|server| server.kind == waiting.kind);
            match server {
                Some(server) if !server.is_ready || under_way >= AT_ONCE => {}
                Some(server) => match start(server, &waiting.asked, groups) {
                    Ok(fork) => {
                        waiting.fork = Some(fork);
                        under_way += 1;
                    }
                    // Too much is on its way already; what comes back asks again.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && under_way > 0 => return,
                    Err(_) => self.give_back(id),
                },
                None => self.give_back(id),
            }
        }
    }
}

impl Waiting {
    fn due(&self) -> Instant {
        self.fork.as_ref().map_or(self.since + WARM_UP, |fork| fork.since + ANSWER)
    }
}

/// What has been forked already ends when its gate closes. The group is not killed for that: Linux 6.18 kills what is
/// made in a group that was killed before.
fn execute(id: u64, asked: Asked, fork: Option<Fork>) -> News {
    News::Execute { id, asked, group: fork.map(|fork| fork.group) }
}

/// None: it has said nothing. Some(None): it is gone.
fn hear(gate: &OwnedFd) -> Option<Option<u32>> {
    let mut bytes = [0; 8];
    match sys::receive(gate.as_fd(), &mut bytes) {
        Ok(received) => {
            let [kind, pid @ ..] = &bytes[..received.length] else { return Some(None) };
            let pid = <[u8; 4]>::try_from(pid).ok().map(u32::from_ne_bytes);
            Some(pid.filter(|_| *kind == b'H'))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => Some(None),
    }
}

fn start(server: &Server, asked: &Asked, groups: &mut Groups) -> io::Result<Fork> {
    let (gate, theirs) = sys::seqpacket_pair()?;
    let mut ends = Vec::new();
    let pipes = match &asked.shared {
        Some(_) => None,
        None => {
            let ((out, out_end), (err, err_end)) = (sys::pipe()?, sys::pipe()?);
            ends.extend([out_end, err_end]);
            Some([out, err])
        }
    };
    let outputs = match (&asked.shared, ends.as_slice()) {
        (Some([out, err]), _) | (None, [out, err]) => [out.as_fd(), err.as_fd()],
        _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
    };
    let group = groups.make(&asked.strings.order).map_err(|error| error.source)?;
    let place = group.inner().map(sys::Group::place).transpose();
    let asked = place.and_then(|place| {
        let place = place.flatten();
        server.ask(asked, &theirs, outputs, place.as_ref().map(AsFd::as_fd))
    });
    if let Err(error) = asked {
        group.remove();
        return Err(error);
    }
    Ok(Fork { gate, group, pipes, since: Instant::now() })
}
