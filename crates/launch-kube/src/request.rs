use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use procession_launch::{Labels, ProcLauncherError};
use procession_model::{LaunchOptions, ProcId};
use serde_json::{Map, Value, json};

use crate::KubernetesConfig;
use crate::config::is_label;
use crate::mounts::{Mount, toleration};

/// The container that the program runs in.
pub(crate) const CONTAINER: &str = "proc";
/// What keeps a pod that was deleted until its end was read.
pub(crate) const FINALIZER: &str = "procession/exit";
/// The label by which a launcher watches its own.
pub(crate) const LAUNCHER: &str = "procession.launcher";
/// How long a pod has that somebody else deletes, or a node that shuts down.
const GRACE_SECONDS: u32 = 30;

/// What is asked of the cluster for one proc.
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) pod: Value,
    /// The environment of the proc, which pods show to everybody who may list them.
    pub(crate) secret: Value,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("pod", &self.pod).finish_non_exhaustive()
    }
}

pub(crate) fn request(
    config: &KubernetesConfig,
    launcher: &str,
    proc_id: &ProcId,
    options: &LaunchOptions,
) -> Result<Request, ProcLauncherError> {
    let command = &options.command;
    let refused = |text: String| Err(ProcLauncherError::Other(text));
    if command.clear_env {
        return refused("clear_env: containers have the environment of their image; leave it out".to_owned());
    }
    if let Some(name) = command.env_remove.first() {
        return refused(format!(
            "env={{{name:?}: None}}: a pod cannot take a variable of its image away; set it to \"\""
        ));
    }
    let variables: BTreeMap<String, String> = options.variables().into_iter().collect();
    if let Some(name) = variables.keys().find(|name| !is_variable(name)) {
        let rule = "names of variables are letters, digits, _, - and . here, and do not begin with a digit";
        return refused(format!("env = {name:?}: {rule}"));
    }
    let name = proc_id.safe_name();
    let pod = patched(pod(config, launcher, proc_id, options, &name)?, &config.patch)?;
    let labels = &pod["metadata"]["labels"];
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels, "annotations": pod["metadata"]["annotations"]},
        "stringData": variables,
    });
    Ok(Request { name, pod, secret })
}

fn pod(
    config: &KubernetesConfig,
    launcher: &str,
    proc_id: &ProcId,
    options: &LaunchOptions,
    name: &str,
) -> Result<Value, ProcLauncherError> {
    let command = &options.command;
    let program = match &command.preload {
        // A proc of our Python runtime: the image has an interpreter of its own.
        Some(_) => config.python.clone(),
        None => text("program", &command.program)?,
    };
    let mut container = json!({
        "name": CONTAINER,
        "image": config.image,
        // The image's own entry point would be another program.
        "command": [literal(&program)],
        "args": command.args.iter().map(|argument| literal(argument)).collect::<Vec<_>>(),
        "envFrom": [{"secretRef": {"name": name}}],
        "resources": resources(config, options),
    });
    let mut spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "shareProcessNamespace": config.init,
        "enableServiceLinks": false,
        "automountServiceAccountToken": config.service_account.is_some(),
    });
    if let Some(cwd) = &command.cwd {
        container["workingDir"] = json!(text("cwd", cwd)?);
    }
    if let Some(policy) = &config.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if let Some(user) = &command.confinement.user {
        container["securityContext"] = json!({"runAsUser": user.uid, "runAsGroup": user.gid});
        spec["securityContext"] = json!({"supplementalGroups": user.groups});
    }
    mount(config, &mut spec, &mut container)?;
    for (field, name) in [
        ("serviceAccountName", &config.service_account),
        ("priorityClassName", &config.priority_class),
        ("runtimeClassName", &config.runtime_class),
    ] {
        if let Some(name) = name {
            spec[field] = json!(name);
        }
    }
    if !config.node_selector.is_empty() {
        spec["nodeSelector"] = json!(config.node_selector);
    }
    if !config.image_pull_secrets.is_empty() {
        let secrets = config.image_pull_secrets.iter().map(|name| json!({"name": name}));
        spec["imagePullSecrets"] = secrets.collect();
    }
    if !config.tolerations.is_empty() {
        let tolerations = config.tolerations.iter().map(|text| toleration(text));
        spec["tolerations"] = tolerations.collect::<Result<_, _>>().map_err(other)?;
    }
    spec["containers"] = json!([container]);
    let own = Labels::of(proc_id, options);
    let (mut labels, mut annotations) = (config.labels.clone(), config.annotations.clone());
    labels.insert(LAUNCHER.to_owned(), launcher.to_owned());
    for (key, value) in own.pairs() {
        annotations.insert(key.to_owned(), value.to_owned());
        // Not all that we say is short enough, or of the letters that labels may have.
        if is_label(value) {
            labels.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "annotations": annotations, "finalizers": [FINALIZER]},
        "spec": spec,
    }))
}

fn resources(config: &KubernetesConfig, options: &LaunchOptions) -> Value {
    let asked = &options.command.confinement.resources;
    let mut limits = Map::new();
    if let Some(bytes) = asked.memory {
        limits.insert("memory".to_owned(), json!(bytes.to_string()));
    }
    if let Some(millis) = asked.cpu_millis {
        limits.insert("cpu".to_owned(), json!(format!("{millis}m")));
    }
    if config.gpus > 0 {
        limits.insert("nvidia.com/gpu".to_owned(), json!(config.gpus.to_string()));
    }
    // What is not requested otherwise is requested as it is limited.
    json!({"limits": limits})
}

fn mount(
    config: &KubernetesConfig,
    spec: &mut Value,
    container: &mut Value,
) -> Result<(), ProcLauncherError> {
    if config.volumes.is_empty() {
        return Ok(());
    }
    let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
    for (at, volume) in config.volumes.iter().enumerate() {
        let Mount { mut source, target, read_only } = Mount::parse(volume).map_err(other)?;
        let name = format!("volume-{at}");
        source["name"] = json!(name);
        volumes.push(source);
        mounts.push(json!({"name": name, "mountPath": target, "readOnly": read_only}));
    }
    spec["volumes"] = json!(volumes);
    container["volumeMounts"] = json!(mounts);
    Ok(())
}

fn other(rule: &str) -> ProcLauncherError {
    ProcLauncherError::Other(rule.to_owned())
}

/// As the kubelet reads it, which puts variables in the place of `$(NAME)`.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

fn is_variable(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    name.bytes().all(inner) && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

fn text(field: &str, given: &Path) -> Result<String, ProcLauncherError> {
    given.to_str().map(str::to_owned).ok_or_else(|| {
        ProcLauncherError::Other(format!("{field} {given:?} is not valid UTF-8, which the API is; rename it"))
    })
}

/// What of a pod is told by its name, where a merge patch would replace all of it.
const NAMED: [&str; 2] = ["containers", "volumes"];

/// What no patch may change.
const OWN: [&str; 4] = [
    "/metadata/name",
    "/metadata/labels/procession.launcher",
    "/metadata/annotations/procession.proc",
    "/spec/restartPolicy",
];

fn patched(own: Value, patch: &Value) -> Result<Value, ProcLauncherError> {
    if patch.is_null() {
        return Ok(own);
    }
    let mut pod = own.clone();
    let mut plain = patch.clone();
    if let Some(spec) = plain.get_mut("spec").and_then(Value::as_object_mut) {
        for field in NAMED {
            if let Some(Value::Array(changes)) = spec.get(field) {
                merge_named(&mut pod["spec"][field], changes.clone());
                spec.remove(field);
            }
        }
    }
    json_patch::merge(&mut pod, &plain);
    let refused = |why: String| {
        ProcLauncherError::Other(format!("patch = {patch}: no pod of ours comes out of it: {why}"))
    };
    let read: Pod = serde_json::from_value(pod.clone()).map_err(|error| refused(error.to_string()))?;
    let containers = read.spec.map(|spec| spec.containers).unwrap_or_default();
    if !containers.iter().any(|container| container.name == CONTAINER) {
        return Err(refused(format!("it has no container {CONTAINER:?}")));
    }
    if !read.metadata.finalizers.is_some_and(|all| all.iter().any(|one| one == FINALIZER)) {
        return Err(refused(format!("it has no finalizer {FINALIZER:?}")));
    }
    // By these it is found again, and ends once.
    for path in OWN {
        let (now, then) = (pod.pointer(path), own.pointer(path));
        if now != then {
            let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
            return Err(refused(format!("its {path} is {} and has to stay {}", shown(now), shown(then))));
        }
    }
    Ok(pod)
}

fn merge_named(list: &mut Value, changes: Vec<Value>) {
    if !list.is_array() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return };
    for change in changes {
        match list.iter_mut().find(|one| one["name"] == change["name"]) {
            Some(one) => json_patch::merge(one, &change),
            None => list.push(change),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use procession_model::{BootstrapCommand, HostId, Resources, User};

    use super::*;

    fn options(command: BootstrapCommand) -> LaunchOptions {
        LaunchOptions {
            bootstrap_payload: "canary".into(),
            process_name: "p @ h".into(),
            command,
            want_stdio: true,
            tail_lines: 1,
            log_channel: None,
            detach: false,
            lease: Duration::from_secs(30),
            output: None,
        }
    }

    fn made(config: &KubernetesConfig, command: BootstrapCommand) -> Result<Request, ProcLauncherError> {
        let proc_id = ProcId::fresh("Worker_0", &HostId::fresh("m")).expect("an id");
        request(config, "l1", &proc_id, &options(command))
    }

    #[test]
    fn a_pod_has_what_was_asked_for_and_none_of_its_environment() {
        let mut command = BootstrapCommand::new("/bin/echo");
        command.args = vec!["$(HOME) $$".into()];
        command.env = HashMap::from([("KEY".into(), "canary".into())]);
        command.cwd = Some("/srv".into());
        command.confinement.resources =
            Resources { memory: Some(1 << 20), pids: None, cpu_millis: Some(1500) };
        command.confinement.user = Some(User { uid: 7, gid: 8, groups: vec![8, 9] });
        let config = KubernetesConfig {
            gpus: 2,
            tolerations: vec!["gpu:NoSchedule".into()],
            volumes: vec!["pvc/data:/data:ro".into()],
            service_account: Some("runner".into()),
            ..KubernetesConfig::new("image:1")
        };
        let Request { name, pod, secret } = made(&config, command).expect("a pod");
        assert!(!pod.to_string().contains("canary"));
        assert_eq!(secret["stringData"]["KEY"], "canary");
        assert_eq!(secret["metadata"]["name"], json!(name));
        let (spec, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
        assert_eq!(spec["restartPolicy"], "Never");
        assert_eq!(spec["automountServiceAccountToken"], true);
        assert_eq!(spec["tolerations"][0]["key"], "gpu");
        assert_eq!(spec["volumes"][0]["persistentVolumeClaim"]["claimName"], "data");
        assert_eq!(spec["securityContext"]["supplementalGroups"], json!([8, 9]));
        assert_eq!(container["args"], json!(["$$(HOME) $$$$"]));
        assert_eq!(container["workingDir"], "/srv");
        let limits = json!({"memory": "1048576", "cpu": "1500m", "nvidia.com/gpu": "2"});
        assert_eq!(container["resources"]["limits"], limits);
        let (labels, annotations) = (&pod["metadata"]["labels"], &pod["metadata"]["annotations"]);
        assert_eq!(labels[LAUNCHER], "l1");
        assert_eq!(labels[Labels::INCARNATION], annotations[Labels::INCARNATION]);
        assert!(labels[Labels::PROC].is_null(), "it is too long, and has an @");
        assert!(annotations[Labels::PROC].as_str().is_some_and(|text| text.starts_with("Worker_0.")));
        serde_json::from_value::<Pod>(pod).expect("as the API reads it");
    }

    #[test]
    fn a_patch_changes_containers_and_volumes_by_their_names() {
        let patch = json!({"spec": {"hostNetwork": true, "containers": [
            {"name": "proc", "tty": true}, {"name": "beside", "image": "other"}]}});
        let config = KubernetesConfig { patch, ..KubernetesConfig::new("image:1") };
        let pod = made(&config, BootstrapCommand::new("a")).expect("a pod").pod;
        assert_eq!(pod["spec"]["hostNetwork"], true);
        assert_eq!(pod["spec"]["containers"][0]["image"], "image:1");
        assert_eq!(pod["spec"]["containers"][0]["tty"], true);
        assert_eq!(pod["spec"]["containers"][1]["name"], "beside");
        for patch in [
            json!({"spec": {"restartPolicy": 3}}),
            json!({"metadata": {"finalizers": null}}),
            json!({"spec": {"containers": null}}),
            json!({"metadata": {"name": "mine"}}),
            json!({"metadata": {"labels": null}}),
            json!({"metadata": {"annotations": {"procession.proc": "mine"}}}),
            json!({"spec": {"restartPolicy": "Always"}}),
        ] {
            let config = KubernetesConfig { patch, ..KubernetesConfig::new("image:1") };
            let error = made(&config, BootstrapCommand::new("a")).expect_err("no pod").to_string();
            assert!(error.starts_with("patch = "), "{error}");
        }
    }

    #[test]
    fn what_a_pod_cannot_have_is_refused_by_its_name() {
        let config = KubernetesConfig::new("image:1");
        let error = |change: fn(&mut BootstrapCommand)| {
            let mut command = BootstrapCommand::new("a");
            change(&mut command);
            made(&config, command).expect_err("it must be refused").to_string()
        };
        assert!(error(|command| command.clear_env = true).contains("clear_env"));
        assert!(error(|command| command.env_remove.push("HOME".into())).contains("HOME"));
        assert!(error(|command| drop(command.env.insert("1A".into(), String::new()))).contains("1A"));
    }
}
