use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use procession_launch::ProcLauncherError;
use procession_model::LaunchOptions;

use crate::SlurmConfig;
use crate::files::Files;

/// The code of a job that has not found its commands.
pub(crate) const NO_COMMANDS: i32 = 66;

/// What Slurm tells the elements of an array, and other jobs not: whether a proc became one is chance.
const OF_ARRAYS: &str = "SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_COUNT SLURM_ARRAY_TASK_ID SLURM_ARRAY_TASK_MAX \
                         SLURM_ARRAY_TASK_MIN SLURM_ARRAY_TASK_STEP";

/// What Slurm gets: nothing of any proc is in it. `first` is what begins each job, unless that is of an array.
pub(crate) fn batch(dir: &Path) -> Vec<u8> {
    [
        b"#!/bin/sh\nf=".to_vec(),
        quoted(dir.as_os_str().as_bytes()),
        format!("/${{SLURM_ARRAY_TASK_ID:-0}}.sh\n[ -r \"$f\" ] || exit {NO_COMMANDS}\n. \"$f\"\n")
            .into_bytes(),
    ]
    .concat()
}

/// What the job of one proc executes, by file: the commands, and what they go on with.
pub(crate) struct Commands {
    pub(crate) commands: Vec<u8>,
    /// Where its environment is to be empty first.
    pub(crate) emptied: Option<Vec<u8>>,
}

/// The commands of one proc; they end by executing its program, whose end so is the job's.
pub(crate) fn commands(
    config: &SlurmConfig,
    options: &LaunchOptions,
    files: &Files,
) -> Result<Commands, ProcLauncherError> {
    let command = &options.command;
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let path = |path: &Path| quoted(path.as_os_str().as_bytes());
    let (stdout, stderr) = if options.want_stdio {
        (path(&files.stdout()), path(&files.stderr()))
    } else {
        (b"/dev/null".to_vec(), b"/dev/null".to_vec())
    };
    lines.push([b"exec >>".to_vec(), stdout, b" 2>>".to_vec(), stderr].concat());
    if !config.requeue {
        lines.push([&b"rm -f "[..], &path(&files.commands()), b" ", &path(&files.emptied())].concat());
    }
    lines.push(format!("unset {OF_ARRAYS}").into_bytes());
    for name in &command.env_remove {
        lines.push(format!("unset {}", variable(name)?).into_bytes());
    }
    for (name, value) in sorted(options.variables()) {
        lines.push([format!("export {}=", variable(&name)?).into_bytes(), quoted(value.as_bytes())].concat());
    }
    if let Some(cwd) = &command.cwd {
        let refusal = path(&files.refusal());
        let text = quoted(format!("the working directory {cwd:?} cannot be entered").as_bytes());
        lines.push(
            [&b"cd -- "[..], &path(cwd), b" || { echo ", &text, b" >", &refusal, b"; exit 126; }"].concat(),
        );
    }
    let program = match (&command.preload, &config.python) {
        (Some(_), Some(python)) => quoted(python.as_bytes()),
        _ => path(&command.program),
    };
    let mut exec = [b"exec ".to_vec(), program].concat();
    for argument in &command.args {
        exec.extend([b" ".to_vec(), quoted(argument.as_bytes())].concat());
    }
    lines.push(exec);
    let all = [lines.join(&b'\n'), b"\n".to_vec()].concat();
    if command.clear_env {
        let first = [b"exec env -i /bin/sh ".to_vec(), path(&files.emptied()), b"\n".to_vec()].concat();
        return Ok(Commands { commands: first, emptied: Some(all) });
    }
    Ok(Commands { commands: all, emptied: None })
}

fn sorted(mut pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    pairs.sort();
    pairs
}

fn variable(name: &str) -> Result<&str, ProcLauncherError> {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let bytes = name.as_bytes();
    let fits = bytes.first().is_some_and(|&first| letter(first))
        && bytes.iter().all(|&byte| letter(byte) || byte.is_ascii_digit());
    if fits {
        return Ok(name);
    }
    Err(ProcLauncherError::Other(format!(
        "env: {name:?} is no name that a shell knows, by which jobs get their environment; use letters, digits and _"
    )))
}

/// One word for a shell, whatever is in it.
fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut word = b"'".to_vec();
    for &byte in bytes {
        match byte {
            b'\'' => word.extend(b"'\\''"),
            byte => word.push(byte),
        }
    }
    word.push(b'\'');
    word
}

/// A command line for people.
pub(crate) fn shown(words: &[String]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=./:,+@%".contains(&byte);
    let words = words.iter().map(|word| {
        if !word.is_empty() && word.bytes().all(plain) {
            word.clone()
        } else {
            String::from_utf8_lossy(&quoted(word.as_bytes())).into_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::process::Command;
    use std::time::Duration;

    use procession_model::BootstrapCommand;

    use super::*;

    fn options(command: BootstrapCommand) -> LaunchOptions {
        LaunchOptions {
            bootstrap_payload: "pay'load".into(),
            process_name: "p @ h".into(),
            command,
            want_stdio: true,
            tail_lines: 1,
            log_channel: None,
            detach: false,
            lease: Duration::ZERO,
            output: None,
        }
    }

    /// Runs the batch script as the job 3 of an array: its code, and what it has written.
    fn run(options: &LaunchOptions, config: &SlurmConfig) -> (Option<i32>, String) {
        let outer = tempfile::tempdir().expect("a directory");
        let dir = outer.path().join("it's");
        crate::files::make_directory(&dir).expect("made");
        let files = Files { dir, index: 3 };
        let made = commands(config, options, &files).expect("commands");
        crate::files::write(&files.commands(), &made.commands).expect("written");
        if let Some(emptied) = made.emptied {
            crate::files::write(&files.emptied(), &emptied).expect("written");
        }
        let script = outer.path().join("script");
        crate::files::write(&script, &batch(&files.dir)).expect("written");
        let mut sh = Command::new("/bin/sh");
        sh.arg(&script).envs([("SLURM_ARRAY_TASK_ID", "3"), ("GONE", "1"), ("STAYS", "2")]);
        let code = sh.status().expect("a shell").code();
        assert_eq!(files.commands().exists() || files.emptied().exists(), config.requeue);
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        (code, read(files.stdout()) + &read(files.stderr()) + &read(files.refusal()))
    }

    #[test]
    fn what_a_proc_is_given_arrives_as_it_was_given_whatever_is_in_it() {
        let value = "a 'b' \"c\" $HOME `d` \\ * \n\u{1f30d}";
        let mut command = BootstrapCommand::new("/bin/sh");
        let script = "printf '%s|' \"$@\" \"$A\" \"$PROCESSION_BOOTSTRAP\" \"${GONE-none}\" \"$STAYS\" \"${SLURM_ARRAY_TASK_ID-none}\"; exit 7";
        command.args = ["-c", script, "sh", value, ""].map(str::to_owned).into();
        command.env = HashMap::from([("A".to_owned(), value.to_owned())]);
        command.env_remove = vec!["GONE".to_owned()];
        let expected = format!("{value}||{value}|pay'load|none|2|none|");
        assert_eq!(run(&options(command), &SlurmConfig::default()), (Some(7), expected));
    }

    #[test]
    fn an_environment_that_is_to_be_empty_has_what_is_added_and_no_more() {
        let mut command = BootstrapCommand::new("/bin/sh");
        command.args = ["-c", "echo ${STAYS-none} ${SLURM_ARRAY_TASK_ID-none} $A"].map(str::to_owned).into();
        command.env = HashMap::from([("A".to_owned(), "b".to_owned())]);
        command.clear_env = true;
        assert_eq!(run(&options(command), &SlurmConfig::default()), (Some(0), "none none b\n".to_owned()));
    }

    #[test]
    fn a_directory_that_is_not_there_is_told_and_the_program_does_not_run() {
        let mut command = BootstrapCommand::new("/bin/echo");
        command.cwd = Some("/no/such".into());
        let (code, said) = run(&options(command), &SlurmConfig::default());
        assert_eq!(code, Some(126));
        assert!(said.ends_with("the working directory \"/no/such\" cannot be entered\n"), "{said}");
    }

    #[test]
    fn what_may_be_run_again_keeps_its_commands() {
        let config = SlurmConfig { requeue: true, ..SlurmConfig::default() };
        assert_eq!(run(&options(BootstrapCommand::new("/bin/true")), &config).0, Some(0));
    }

    #[test]
    fn a_variable_that_no_shell_knows_is_refused() {
        let mut command = BootstrapCommand::new("/bin/true");
        command.env = HashMap::from([("a.b".to_owned(), String::new())]);
        let files = Files { dir: "/x".into(), index: 0 };
        let refused = commands(&SlurmConfig::default(), &options(command), &files).err().expect("refused");
        assert!(refused.to_string().contains("\"a.b\""), "{refused}");
    }

    #[test]
    fn a_job_without_its_commands_ends_with_a_code_of_its_own() {
        let script = batch(Path::new("/no/such"));
        let ended = Command::new("/bin/sh").arg("-c").arg(String::from_utf8_lossy(&script).as_ref()).status();
        assert_eq!(ended.expect("a shell").code(), Some(NO_COMMANDS));
    }
}
