//! Records of ended procs, for whoever asks later why one ended.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use procession_model::{ExitClass, ProcExit, ProcExitKind};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;

/// Where records are kept; empty keeps none.
const STATE_DIR_ENV: &str = "PROCESSION_STATE_DIR";
const FOLDER: &str = "exits";
/// How many are kept of ends that something went wrong with, and as many of the others.
const KEEP: usize = 500;
/// How many more there may be before the oldest are taken away.
const SLACK: usize = 50;
/// How many may wait to be written; beyond the first, ends that nothing went wrong with are not recorded.
const WAITING_CLEAN: usize = 64;
const WAITING: usize = 1000;
/// How long the end of a host waits for what is still to be written.
const FLUSH: Duration = Duration::from_secs(1);

/// What is kept of one ended proc.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The version of the runtime that wrote it.
    pub version: String,
    /// How it ended.
    pub exit: ProcExit,
    /// The machine of its host.
    pub machine: String,
    /// The process of its host.
    pub host_pid: u32,
    /// What it ran.
    pub program: PathBuf,
    /// Where it ran, as far as was asked for.
    pub cwd: Option<PathBuf>,
    /// What was added to its environment: the names, each with a mark by which procs of one host can be
    /// compared and nothing else can be told. Never the values.
    pub env: BTreeMap<String, u64>,
    /// What was taken out of its environment.
    pub env_removed: Vec<String>,
    /// What its launcher called it.
    pub handle: Option<String>,
    /// The core file, or where to look for it.
    pub core: Option<String>,
    /// The run directory of its host.
    pub run_dir: PathBuf,
}

/// The directory that records of ended procs are kept in; none where that was turned off, or where the
/// environment names none.
pub fn records_dir() -> Option<PathBuf> {
    state_dir().map(|dir| dir.join(FOLDER))
}

fn state_dir() -> Option<PathBuf> {
    let given = |name| std::env::var_os(name).map(PathBuf::from);
    match given(STATE_DIR_ENV) {
        Some(dir) => dir.is_absolute().then_some(dir),
        None => given("XDG_STATE_HOME")
            .filter(|dir| dir.is_absolute())
            .or_else(|| given("HOME").filter(|dir| dir.is_absolute()).map(|home| home.join(".local/state")))
            .map(|dir| dir.join("procession")),
    }
}

/// What the bytes of a record's file say.
///
/// # Errors
/// They are no record that this version can read.
pub fn read_record(bytes: &[u8]) -> Result<Record, String> {
    rmp_serde::from_slice(bytes).map_err(|error| format!("not a record of this version: {error}"))
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Record>,
    /// How many more will come.
    promised: usize,
    writing: bool,
    /// How many files there are of each kind, once somebody has looked.
    files: Option<[usize; 2]>,
}

struct Inner {
    folder: Option<PathBuf>,
    queue: Mutex<Queue>,
    idle: watch::Sender<bool>,
    lost: AtomicU64,
}

/// Writes records, beside supervision and never in its way.
pub(crate) struct Records(Arc<Inner>);

impl Records {
    pub(crate) fn in_state_dir() -> Self {
        Self::new(records_dir())
    }

    fn new(folder: Option<PathBuf>) -> Self {
        let queue = Mutex::default();
        Self(Arc::new(Inner { folder, queue, idle: watch::channel(true).0, lost: AtomicU64::new(0) }))
    }

    /// A record that will come: what is told of an end does not wait for it, and [`Self::flush`] does.
    pub(crate) fn promise(&self) -> Promised {
        let inner = self.0.folder.is_some().then(|| Arc::clone(&self.0));
        if let Some(inner) = &inner {
            inner.queue().promised += 1;
            inner.idle.send_replace(false);
        }
        Promised(inner)
    }

    /// Waits until all are written, for a second at most.
    pub(crate) async fn flush(&self) {
        let mut idle = self.0.idle.subscribe();
        if timeout(FLUSH, idle.wait_for(|idle| *idle)).await.is_err() {
            tracing::warn!("records of ended procs are still being written; the host ends without them");
        }
    }
}

/// One record that is promised; dropped without one there is none. None where records are not kept.
pub(crate) struct Promised(Option<Arc<Inner>>);

impl Promised {
    /// Has what `make` gives written soon. Never blocks on a file.
    pub(crate) fn keep(self, make: impl FnOnce() -> Record) {
        let Some(inner) = &self.0 else { return };
        let record = make();
        let mut queue = inner.queue();
        let most = if is_abnormal(&record.exit) { WAITING } else { WAITING_CLEAN };
        if queue.waiting.len() >= most {
            drop(queue);
            return inner.lose("too many ends came at once");
        }
        queue.waiting.push_back(record);
        if !std::mem::replace(&mut queue.writing, true) {
            let writing = Arc::clone(inner);
            // Not of the runtime's pool: the end of the runtime is the end of procs too, and that is recorded.
            let writer = thread::Builder::new().name("procession-records".to_owned());
            if let Err(error) = writer.spawn(move || writing.write_all()) {
                queue.waiting.clear();
                queue.writing = false;
                drop(queue);
                inner.lose(&error.to_string());
            }
        }
    }
}

impl Drop for Promised {
    fn drop(&mut self) {
        if let Some(inner) = &self.0 {
            let mut queue = inner.queue();
            queue.promised -= 1;
            inner.tell_if_idle(&queue);
        }
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_if_idle(&self, queue: &Queue) {
        if queue.promised == 0 && !queue.writing {
            self.idle.send_replace(true);
        }
    }

    fn lose(&self, why: &str) {
        if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::info!(why, "the record of an ended proc was not kept; further ones are counted only");
        }
    }

    fn write_all(&self) {
        loop {
            let (record, files) = {
                let mut queue = self.queue();
                let Some(record) = queue.waiting.pop_front() else {
                    queue.writing = false;
                    return self.tell_if_idle(&queue);
                };
                (record, queue.files)
            };
            let Some(folder) = &self.folder else { continue };
            match write(folder, record, files) {
                Ok(files) => self.queue().files = Some(files),
                Err(error) => self.lose(&error.to_string()),
            }
        }
    }
}

/// Ends that somebody will ask about.
fn is_abnormal(exit: &ProcExit) -> bool {
    !matches!(exit.certificate.verdict.class(), ExitClass::Clean | ExitClass::Stopped)
}

/// Writes one, and takes away the oldest of its kind when there are too many.
fn write(folder: &Path, mut record: Record, files: Option<[usize; 2]>) -> io::Result<[usize; 2]> {
    let mut files = match files {
        Some(files) => files,
        None => {
            open(folder)?;
            ['c', 'f'].map(|kind| all(folder, kind).len())
        }
    };
    record.core = core_of(&record);
    let abnormal = is_abnormal(&record.exit);
    let kind = if abnormal { 'f' } else { 'c' };
    let ended = record.exit.ended_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let id = &record.exit.proc_id;
    let name = format!("{kind}-{ended:015}-{}-{}", id.launch_id(), id.name());
    let unfinished = folder.join(format!(".{}", id.launch_id()));
    let bytes = rmp_serde::to_vec_named(&record).map_err(io::Error::other)?;
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).and_then(|mut file| {
            file.write_all(&bytes)?;
            fs::rename(&unfinished, folder.join(name))
        });
    if let Err(error) = written {
        let _never_made = fs::remove_file(&unfinished);
        return Err(error);
    }
    let count = &mut files[usize::from(abnormal)];
    *count += 1;
    if *count > KEEP + SLACK {
        let found = all(folder, kind);
        for old in &found[..found.len().saturating_sub(KEEP)] {
            let _another_host_was_first = fs::remove_file(folder.join(old));
        }
        *count = found.len().min(KEEP);
    }
    Ok(files)
}

/// Makes sure that it is a directory of this user's, for nobody else.
fn open(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
    let meta = fs::symlink_metadata(folder)?;
    let own = fs::metadata("/proc/self")?.uid();
    if !meta.is_dir() || meta.uid() != own || meta.mode() & 0o077 != 0 {
        let what = format!("{} is not a directory of this user's with mode 0700", folder.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    Ok(())
}

/// The names of one kind, the oldest first.
fn all(folder: &Path, kind: char) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(kind)).collect();
    names.sort_unstable();
    names
}

/// Where the kernel has put the core, as far as its pattern can be read from here.
fn core_of(record: &Record) -> Option<String> {
    if !matches!(record.exit.kind, ProcExitKind::Signaled { core_dumped: true, .. }) {
        return None;
    }
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    let pattern = read("core_pattern").trim_end().to_owned();
    if let Some(command) = pattern.strip_prefix('|') {
        let program = command.split(' ').next().unwrap_or_default();
        return Some(format!("the kernel gave it to {program}; look there"));
    }
    let pid = record.exit.pid?.to_string();
    let mut name = pattern.replace("%p", &pid).replace("%P", &pid);
    if read("core_uses_pid").trim() == "1" && name == pattern {
        name = format!("{name}.{pid}");
    }
    let path = record.cwd.clone().unwrap_or_default().join(&name);
    let found = if name.contains('%') {
        "by this pattern"
    } else if path.exists() {
        "there"
    } else {
        "not there"
    };
    Some(format!("{} ({found})", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use procession_model::{BootstrapCommand, Certificate, HostId, ProcId, Verdict};

    use super::*;
    use crate::recording::{Recording, TAIL_BYTES};
    use crate::spec::SpawnSpec;

    fn record(name: &str, verdict: Verdict, ended: u64) -> Record {
        let mut command = BootstrapCommand::new("/bin/true");
        command.env.insert("TOKEN".to_owned(), "canary".to_owned());
        let spec = SpawnSpec::new(name, command);
        let exit = ProcExit {
            proc_id: ProcId::fresh(name, &HostId::fresh("m")).unwrap(),
            rank: 0,
            incarnation: 1,
            launcher: "native".to_owned(),
            kind: ProcExitKind::Exited { code: 0 },
            reported: None,
            stderr_tail: vec!["x".repeat(1000); 200],
            stdout_tail: Vec::new(),
            stdout_path: None,
            stderr_path: None,
            log_dropped_bytes: 0,
            oom: None,
            pid: Some(1),
            requested: None,
            started_at: UNIX_EPOCH,
            ready_at: None,
            ended_at: UNIX_EPOCH + Duration::from_millis(ended),
            verdict: verdict.to_string(),
            certificate: Certificate::bare(verdict),
        };
        Recording::of(&spec).record(&exit, "m", Path::new("/run"), None)
    }

    #[tokio::test]
    async fn records_are_for_their_user_alone_and_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let records = Records::new(Some(folder.clone()));
        records.promise().keep(|| record("w-0", Verdict::AppError { code: 3 }, 5));
        records.flush().await;
        let names = all(&folder, 'f');
        assert!(names[0].starts_with("f-000000000000005-") && names[0].ends_with("-w-0"), "{names:?}");
        let path = folder.join(&names[0]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(6).any(|part| part == b"canary"), "no value of a variable is kept");
        let read = read_record(&bytes).unwrap();
        assert_eq!(read.exit.certificate.verdict, Verdict::AppError { code: 3 });
        assert_eq!(read.env.keys().collect::<Vec<_>>(), ["TOKEN"]);
        assert_eq!(read.exit.stderr_tail.len(), TAIL_BYTES / 1000, "a long tail is shortened");
        assert!(read_record(&bytes[..20]).is_err() && read_record(b"").is_err());
    }

    #[test]
    fn only_the_newest_are_kept_and_clean_ends_do_not_push_out_failures() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("exits");
        let mut files = None;
        let put =
            |record, files: &mut Option<[usize; 2]>| *files = Some(write(&folder, record, *files).unwrap());
        put(record("first", Verdict::Killed { signal: 9 }, 1), &mut files);
        for number in 0..=(KEEP + SLACK) as u64 {
            put(record("clean", Verdict::Clean, 100 + number), &mut files);
        }
        let clean = all(&folder, 'c');
        assert_eq!((clean.len(), all(&folder, 'f').len()), (KEEP, 1));
        assert!(clean[0].starts_with(&format!("c-{:015}-", 100 + SLACK + 1)), "{}", clean[0]);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_counted_and_costs_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a file");
        fs::write(&file, "").unwrap();
        let open_to_all = dir.path().join("open");
        fs::create_dir(&open_to_all).unwrap();
        fs::set_permissions(&open_to_all, PermissionsExt::from_mode(0o777)).unwrap();
        for folder in [file, open_to_all] {
            let records = Records::new(Some(folder));
            for _ in 0..3 {
                records.promise().keep(|| record("w-0", Verdict::Unknown, 1));
            }
            records.flush().await;
            assert_eq!(records.0.lost.load(Ordering::Relaxed), 3);
        }
        let off = Records::new(None);
        off.promise().keep(|| unreachable!("it is not made either"));
        off.flush().await;
    }

    #[test]
    fn a_bounded_number_waits_and_clean_ends_leave_room_for_failures() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(Some(dir.path().to_owned()));
        // As if the one that is being written took for ever.
        records.0.queue().writing = true;
        let put = |verdict, count| {
            (0..count).for_each(|_| records.promise().keep(|| record("w-0", verdict, 1)));
            (records.0.queue().waiting.len(), records.0.lost.load(Ordering::Relaxed))
        };
        assert_eq!(put(Verdict::Clean, WAITING_CLEAN + 2), (WAITING_CLEAN, 2));
        assert_eq!(put(Verdict::Unknown, WAITING), (WAITING, 2 + WAITING_CLEAN as u64));
    }

    #[tokio::test]
    async fn a_flush_waits_for_what_is_promised_until_it_is_written_or_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(Some(dir.path().join("exits")));
        let (kept, taken_back) = (records.promise(), records.promise());
        let mut flush = std::pin::pin!(records.flush());
        let mut is_done = async || timeout(Duration::ZERO, &mut flush).await.is_ok();
        assert!(!is_done().await);
        drop(taken_back);
        assert!(!is_done().await);
        kept.keep(|| record("w-0", Verdict::Unknown, 1));
        records.flush().await;
        assert_eq!(all(&dir.path().join("exits"), 'f').len(), 1);
    }
}
