use std::net::SocketAddr;
use std::path::PathBuf;

use procession_model::InvalidArgument;
use serde::{Deserialize, Serialize};

/// Options of sbatch that the launcher needs for itself.
const OWN: [&str; 14] = [
    "--array",
    "--comment",
    "--error",
    "--export",
    "--input",
    "--job-name",
    "--no-requeue",
    "--open-mode",
    "--output",
    "--parsable",
    "--requeue",
    "--test-only",
    "--wait",
    "--wrap",
];

/// How jobs are submitted. The names of the fields are those of the keyword arguments in Python and of the keys in TOML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlurmConfig {
    /// The partition; None is the cluster's default, as for all that is None here.
    pub partition: Option<String>,
    /// The account that is charged.
    pub account: Option<String>,
    /// The quality of service.
    pub qos: Option<String>,
    /// The walltime, as sbatch takes it: `30` minutes, `1:30:00`, `2-00:00:00`.
    pub time_limit: Option<String>,
    /// The features that nodes must have.
    pub constraint: Option<String>,
    /// How many nodes each job gets. The program runs on the first.
    pub nodes: Option<u32>,
    /// The nodes that each job must have: `n[1-4]`.
    pub nodelist: Option<String>,
    /// The nodes that no job may have.
    pub exclude: Option<String>,
    /// Generic resources of each node: `gpu:a100:2`.
    pub gres: Option<String>,
    /// The GPUs of each job: `2`, `a100:2`.
    pub gpus: Option<String>,
    /// The processors of each job.
    pub cpus_per_task: Option<u32>,
    /// More options for sbatch, after those that this launcher makes, and so in their place: `--reservation=night`.
    pub options: Vec<String>,
    /// What stands in the comment of each job, before what procession writes there.
    pub comment: Option<String>,
    /// Whether Slurm may put a job back into its queue and run it again, after a preemption or when a node fails. Refused for
    /// procs that call back, which their host launches again where it is asked to.
    pub requeue: bool,
    /// The directory for the files of jobs (commands, output), on a file system that this machine and the nodes share. None is
    /// `~/.procession/slurm`.
    pub output_dir: Option<PathBuf>,
    /// Whether the output files of jobs stay when their procs have ended.
    pub keep: bool,
    /// The program on the nodes that runs Python procs; None is the client's own interpreter, at the same path.
    pub python: Option<String>,
    /// Where this machine waits for procs to reach back, `address:port` with port 0 for any. None is the address of its name.
    pub bind: Option<String>,
    /// What procs dial when that differs, `address[:port]`.
    pub advertise: Option<String>,
    /// Slurm's configuration; None is SLURM_CONF, or else the usual place.
    pub conf: Option<PathBuf>,
    /// How many seconds lie between two looks at the queue, at most, as long as the controller answers quickly.
    pub poll: f64,
    /// How many procs may be submitted, or wait in the queue, at the same time; the others are submitted later.
    pub launches_at_once: usize,
}

impl Default for SlurmConfig {
    fn default() -> Self {
        Self {
            partition: None,
            account: None,
            qos: None,
            time_limit: None,
            constraint: None,
            nodes: None,
            nodelist: None,
            exclude: None,
            gres: None,
            gpus: None,
            cpus_per_task: None,
            options: Vec::new(),
            comment: None,
            requeue: false,
            output_dir: None,
            keep: false,
            python: None,
            bind: None,
            advertise: None,
            conf: None,
            poll: 1.0,
            launches_at_once: 1000,
        }
    }
}

impl SlurmConfig {
    /// Refuses what Slurm would refuse later, or misunderstand.
    ///
    /// # Errors
    /// Names the field, what was given and the rule.
    pub fn check(&self) -> Result<(), InvalidArgument> {
        let refused = |field: &str, given: &str, rule: &str| {
            Err(InvalidArgument::new(field, format!("{given:?}"), rule.to_owned()))
        };
        for (field, text) in self.texts() {
            if text.is_empty() || text.contains(char::is_control) {
                return refused(field, text, "give what sbatch takes, on one line, or leave it out");
            }
        }
        for (field, count) in [("nodes", self.nodes), ("cpus_per_task", self.cpus_per_task)] {
            if count == Some(0) {
                return refused(field, "0", "at least 1");
            }
        }
        for (at, option) in self.options.iter().enumerate() {
            let field = format!("options[{at}]");
            let name = option.split('=').next().unwrap_or_default();
            if !name.starts_with("--") || name.len() < 3 || option.contains(char::is_control) {
                return refused(&field, option, "give an option of sbatch in its long form, --name=value");
            }
            if OWN.contains(&name) {
                return refused(&field, option, "this launcher needs that option itself; leave it out");
            }
        }
        for (field, path) in [("output_dir", &self.output_dir), ("conf", &self.conf)] {
            let Some(path) = path else { continue };
            let text = path.to_string_lossy();
            if !path.is_absolute() || text.contains(char::is_control) {
                return refused(field, &text, "give an absolute path");
            }
        }
        if let Some(conf) = self.conf.as_ref().filter(|conf| !conf.is_file()) {
            return refused("conf", &conf.to_string_lossy(), "there is no such file");
        }
        if let Some(bind) = self.bind.as_ref().filter(|bind| bind.parse::<SocketAddr>().is_err()) {
            return refused("bind", bind, "give an IP address that nodes can reach, and a port: 10.0.0.1:0");
        }
        if !(0.05..=3600.0).contains(&self.poll) {
            return refused("poll", &self.poll.to_string(), "a number of seconds from 0.05 to 3600");
        }
        if self.launches_at_once == 0 {
            return refused("launches_at_once", "0", "at least 1");
        }
        Ok(())
    }

    fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("partition", &self.partition),
            ("account", &self.account),
            ("qos", &self.qos),
            ("time_limit", &self.time_limit),
            ("constraint", &self.constraint),
            ("nodelist", &self.nodelist),
            ("exclude", &self.exclude),
            ("gres", &self.gres),
            ("gpus", &self.gpus),
            ("comment", &self.comment),
            ("python", &self.python),
        ];
        all.into_iter().filter_map(|(field, text)| Some((field, text.as_deref()?)))
    }

    /// What of it are options of sbatch.
    pub(crate) fn options(&self) -> Vec<String> {
        let texts = [
            ("partition", self.partition.clone()),
            ("account", self.account.clone()),
            ("qos", self.qos.clone()),
            ("time", self.time_limit.clone()),
            ("constraint", self.constraint.clone()),
            ("nodes", self.nodes.map(|nodes| nodes.to_string())),
            ("nodelist", self.nodelist.clone()),
            ("exclude", self.exclude.clone()),
            ("gres", self.gres.clone()),
            ("gpus", self.gpus.clone()),
            ("cpus-per-task", self.cpus_per_task.map(|cpus| cpus.to_string())),
        ];
        let given = texts.into_iter().filter_map(|(name, text)| Some(format!("--{name}={}", text?)));
        given.chain([if self.requeue { "--requeue" } else { "--no-requeue" }.to_owned()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused_by_the_name_of_its_field() {
        let good = SlurmConfig::default();
        good.check().expect("the defaults");
        let options = |option: &str| SlurmConfig { options: vec![option.into()], ..good.clone() };
        for (field, bad) in [
            ("partition", SlurmConfig { partition: Some(String::new()), ..good.clone() }),
            ("time_limit", SlurmConfig { time_limit: Some("1\n2".into()), ..good.clone() }),
            ("nodes", SlurmConfig { nodes: Some(0), ..good.clone() }),
            ("cpus_per_task", SlurmConfig { cpus_per_task: Some(0), ..good.clone() }),
            ("options[0]", options("-x")),
            ("options[0]", options("--wrap=true")),
            ("options[0]", options("--")),
            ("output_dir", SlurmConfig { output_dir: Some("here".into()), ..good.clone() }),
            ("conf", SlurmConfig { conf: Some("/no/such/slurm.conf".into()), ..good.clone() }),
            ("bind", SlurmConfig { bind: Some("localhost".into()), ..good.clone() }),
            ("poll", SlurmConfig { poll: 0.0, ..good.clone() }),
            ("launches_at_once", SlurmConfig { launches_at_once: 0, ..good.clone() }),
        ] {
            assert_eq!(bad.check().expect_err("it must be refused").field, field);
        }
    }

    #[test]
    fn a_misspelt_key_is_refused_and_not_ignored() {
        let error = serde_json::from_str::<SlurmConfig>(r#"{"partitoin": "a"}"#).expect_err("misspelt");
        assert!(error.to_string().contains("partitoin"), "{error}");
    }

    #[test]
    fn jobs_are_not_run_again_unless_that_is_asked_for() {
        let config = SlurmConfig { partition: Some("a".into()), nodes: Some(2), ..SlurmConfig::default() };
        assert_eq!(config.options(), ["--partition=a", "--nodes=2", "--no-requeue"]);
        let config = SlurmConfig { requeue: true, ..SlurmConfig::default() };
        assert_eq!(config.options(), ["--requeue"]);
    }
}
