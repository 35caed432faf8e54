use std::collections::BTreeMap;
use std::net::SocketAddr;

use procession_model::InvalidArgument;
use serde::{Deserialize, Serialize};

/// How containers are made. The names of the fields are those of the keyword arguments in Python and of the keys in TOML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DockerConfig {
    /// The image that containers are made of.
    pub image: String,
    /// Where the engine's API listens: `unix:///run/user/1000/podman/podman.sock`, `tcp://10.0.0.2:2375`. None is DOCKER_HOST, or
    /// else the engine's usual socket.
    pub host: Option<String>,
    /// The program in the image that runs Python procs, in the place of the client's own interpreter.
    pub python: String,
    /// When the image is pulled: `missing`, `always` or `never`.
    pub pull: Pull,
    /// The network that containers are in: `bridge`, `host`, or the name of one that was made with the engine.
    pub network: String,
    /// Where this machine waits for procs to reach back, `address:port` with port 0 for any. None is the gateway of the network,
    /// which is this machine as containers see it.
    pub bind: Option<String>,
    /// What containers dial when that differs, `address[:port]`.
    pub advertise: Option<String>,
    /// What containers see of this machine's files, `source:target[:ro]`.
    pub volumes: Vec<String>,
    /// File systems in memory, by the directory where they are mounted; the value has mount options: `size=64m`.
    pub tmpfs: BTreeMap<String, String>,
    /// The size of /dev/shm in bytes; None is the engine's default, 64 MiB.
    pub shm_size: Option<u64>,
    /// Which GPUs containers see: `all`, or their ids.
    pub gpus: Vec<String>,
    /// What is added to the names of hosts that containers know, `name:address`.
    pub extra_hosts: Vec<String>,
    /// The OCI runtime, as the engine knows it: `runsc`.
    pub runtime: Option<String>,
    /// Whether the engine's small init is process 1 of the container, which forwards signals and reaps orphans. Without it a
    /// program that does not handle SIGTERM ignores it.
    pub init: bool,
    /// Labels of containers, beside those by which procession finds its own.
    pub labels: BTreeMap<String, String>,
    /// Whether containers stay when their procs have ended, to be looked at.
    pub keep: bool,
    /// How many containers are made at the same time.
    pub launches_at_once: usize,
    /// What is changed in each request to make a container, as the engine's API writes it: an object that is merged into it
    /// (JSON merge patch), `{"HostConfig": {"CapAdd": ["SYS_PTRACE"]}}`.
    pub patch: serde_json::Value,
}

/// When the image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pull {
    /// When the engine has none of that name.
    #[default]
    Missing,
    /// Once by each launcher, before its first launch.
    Always,
    /// Never: without it launches fail.
    Never,
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self {
            image: String::new(),
            host: None,
            python: "python3".to_owned(),
            pull: Pull::Missing,
            network: "bridge".to_owned(),
            bind: None,
            advertise: None,
            volumes: Vec::new(),
            tmpfs: BTreeMap::new(),
            shm_size: None,
            gpus: Vec::new(),
            extra_hosts: Vec::new(),
            runtime: None,
            init: true,
            labels: BTreeMap::new(),
            keep: false,
            launches_at_once: 16,
            patch: serde_json::Value::Null,
        }
    }
}

impl DockerConfig {
    /// Containers of `image`, with the defaults of everything else.
    pub fn new(image: impl Into<String>) -> Self {
        Self { image: image.into(), ..Self::default() }
    }

    /// Refuses what the engine would refuse later, or misunderstand.
    ///
    /// # Errors
    /// Names the field, what was given and the rule.
    pub fn check(&self) -> Result<(), InvalidArgument> {
        let refused = |field: &str, given: &str, rule: &str| {
            Err(InvalidArgument::new(field, format!("{given:?}"), rule.to_owned()))
        };
        let no_image = self.image.is_empty() || self.image.contains(char::is_whitespace);
        if no_image {
            return refused("image", &self.image, "give the name of an image, name[:tag]");
        }
        if self.python.is_empty() {
            return refused("python", &self.python, "give the path or the name of a Python in the image");
        }
        if self.network.is_empty() {
            return refused(
                "network",
                &self.network,
                "give bridge, host, or the name of one that the engine has",
            );
        }
        for (at, volume) in self.volumes.iter().enumerate() {
            let parts: Vec<&str> = volume.split(':').collect();
            let [source, target, ..] = parts[..] else {
                return refused(&format!("volumes[{at}]"), volume, "give source:target[:ro]");
            };
            if source.is_empty() || !target.starts_with('/') || parts.len() > 3 {
                let rule = "give source:target[:ro]; the target is an absolute path in the container";
                return refused(&format!("volumes[{at}]"), volume, rule);
            }
        }
        if let Some(target) = self.tmpfs.keys().find(|target| !target.starts_with('/')) {
            return refused("tmpfs", target, "give an absolute path in the container");
        }
        if let Some(label) = self.labels.keys().find(|label| label.starts_with("procession.")) {
            return refused(
                "labels",
                label,
                "labels that begin with procession. are its own; choose another",
            );
        }
        if let Some(bind) = self.bind.as_ref().filter(|bind| bind.parse::<SocketAddr>().is_err()) {
            return refused("bind", bind, "give an IP address and a port, 172.17.0.1:0");
        }
        if self.launches_at_once == 0 {
            return refused("launches_at_once", "0", "at least 1");
        }
        if !(self.patch.is_null() || self.patch.is_object()) {
            let given = self.patch.to_string();
            return refused("patch", &given, "give an object that is merged into the request");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused_by_the_name_of_its_field() {
        let good = DockerConfig::new("image:1");
        good.check().unwrap();
        let volumes = |volume: &str| DockerConfig { volumes: vec![volume.into()], ..good.clone() };
        let labels = BTreeMap::from([("procession.proc".to_owned(), String::new())]);
        for (field, bad) in [
            ("image", DockerConfig::new("")),
            ("image", DockerConfig::new("two words")),
            ("python", DockerConfig { python: String::new(), ..good.clone() }),
            ("network", DockerConfig { network: String::new(), ..good.clone() }),
            ("volumes[0]", volumes("/only-one")),
            ("volumes[0]", volumes("/from:to")),
            ("volumes[0]", volumes(":/to")),
            ("tmpfs", DockerConfig { tmpfs: [("tmp".into(), String::new())].into(), ..good.clone() }),
            ("labels", DockerConfig { labels, ..good.clone() }),
            ("bind", DockerConfig { bind: Some("localhost".into()), ..good.clone() }),
            ("launches_at_once", DockerConfig { launches_at_once: 0, ..good.clone() }),
            ("patch", DockerConfig { patch: serde_json::json!([1]), ..good.clone() }),
        ] {
            assert_eq!(bad.check().unwrap_err().field, field);
        }
    }

    #[test]
    fn a_misspelt_key_is_refused_and_not_ignored() {
        let error = serde_json::from_str::<DockerConfig>(r#"{"image": "a", "volume": []}"#).unwrap_err();
        assert!(error.to_string().contains("volume"), "{error}");
    }
}
