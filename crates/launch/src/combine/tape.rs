use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use procession_model::{Confinement, LaunchOptions, ProcExitResult};
use serde::{Deserialize, Serialize};

use crate::Capabilities;

const VERSION: u32 = 1;

/// Why a recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TapeError {
    /// The file cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no recording.
    #[error("{}:{line}: {why}; record it again", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// The first line of a recording.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Label {
    tape: u32,
    pub(super) launcher: String,
    pub(super) capabilities: Capabilities,
}

/// One thing that happened, each on a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Which launch of the recording it is about, from 0 in the order in which they were asked for.
    pub(super) launch: usize,
    /// Seconds since that launch was asked for.
    pub(super) after: f64,
    #[serde(flatten)]
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum What {
    Launch {
        name: String,
        asked: Box<Asked>,
    },
    Refused {
        why: String,
    },
    Answered {
        pid: Option<u32>,
        output: bool,
    },
    Progress {
        text: String,
    },
    Handle {
        handle: String,
    },
    Pid {
        pid: u32,
    },
    Unreachable {
        why: String,
    },
    Reachable,
    #[cfg(feature = "fake")]
    Ready,
    Output {
        stream: Stream,
        bytes: Bytes,
    },
    Terminate {
        timeout: f64,
        refused: Option<String>,
    },
    Kill {
        refused: Option<String>,
    },
    Exit {
        exit: ProcExitResult,
    },
    /// The launcher said no more, and no exit.
    NoExit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// Output: a text where it is one, else the bytes in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bytes {
    Text(String),
    Hex(String),
}

impl Bytes {
    pub(super) fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    /// None where it is neither.
    pub(super) fn to_vec(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Hex(digits) => digits
                .as_bytes()
                .chunks(2)
                .map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok())
                .collect(),
        }
    }
}

/// What a launch was asked for, without what may be secret: the payload, and the values of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<String>,
    env_remove: Vec<String>,
    clear_env: bool,
    cwd: Option<PathBuf>,
    confinement: Confinement,
    want_stdio: bool,
    tail_lines: usize,
    detach: bool,
}

impl From<&LaunchOptions> for Asked {
    fn from(options: &LaunchOptions) -> Self {
        let command = &options.command;
        let mut env: Vec<_> = command.env.keys().cloned().collect();
        env.sort();
        Self {
            program: command.program.clone(),
            args: command.args.clone(),
            env,
            env_remove: command.env_remove.clone(),
            clear_env: command.clear_env,
            cwd: command.cwd.clone(),
            confinement: command.confinement.clone(),
            want_stdio: options.want_stdio,
            tail_lines: options.tail_lines,
            detach: options.detach,
        }
    }
}

/// A recording that is being written.
#[derive(Debug)]
pub(super) struct Tape {
    path: PathBuf,
    state: Mutex<Writing>,
}

#[derive(Debug)]
struct Writing {
    file: File,
    has_failed: bool,
    launches: usize,
}

impl Tape {
    pub(super) fn create(path: &Path, launcher: &str, capabilities: Capabilities) -> Result<Self, TapeError> {
        let failed = |source| TapeError::File { path: path.to_owned(), source };
        let mut file = File::create(path).map_err(failed)?;
        let label = Label { tape: VERSION, launcher: launcher.to_owned(), capabilities };
        write(&mut file, &label).map_err(failed)?;
        let state = Mutex::new(Writing { file, has_failed: false, launches: 0 });
        Ok(Self { path: path.to_owned(), state })
    }

    /// Notes a launch, and gives its number.
    pub(super) fn launch(&self, name: &str, options: &LaunchOptions) -> usize {
        let mut writing = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let launch = writing.launches;
        writing.launches += 1;
        let what = What::Launch { name: name.to_owned(), asked: Box::new(options.into()) };
        self.write(&mut writing, &Line { launch, after: 0.0, what });
        launch
    }

    pub(super) fn note(&self, line: &Line) {
        self.write(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner), line);
    }

    /// What cannot be written costs no proc anything, and is told once.
    fn write(&self, writing: &mut Writing, line: &Line) {
        if let Err(error) = write(&mut writing.file, line)
            && !std::mem::replace(&mut writing.has_failed, true)
        {
            tracing::error!(file = %self.path.display(), %error, "the recording of a launcher has gaps");
        }
    }
}

fn write(file: &mut File, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)
}

/// What was recorded: the label, and the lines of each launch.
pub(super) fn read(path: &Path) -> Result<(Label, Vec<Vec<Line>>), TapeError> {
    let failed = |source| TapeError::File { path: path.to_owned(), source };
    let wrong = |line: usize, why: String| TapeError::Line { path: path.to_owned(), line, why };
    let mut lines = BufReader::new(File::open(path).map_err(failed)?).lines();
    let first = lines.next().transpose().map_err(failed)?.unwrap_or_default();
    let label: Label = serde_json::from_str(&first)
        .map_err(|error| wrong(1, format!("it is no recording of a launcher: {error}")))?;
    if label.tape != VERSION {
        return Err(wrong(1, format!("it is of version {}, and this reads version {VERSION}", label.tape)));
    }
    let mut launches: Vec<Vec<Line>> = Vec::new();
    for (index, text) in lines.enumerate() {
        let line: Line = serde_json::from_str(&text.map_err(failed)?)
            .map_err(|error| wrong(index + 2, error.to_string()))?;
        let fits = if matches!(line.what, What::Launch { .. }) {
            launches.push(Vec::new());
            line.launch + 1 == launches.len()
        } else {
            line.launch < launches.len()
        };
        let readable = !matches!(&line.what, What::Output { bytes, .. } if bytes.to_vec().is_none());
        if !(fits && readable && line.after.is_finite() && line.after >= 0.0) {
            return Err(wrong(index + 2, "it does not fit what is before it".to_owned()));
        }
        launches[line.launch].push(line);
    }
    Ok((label, launches))
}
