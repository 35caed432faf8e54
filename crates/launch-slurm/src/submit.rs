use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use procession_launch::{Labels, ProcLauncherError};
use procession_model::{LaunchOptions, ProcId};

use crate::SlurmConfig;
use crate::cluster::Cluster;
use crate::files::{Files, make_directory, write};
use crate::row::rows;
use crate::script::{batch, commands, shown};
use crate::tools::Tools;

/// The label with the directory of a job's files. It is the last, and may have blanks in it.
const DIR: &str = "procession.dir";
/// Slurm's unit for memory.
const MIB: u64 = 1 << 20;

/// One proc that is to become a job.
#[derive(Clone)]
pub(crate) struct Launch {
    pub(crate) proc_id: ProcId,
    pub(crate) options: LaunchOptions,
}

impl Launch {
    fn labels(&self) -> Labels {
        Labels::of(&self.proc_id, &self.options)
    }

    /// What only launches have in common that can be elements of one array.
    fn kind(&self) -> (Option<u64>, String, String) {
        let labels = self.labels();
        (self.options.command.confinement.resources.memory, labels.session, labels.lease)
    }
}

/// Submits launches, as few arrays as they fit in: the handle and the files of each, or why there are none.
pub(crate) async fn submit(
    config: &SlurmConfig,
    cluster: &Cluster,
    tools: &Tools,
    base: &Path,
    launches: Vec<Launch>,
) -> Vec<Result<(String, Files), String>> {
    let mut kinds: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, launch) in launches.iter().enumerate() {
        kinds.entry(launch.kind()).or_default().push(at);
    }
    let mut answers: Vec<_> = launches.iter().map(|_| Err("it was not submitted".to_owned())).collect();
    for places in kinds.into_values() {
        for places in places.chunks(cluster.most_in_an_array.max(1)) {
            let together: Vec<Launch> = places.iter().map(|&at| launches[at].clone()).collect();
            let done = together_submitted(config, tools, base, together).await;
            for (index, &at) in places.iter().enumerate() {
                answers[at] = done
                    .as_ref()
                    .map(|(job, dir)| job_of(job, dir, index, places.len()))
                    .map_err(Clone::clone);
            }
        }
    }
    answers
}

fn job_of(job: &str, dir: &Path, index: usize, of: usize) -> (String, Files) {
    let handle = if of == 1 { job.to_owned() } else { format!("{job}_{index}") };
    (handle, Files { dir: dir.to_owned(), index })
}

async fn together_submitted(
    config: &SlurmConfig,
    tools: &Tools,
    base: &Path,
    launches: Vec<Launch>,
) -> Result<(String, PathBuf), String> {
    let dir = directory(base, &launches[0]);
    let arguments = arguments(config, &launches, &dir);
    let input = String::from_utf8(batch(&dir))
        .map_err(|_| format!("output_dir = {}: has to be valid UTF-8", dir.display()))?;
    let (own, at) = (config.clone(), dir.clone());
    let written = tokio::task::spawn_blocking(move || {
        let done = put(&own, &launches, &at);
        if done.is_err() {
            let _what_was_written = std::fs::remove_dir_all(&at);
        }
        done
    });
    written.await.map_err(|error| error.to_string())??;
    match tools.run("sbatch", &arguments, Some(&input)).await {
        Ok(said) => {
            // `JOB`, or `JOB;CLUSTER`; what a site has its users told stands before it.
            let last = said.lines().last().unwrap_or_default();
            Ok((last.split(';').next().unwrap_or_default().trim().to_owned(), dir))
        }
        Err(why) => {
            // An answer that did not come says nothing of whether it was done.
            if let Ok(found) = rows(tools, true).await
                && let Some(handle) = found.iter().find_map(|(handle, row)| {
                    (read(&row.comment).is_some_and(|(_, at)| at == dir)).then_some(handle)
                })
            {
                return Ok((handle.split('_').next().unwrap_or_default().to_owned(), dir));
            }
            // Without its files no job of it would run anything.
            let _nothing_to_take_away = std::fs::remove_dir_all(&dir);
            Err(format!("the job could not be submitted: {why}"))
        }
    }
}

fn directory(base: &Path, first: &Launch) -> PathBuf {
    base.join(first.proc_id.launch_id().to_string())
}

fn put(config: &SlurmConfig, launches: &[Launch], dir: &Path) -> Result<(), String> {
    let failed =
        |error: std::io::Error| format!("{}: {error}; output_dir has to be a place for files", dir.display());
    make_directory(dir).map_err(failed)?;
    for (index, launch) in launches.iter().enumerate() {
        let files = Files { dir: dir.to_owned(), index };
        let made = commands(config, &launch.options, &files).map_err(|error| error.to_string())?;
        write(&files.commands(), &made.commands).map_err(failed)?;
        if let Some(emptied) = made.emptied {
            write(&files.emptied(), &emptied).map_err(failed)?;
        }
        if launches.len() > 1 {
            let own = launch.labels();
            let pairs = own.pairs();
            let each = pairs.iter().filter(|(name, _)| is_of_one(name));
            write(&files.labels(), pairs_shown(each).as_bytes()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Whether a label is another for each element of an array.
fn is_of_one(name: &str) -> bool {
    [Labels::PROC, Labels::INCARNATION].contains(&name)
}

fn pairs_shown<'a>(pairs: impl Iterator<Item = &'a (&'static str, &'a str)>) -> String {
    pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn arguments(config: &SlurmConfig, launches: &[Launch], dir: &Path) -> Vec<String> {
    let first = &launches[0];
    let labels = first.labels();
    let pairs = labels.pairs();
    let common = pairs_shown(pairs.iter().filter(|(name, _)| launches.len() == 1 || !is_of_one(name)));
    let own = config.comment.as_ref().map(|text| format!("{text} ")).unwrap_or_default();
    let mut arguments = vec![
        "--parsable".to_owned(),
        format!("--job-name={}", first.proc_id.name()),
        format!("--comment={own}{common} {DIR}={}", dir.display()),
        // What the program writes goes to files of its own.
        "--output=/dev/null".to_owned(),
        "--input=/dev/null".to_owned(),
        "--export=ALL".to_owned(),
    ];
    if launches.len() > 1 {
        arguments.push(format!("--array=0-{}", launches.len() - 1));
    }
    if let Some(bytes) = first.options.command.confinement.resources.memory {
        arguments.push(format!("--mem={}M", bytes.div_ceil(MIB)));
    }
    arguments.extend(config.options());
    arguments.extend(config.options.iter().cloned());
    arguments
}

/// The labels in the comment of a job, and the directory of its files; none where it is none of ours.
pub(crate) fn read(comment: &str) -> Option<(BTreeMap<String, String>, PathBuf)> {
    let (before, dir) = comment.split_once(&format!("{DIR}="))?;
    Some((labels_in(before), PathBuf::from(dir)))
}

fn labels_in(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split_whitespace().filter_map(|word| word.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whose the job of that handle and comment is, and where its files are.
pub(crate) fn owner_of(handle: &str, comment: &str) -> Option<(Labels, Files)> {
    let (mut labels, dir) = read(comment)?;
    let index = handle.split_once('_').map_or(Some(0), |(_, index)| index.parse().ok())?;
    let files = Files { dir, index };
    if !labels.contains_key(Labels::PROC) {
        labels.extend(labels_in(&std::fs::read_to_string(files.labels()).ok()?));
    }
    Some((Labels::from_map(&labels)?, files))
}

/// All that would be asked for one launch alone.
pub(crate) fn described(
    config: &SlurmConfig,
    base: &Path,
    launch: &Launch,
) -> Result<String, ProcLauncherError> {
    let files = Files { dir: directory(base, launch), index: 0 };
    let made = commands(config, &launch.options, &files)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let words =
        [vec!["sbatch".to_owned()], arguments(config, std::slice::from_ref(launch), &files.dir)].concat();
    let mut all = format!(
        "{} <<'EOF'\n{}EOF\n\n# {}\n{}",
        shown(&words),
        text(&batch(&files.dir)),
        files.commands().display(),
        text(&made.commands)
    );
    if let Some(emptied) = made.emptied {
        all.push_str(&format!("\n# {}\n{}", files.emptied().display(), text(&emptied)));
    }
    Ok(all)
}
