use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use procession_model::InvalidArgument;
use serde::{Deserialize, Serialize};

use crate::mounts::{Mount, toleration};

/// How pods are made. The names of the fields are those of the keyword arguments in Python and of the keys in TOML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesConfig {
    /// The image of the container that a proc runs in.
    pub image: String,
    /// The namespace that pods are made in; None is that of the context, or of the pod that the client runs in.
    pub namespace: Option<String>,
    /// The context of the kubeconfig; None is its current one.
    pub context: Option<String>,
    /// The kubeconfig; None is KUBECONFIG, or else `~/.kube/config`, or else what a pod is given.
    pub kubeconfig: Option<PathBuf>,
    /// The program in the image that runs Python procs, in the place of the client's own interpreter.
    pub python: String,
    /// When nodes pull the image; None leaves it to Kubernetes: always for `:latest`, else when the node has none of that name.
    pub image_pull_policy: Option<PullPolicy>,
    /// The secrets by which images are pulled.
    pub image_pull_secrets: Vec<String>,
    /// How many seconds an image may fail to be pulled, or a container to be made, until the launch has failed.
    pub image_patience: f64,
    /// Labels that nodes must have.
    pub node_selector: BTreeMap<String, String>,
    /// The taints of nodes that are tolerated, `key[=value][:effect]`, as `kubectl taint` writes them.
    pub tolerations: Vec<String>,
    /// The service account, whose token pods then have; None is the namespace's default, without a token.
    pub service_account: Option<String>,
    /// The priority class.
    pub priority_class: Option<String>,
    /// The runtime class.
    pub runtime_class: Option<String>,
    /// How many GPUs each pod gets (`nvidia.com/gpu`).
    pub gpus: u32,
    /// What pods see, `SOURCE:TARGET[:ro]`: a path of the node, `pvc/NAME`, `configmap/NAME`, `secret/NAME`, `empty`, `memory` or
    /// `memory/SIZE`.
    pub volumes: Vec<String>,
    /// Labels of pods, beside those by which procession finds its own.
    pub labels: BTreeMap<String, String>,
    /// Annotations of pods.
    pub annotations: BTreeMap<String, String>,
    /// Whether the pod's own small process is process 1, which reaps orphans. Without it a program that does not handle SIGTERM
    /// ignores it.
    pub init: bool,
    /// Where this machine waits for procs to reach back, `address:port` with port 0 for any. None is the address from which it
    /// reaches the cluster, which in a pod is that of the pod.
    pub bind: Option<String>,
    /// What procs dial when that differs, `address[:port]`.
    pub advertise: Option<String>,
    /// Whether pods stay when their procs have ended, to be looked at.
    pub keep: bool,
    /// How many procs may be made, or wait for a node, at the same time.
    pub launches_at_once: usize,
    /// What is changed in each pod, as the API writes it: an object that is merged into it (JSON merge patch), in which containers and
    /// volumes are told by their names. That of the proc is called `proc`.
    pub patch: serde_json::Value,
}

/// When nodes pull an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When the node has none of that name.
    IfNotPresent,
    /// Never: without it launches fail.
    Never,
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        Self {
            image: String::new(),
            namespace: None,
            context: None,
            kubeconfig: None,
            python: "python3".to_owned(),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            image_patience: 60.0,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            service_account: None,
            priority_class: None,
            runtime_class: None,
            gpus: 0,
            volumes: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            init: true,
            bind: None,
            advertise: None,
            keep: false,
            launches_at_once: 1000,
            patch: serde_json::Value::Null,
        }
    }
}

impl KubernetesConfig {
    /// Pods of `image`, with the defaults of everything else.
    pub fn new(image: impl Into<String>) -> Self {
        Self { image: image.into(), ..Self::default() }
    }

    /// Refuses what the cluster would refuse later, or misunderstand.
    ///
    /// # Errors
    /// Names the field, what was given and the rule.
    pub fn check(&self) -> Result<(), InvalidArgument> {
        let refused = |field: &str, given: &str, rule: &str| {
            Err(InvalidArgument::new(field, format!("{given:?}"), rule.to_owned()))
        };
        if self.image.is_empty() || self.image.contains(char::is_whitespace) {
            return refused("image", &self.image, "give the name of an image, name[:tag]");
        }
        if self.python.is_empty() {
            return refused("python", &self.python, "give the path or the name of a Python in the image");
        }
        for (field, name) in self.names() {
            if !is_name(name) {
                let rule = "give the name of an object: small letters, digits, - and ., 253 at most";
                return refused(field, name, rule);
            }
        }
        if self.context.as_deref() == Some("") {
            return refused("context", "", "give the name of a context of the kubeconfig, or leave it out");
        }
        if let Some(path) = self.kubeconfig.as_ref().filter(|path| !path.is_file()) {
            return refused("kubeconfig", &path.to_string_lossy(), "there is no such file");
        }
        for (at, text) in self.tolerations.iter().enumerate() {
            if let Err(rule) = toleration(text) {
                return refused(&format!("tolerations[{at}]"), text, rule);
            }
        }
        for (at, volume) in self.volumes.iter().enumerate() {
            if let Err(rule) = Mount::parse(volume) {
                return refused(&format!("volumes[{at}]"), volume, rule);
            }
        }
        for (field, map) in [("labels", &self.labels), ("node_selector", &self.node_selector)] {
            if let Some((key, value)) = map.iter().find(|(_, value)| !(value.is_empty() || is_label(value))) {
                let rule = "values are letters, digits, -, _ and ., 63 at most, and begin and end with one of the first two";
                return refused(&format!("{field}[{key:?}]"), value, rule);
            }
        }
        for (field, map) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if let Some(key) = map.keys().find(|key| key.starts_with("procession.")) {
                return refused(field, key, "those that begin with procession. are its own; choose another");
            }
        }
        if let Some(bind) = self.bind.as_ref().filter(|bind| bind.parse::<SocketAddr>().is_err()) {
            return refused("bind", bind, "give an IP address that pods can reach, and a port: 10.0.0.1:0");
        }
        if !(0.0..=86400.0).contains(&self.image_patience) {
            return refused(
                "image_patience",
                &self.image_patience.to_string(),
                "a number of seconds from 0 to 86400",
            );
        }
        if self.launches_at_once == 0 {
            return refused("launches_at_once", "0", "at least 1");
        }
        if !(self.patch.is_null() || self.patch.is_object()) {
            return refused("patch", &self.patch.to_string(), "give an object that is merged into the pod");
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("namespace", &self.namespace),
            ("service_account", &self.service_account),
            ("priority_class", &self.priority_class),
            ("runtime_class", &self.runtime_class),
        ];
        let one = all.into_iter().filter_map(|(field, name)| Some((field, name.as_deref()?)));
        one.chain(self.image_pull_secrets.iter().map(|name| ("image_pull_secrets", name.as_str())))
    }
}

/// Whether an object may be called so.
pub(crate) fn is_name(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    text.len() <= 253 && edge(text.bytes().next()) && edge(text.bytes().last()) && text.bytes().all(inner)
}

/// Whether it may be the value of a label.
pub(crate) fn is_label(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.len() <= 63 && edge(text.bytes().next()) && edge(text.bytes().last()) && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused_by_the_name_of_its_field() {
        let good = KubernetesConfig::new("image:1");
        good.check().expect("the defaults");
        let volume = |text: &str| KubernetesConfig { volumes: vec![text.into()], ..good.clone() };
        let toleration = |text: &str| KubernetesConfig { tolerations: vec![text.into()], ..good.clone() };
        let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        for (field, bad) in [
            ("image", KubernetesConfig::new("")),
            ("image", KubernetesConfig::new("two words")),
            ("python", KubernetesConfig { python: String::new(), ..good.clone() }),
            ("namespace", KubernetesConfig { namespace: Some("No".into()), ..good.clone() }),
            ("context", KubernetesConfig { context: Some(String::new()), ..good.clone() }),
            ("kubeconfig", KubernetesConfig { kubeconfig: Some("/no/such/file".into()), ..good.clone() }),
            ("priority_class", KubernetesConfig { priority_class: Some(String::new()), ..good.clone() }),
            (
                "image_pull_secrets",
                KubernetesConfig { image_pull_secrets: vec!["a_b".into()], ..good.clone() },
            ),
            ("tolerations[0]", toleration("a:Sometimes")),
            ("volumes[0]", volume("/only-one")),
            ("volumes[0]", volume("relative:/to")),
            ("volumes[0]", volume("pvc/data:to")),
            ("labels[\"team\"]", KubernetesConfig { labels: map("team", "a b"), ..good.clone() }),
            ("labels", KubernetesConfig { labels: map("procession.proc", "x"), ..good.clone() }),
            ("annotations", KubernetesConfig { annotations: map("procession.x", ""), ..good.clone() }),
            ("bind", KubernetesConfig { bind: Some("localhost".into()), ..good.clone() }),
            ("image_patience", KubernetesConfig { image_patience: -1.0, ..good.clone() }),
            ("launches_at_once", KubernetesConfig { launches_at_once: 0, ..good.clone() }),
            ("patch", KubernetesConfig { patch: serde_json::json!([1]), ..good.clone() }),
        ] {
            assert_eq!(bad.check().expect_err("it must be refused").field, field);
        }
    }

    #[test]
    fn a_misspelt_key_is_refused_and_not_ignored() {
        let error = serde_json::from_str::<KubernetesConfig>(r#"{"image": "a", "volume": []}"#);
        assert!(error.expect_err("misspelt").to_string().contains("volume"));
    }
}
