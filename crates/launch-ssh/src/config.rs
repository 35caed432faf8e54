use std::path::PathBuf;

use procession_host::{AgentDial, FarLauncher};
use procession_launch_command::seconds;
use procession_model::InvalidArgument;
use serde::{Deserialize, Serialize};

/// A machine, and how it is reached. The names of the fields are those of the keyword arguments in Python and of the keys in TOML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SshConfig {
    /// The destination as `ssh` takes it: `node7`, `user@node7`, `ssh://user@node7:2222`; also a name of `~/.ssh/config`.
    pub host: String,
    /// The program, and its options: `["-F", "other.conf"]`.
    pub ssh: String,
    /// What is passed to it before the destination.
    pub options: Vec<String>,
    /// The program there that runs the agent, and Python procs.
    pub python: String,
    /// The command of the agent, where it is none of Python's: `["procession-agent", "--stdio"]`.
    pub agent: Vec<String>,
    /// A `.tar.gz` that is unpacked there when the agent is missing, into `~/.cache/procession/` and its name, which has to
    /// differ whenever it holds something else. Python looks for modules in there, and the shell for programs.
    pub bundle: Option<PathBuf>,
    /// How many seconds `ssh` may take until the agent speaks.
    pub timeout: f64,
    /// How many seconds the agent may not answer before it counts as gone. It has 30 of its own, after which it ends all that
    /// it has launched.
    pub lease: f64,
    /// What launches there, in the place of the agent.
    pub launcher: Option<FarLauncher>,
}

impl Default for SshConfig {
    fn default() -> Self {
        Self {
            host: String::new(),
            ssh: "ssh".to_owned(),
            options: Vec::new(),
            python: "python3".to_owned(),
            agent: Vec::new(),
            bundle: None,
            timeout: 60.0,
            lease: 30.0,
            launcher: None,
        }
    }
}

impl SshConfig {
    /// With the defaults of everything else.
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into(), ..Self::default() }
    }

    /// Refuses what could not work later.
    ///
    /// # Errors
    /// Names the field, what was given and the rule.
    pub fn check(&self) -> Result<AgentDial, InvalidArgument> {
        let refused = |field: &str, given: String, rule: &str| Err(InvalidArgument::new(field, given, rule));
        if self.host.is_empty() || self.host.starts_with('-') || self.host.contains(char::is_whitespace) {
            let rule = "give one destination, as ssh takes it: [user@]name";
            return refused("host", format!("{:?}", self.host), rule);
        }
        for (field, given) in [("ssh", &self.ssh), ("python", &self.python)] {
            if given.is_empty() || given.contains('\0') {
                return refused(field, format!("{given:?}"), "give the path or the name of a program");
            }
        }
        if let Some(bundle) = &self.bundle
            && !bundle.is_file()
        {
            return refused("bundle", format!("{bundle:?}"), "give a .tar.gz that is there");
        }
        Ok(AgentDial {
            within: seconds("timeout", self.timeout)?,
            lease: seconds("lease", self.lease)?,
            launcher: self.launcher.clone(),
            ..AgentDial::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused_by_the_name_of_its_field() {
        let good = SshConfig::new("user@node7");
        good.check().expect("it is good");
        for (field, bad) in [
            ("host", SshConfig::new("")),
            ("host", SshConfig::new("-oProxyCommand=evil")),
            ("host", SshConfig::new("two words")),
            ("ssh", SshConfig { ssh: String::new(), ..good.clone() }),
            ("python", SshConfig { python: "a\0".into(), ..good.clone() }),
            ("bundle", SshConfig { bundle: Some("/no/such/bundle".into()), ..good.clone() }),
            ("timeout", SshConfig { timeout: -1.0, ..good.clone() }),
            ("lease", SshConfig { lease: f64::INFINITY, ..good.clone() }),
        ] {
            assert_eq!(bad.check().expect_err(field).field, field);
        }
        let error = serde_json::from_str::<SshConfig>(r#"{"hots": "node7"}"#).expect_err("misspelt");
        assert!(error.to_string().contains("hots"), "{error}");
    }
}
