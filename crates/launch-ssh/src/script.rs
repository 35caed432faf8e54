use std::path::Path;

use procession_model::InvalidArgument;

use crate::SshConfig;

/// What the script says when it wants the bundle; as [`AGENT_SPEAKS`](procession_host::AGENT_SPEAKS), behind a byte that no
/// greeting of a shell has.
pub(crate) const WANTS: &str = "\0procession wants its bundle\n";

/// The command that is run at the other end: a POSIX shell, which runs the agent where it is, or else out of the bundle.
///
/// Its script is one line between single quotes, which shells of all kinds pass on as it is.
///
/// # Errors
/// A word of the configuration has a zero byte in it.
pub(crate) fn remote_command(
    config: &SshConfig,
    bundle: Option<(&str, u64)>,
) -> Result<String, InvalidArgument> {
    let script = script(config, bundle);
    let quoted = shlex::try_quote(&script);
    let refused =
        |error: shlex::QuoteError| InvalidArgument::new("agent", format!("{script:?}"), error.to_string());
    Ok(format!("sh -c {}", quoted.map_err(refused)?))
}

fn script(config: &SshConfig, bundle: Option<(&str, u64)>) -> String {
    let python = quoted(&config.python);
    let agent = match &config.agent[..] {
        [] => format!("{python} -m procession agent --stdio"),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    };
    let Some((name, size)) = bundle else { return format!("exec {agent}") };
    let version = env!("CARGO_PKG_VERSION");
    let is_there = match &config.agent[..] {
        [] => format!(
            "{python} -c \"import procession, sys; sys.exit(procession.__version__ not in (\\\"{version}\\\",))\" 2>/dev/null"
        ),
        words => format!("command -v {} >/dev/null 2>&1", quoted(&words[0])),
    };
    let wants = WANTS.trim_start_matches('\0').trim_end();
    [
        &format!("d=\"${{XDG_CACHE_HOME:-$HOME/.cache}}/procession/{name}\"; t=\"$d.$$\""),
        &format!("if [ -d \"$d\" ]; then :; elif {is_there}; then d="),
        "else mkdir -p \"$t\" || exit 1",
        &format!("printf \"\\\\000{wants}\\\\n\""),
        &format!("if head -c {size} | tar -xzf - -C \"$t\"; then [ -d \"$d\" ] || mv \"$t\" \"$d\"; fi"),
        "rm -rf \"$t\"",
        "[ -d \"$d\" ] || { echo \"procession: the bundle could not be unpacked into $d\" >&2; exit 1; }; fi",
        "if [ -n \"$d\" ]; then export PYTHONPATH=\"$d${PYTHONPATH:+:$PYTHONPATH}\" PATH=\"$d:$PATH\"; fi",
        &format!("exec {agent}"),
    ]
    .join("; ")
}

/// The name of the directory that a bundle is unpacked into.
pub(crate) fn name_of(bundle: &Path) -> String {
    let name = bundle.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".tar.gz").unwrap_or(&name);
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

/// Between double quotes, for a script that is itself between single ones.
fn quoted(word: &str) -> String {
    let mut text = String::from("\"");
    for c in word.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_one_line_and_names_what_runs_there() {
        let config = SshConfig { python: "/opt/my $python's".into(), ..SshConfig::new("node7") };
        let command = remote_command(&config, Some(("procession-1-abc", 5))).expect("words");
        assert!(!command.contains('\n'), "{command}");
        let script = shlex::split(&command).expect("words").remove(2);
        assert!(script.ends_with("exec \"/opt/my \\$python's\" -m procession agent --stdio"), "{script}");
        assert!(script.contains("/procession/procession-1-abc\""), "{script}");
        let other = SshConfig { agent: vec!["my agent".into(), "--stdio".into()], ..SshConfig::new("node7") };
        assert_eq!(remote_command(&other, None).expect("words"), "sh -c 'exec \"my agent\" \"--stdio\"'");
    }

    #[test]
    fn a_bundle_has_the_name_of_its_file_in_letters_that_every_shell_takes() {
        assert_eq!(name_of(Path::new("/x/procession-0.1.0-ab12.tar.gz")), "procession-0.1.0-ab12");
        assert_eq!(name_of(Path::new("my bundle;.tgz")), "my_bundle_.tgz");
    }
}
