use std::collections::BTreeMap;
use std::time::Duration;

use procession_host::{AgentDial, FarLauncher};
use procession_model::InvalidArgument;
use serde::{Deserialize, Serialize};

use crate::Template;

/// A command line, and what it leads to. The names of the fields are those of the keyword arguments in Python and of the keys in
/// TOML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommandConfig {
    /// The command line, with `{argv}` where that of the agent goes: `docker run -i --rm image {argv}`. See [`Template`].
    pub command: String,
    /// The command of the agent where it will run: `procession agent --stdio`, or a program that calls
    /// [`serve_stdio`](procession_host::serve_stdio).
    pub agent: Vec<String>,
    /// Whether one command serves all procs, and not one each.
    pub shared: bool,
    /// What is added to the environment of the command itself.
    pub env: BTreeMap<String, String>,
    /// How many seconds a command may take until its agent speaks.
    pub timeout: f64,
    /// How many seconds an agent may not answer before it counts as gone.
    pub lease: f64,
    /// How many commands may be on their way at the same time.
    pub launches_at_once: usize,
    /// What launches where the command leads to, in the place of its agent: one agent then launches all.
    pub launcher: Option<FarLauncher>,
}

impl Default for CommandConfig {
    fn default() -> Self {
        Self {
            command: String::new(),
            agent: ["python3", "-m", "procession", "agent", "--stdio"].map(str::to_owned).into(),
            shared: false,
            env: BTreeMap::new(),
            timeout: 60.0,
            lease: 30.0,
            launches_at_once: 16,
            launcher: None,
        }
    }
}

impl CommandConfig {
    /// With the defaults of everything else.
    pub fn new(command: impl Into<String>) -> Self {
        Self { command: command.into(), ..Self::default() }
    }

    /// Refuses what could not work later.
    ///
    /// # Errors
    /// Names the field, what was given and the rule.
    pub fn check(&self) -> Result<Template, InvalidArgument> {
        let template = Template::parse("command", &self.command)?;
        if self.agent.is_empty() {
            return Err(InvalidArgument::new(
                "agent",
                "[]",
                "give the command of the agent, as a list of words",
            ));
        }
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(InvalidArgument::new("env", format!("{name:?}"), "this is no name of a variable"));
        }
        template.fill(&self.agent)?;
        self.dial()?;
        Ok(template)
    }

    /// How its agents are started and given up.
    ///
    /// # Errors
    /// A number of seconds is none.
    pub(crate) fn dial(&self) -> Result<AgentDial, InvalidArgument> {
        if self.launches_at_once == 0 {
            return Err(InvalidArgument::new("launches_at_once", "0", "at least 1"));
        }
        Ok(AgentDial {
            within: seconds("timeout", self.timeout)?,
            lease: seconds("lease", self.lease)?,
            one_each: !self.shared,
            at_once: self.launches_at_once,
            launcher: self.launcher.clone(),
        })
    }
}

/// A span of time that is given in seconds.
///
/// # Errors
/// It is none that anybody could wait for.
pub fn seconds(field: &str, given: f64) -> Result<Duration, InvalidArgument> {
    Duration::try_from_secs_f64(given)
        .ok()
        .filter(|span| !span.is_zero())
        .ok_or_else(|| InvalidArgument::new(field, given.to_string(), "give a number of seconds above 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused_by_the_name_of_its_field() {
        let good = CommandConfig::new("nice {argv}");
        good.check().expect("it is good");
        for (field, bad) in [
            ("command", CommandConfig::new("nice")),
            ("agent", CommandConfig { agent: Vec::new(), ..good.clone() }),
            ("agent", CommandConfig { agent: vec!["a\0".into()], ..good.clone() }),
            ("env", CommandConfig { env: [("A=B".into(), String::new())].into(), ..good.clone() }),
            ("timeout", CommandConfig { timeout: 0.0, ..good.clone() }),
            ("lease", CommandConfig { lease: f64::NAN, ..good.clone() }),
            ("launches_at_once", CommandConfig { launches_at_once: 0, ..good.clone() }),
        ] {
            assert_eq!(bad.check().expect_err(field).field, field);
        }
        let error =
            serde_json::from_str::<CommandConfig>(r#"{"comand": "nice {argv}"}"#).expect_err("misspelt");
        assert!(error.to_string().contains("comand"), "{error}");
    }
}
