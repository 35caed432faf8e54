use serde_json::{Value, json};

use crate::config::is_name;

/// What a pod sees at a path.
#[derive(Debug, PartialEq)]
pub(crate) struct Mount {
    /// What it is, as a volume of a pod without its name.
    pub(crate) source: Value,
    pub(crate) target: String,
    pub(crate) read_only: bool,
}

impl Mount {
    /// `SOURCE:TARGET[:ro]`.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, read_only) = match parts[..] {
            [source, target] => (source, target, false),
            [source, target, "ro"] => (source, target, true),
            _ => return Err("give SOURCE:TARGET[:ro]"),
        };
        if !target.starts_with('/') {
            return Err("give SOURCE:TARGET[:ro]; the target is an absolute path in the container");
        }
        let source = if source.starts_with('/') {
            json!({"hostPath": {"path": source}})
        } else {
            let (kind, name) =
                source.split_once('/').map_or((source, None), |(kind, name)| (kind, Some(name)));
            match (kind, name) {
                ("pvc", Some(name)) if is_name(name) => json!({"persistentVolumeClaim": {"claimName": name}}),
                ("configmap", Some(name)) if is_name(name) => json!({"configMap": {"name": name}}),
                ("secret", Some(name)) if is_name(name) => json!({"secret": {"secretName": name}}),
                ("empty", None) => json!({"emptyDir": {}}),
                ("memory", None) => json!({"emptyDir": {"medium": "Memory"}}),
                ("memory", Some(size)) if !size.is_empty() => {
                    json!({"emptyDir": {"medium": "Memory", "sizeLimit": size}})
                }
                _ => {
                    return Err(
                        "the source is an absolute path of the node, pvc/NAME, configmap/NAME, secret/NAME, empty, memory or memory/SIZE",
                    );
                }
            }
        };
        Ok(Self { source, target: target.to_owned(), read_only })
    }
}

/// `key[=value][:effect]`, as a toleration of a pod.
pub(crate) fn toleration(text: &str) -> Result<Value, &'static str> {
    let (taint, effect) = text.split_once(':').map_or((text, None), |(taint, effect)| (taint, Some(effect)));
    let (key, value) = taint.split_once('=').map_or((taint, None), |(key, value)| (key, Some(value)));
    if key.is_empty() {
        return Err("give key[=value][:effect]");
    }
    let mut made = json!({"key": key, "operator": if value.is_some() { "Equal" } else { "Exists" }});
    if let Some(value) = value {
        made["value"] = json!(value);
    }
    match effect {
        None => {}
        Some("NoSchedule" | "PreferNoSchedule" | "NoExecute") => made["effect"] = json!(effect),
        Some(_) => return Err("the effect is NoSchedule, PreferNoSchedule or NoExecute"),
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_volume_has_its_way_to_be_written() {
        for (text, source, read_only) in [
            ("/data:/data:ro", json!({"hostPath": {"path": "/data"}}), true),
            ("pvc/a:/t", json!({"persistentVolumeClaim": {"claimName": "a"}}), false),
            ("configmap/a.b:/t", json!({"configMap": {"name": "a.b"}}), false),
            ("secret/a:/t:ro", json!({"secret": {"secretName": "a"}}), true),
            ("empty:/t", json!({"emptyDir": {}}), false),
            ("memory:/t", json!({"emptyDir": {"medium": "Memory"}}), false),
            ("memory/64Mi:/t", json!({"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}), false),
        ] {
            let mount = Mount::parse(text).expect(text);
            assert_eq!((mount.source, mount.read_only), (source, read_only), "{text}");
        }
        for bad in ["a", "/a:/b:rw", "pvc:/a", "pvc/:/a", "secret/A:/a", "memory/:/a", "/a:b"] {
            assert!(Mount::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tolerations_are_written_as_taints_are() {
        for (text, made) in [
            ("gpu", json!({"key": "gpu", "operator": "Exists"})),
            ("gpu:NoExecute", json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"})),
            (
                "gpu=a100:NoSchedule",
                json!({"key": "gpu", "operator": "Equal", "value": "a100", "effect": "NoSchedule"}),
            ),
        ] {
            assert_eq!(toleration(text), Ok(made), "{text}");
        }
        assert!(toleration("").is_err() && toleration("a:Never").is_err());
    }
}
