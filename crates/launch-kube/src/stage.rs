use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};

use crate::request::CONTAINER;

/// What does not get better by itself.
const HOPELESS: [&str; 2] = ["InvalidImageName", "ErrImageNeverPull"];
/// What may get better, or may not.
const STUCK: [&str; 9] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
    "CreatePodSandboxError",
    "RunContainerError",
    "PostStartHookError",
];

/// How far a pod has come.
#[derive(Debug, PartialEq)]
pub(crate) enum Stage {
    /// It waits; for what, for people.
    Waits(String),
    /// Its container cannot be made.
    Stuck { why: String, hopeless: bool },
    /// The program runs.
    Runs,
    /// It has ended, or never will run.
    Ended,
}

impl Stage {
    pub(crate) fn of(pod: &Pod) -> Self {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let state = state(pod);
        if state.is_some_and(|state| state.terminated.is_some()) {
            return Self::Ended;
        }
        // Its phase may be told before its container has ended.
        if state.is_some_and(|state| state.running.is_some()) {
            return Self::Runs;
        }
        if is_over(pod) {
            return Self::Ended;
        }
        let Some(node) = node(pod) else {
            return Self::Waits(format!("pending: pod {name}: {}", unscheduled(pod)));
        };
        let holds_up = stuck_before(pod).or(container(pod));
        let waiting = holds_up.and_then(|status| status.state.as_ref()?.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or("not begun");
        let message = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
        let image = holds_up.map(|container| container.image.as_str()).unwrap_or_default();
        let image = Some(image).filter(|image| !image.is_empty()).or(spec_image(pod)).unwrap_or_default();
        let shown = format!("pod {name} on node {node}, image {image}: {reason}");
        let shown = if message.is_empty() { shown } else { format!("{shown}: {message}") };
        let hopeless = HOPELESS.contains(&reason);
        if hopeless || STUCK.contains(&reason) {
            return Self::Stuck { why: shown, hopeless };
        }
        Self::Waits(shown)
    }
}

/// What is to run before the program, and cannot be made.
fn stuck_before(pod: &Pod) -> Option<&ContainerStatus> {
    let is_stuck = |status: &&ContainerStatus| {
        let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        reason.is_some_and(|reason| STUCK.contains(&reason) || HOPELESS.contains(&reason))
    };
    pod.status.as_ref()?.init_container_statuses.as_ref()?.iter().find(is_stuck)
}

/// Whether nothing of it will run any more, of a pod whose container does not run.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let meta = &pod.metadata;
    // A node says that it is done with a deleted pod by deleting it once more, at once.
    let is_confirmed = node(pod).is_none() || meta.deletion_grace_period_seconds == Some(0);
    matches!(phase, Some("Succeeded" | "Failed")) || (meta.deletion_timestamp.is_some() && is_confirmed)
}

/// What is known of the container of the proc.
pub(crate) fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    all.iter().find(|status| status.name == CONTAINER)
}

pub(crate) fn state(pod: &Pod) -> Option<&ContainerState> {
    container(pod)?.state.as_ref()
}

/// Whether it is told how its container ended.
pub(crate) fn has_status(pod: &Pod) -> bool {
    state(pod).is_some_and(|state| state.terminated.is_some())
}

pub(crate) fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

fn spec_image(pod: &Pod) -> Option<&str> {
    let containers = &pod.spec.as_ref()?.containers;
    containers.iter().find(|container| container.name == CONTAINER)?.image.as_deref()
}

/// Why it has no node.
fn unscheduled(pod: &Pod) -> String {
    let conditions = pod.status.as_ref().and_then(|status: &PodStatus| status.conditions.as_deref());
    let found = conditions.unwrap_or_default().iter().find(|one| one.type_ == "PodScheduled");
    let Some(condition) = found.filter(|one| one.status == "False") else {
        return "no node yet".to_owned();
    };
    let reason = condition.reason.as_deref().unwrap_or("Unschedulable");
    match condition.message.as_deref() {
        Some(message) if !message.is_empty() => format!("{reason}: {message}"),
        _ => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(node: Option<&str>, status: Value, meta: Value) -> Pod {
        let mut metadata = json!({"name": "p"});
        json_patch::merge(&mut metadata, &meta);
        let spec = json!({"nodeName": node, "containers": [{"name": "proc", "image": "image:1"}]});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).expect("a pod")
    }

    fn with(state: Value) -> Value {
        json!({"phase": "Pending", "containerStatuses": [
            {"name": "beside", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
            {"name": "proc", "image": "image:1", "imageID": "", "ready": false, "restartCount": 0, "state": state}]})
    }

    #[test]
    fn what_a_pod_waits_for_is_told_in_the_words_of_the_scheduler_and_the_kubelet() {
        let waits = |pod: &Pod| match Stage::of(pod) {
            Stage::Waits(text) => text,
            other => panic!("{other:?}"),
        };
        let unschedulable = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}]});
        let text = waits(&pod(None, unschedulable, json!({})));
        assert_eq!(text, "pending: pod p: Unschedulable: 0/1 nodes are available");
        assert_eq!(waits(&pod(None, json!({}), json!({}))), "pending: pod p: no node yet");
        let creating = with(json!({"waiting": {"reason": "ContainerCreating"}}));
        let text = waits(&pod(Some("n1"), creating, json!({})));
        assert_eq!(text, "pod p on node n1, image image:1: ContainerCreating");
    }

    #[test]
    fn an_image_that_does_not_come_is_told_with_its_name() {
        for (reason, is_hopeless) in [("ImagePullBackOff", false), ("InvalidImageName", true)] {
            let waiting = with(json!({"waiting": {"reason": reason, "message": "no such image"}}));
            let Stage::Stuck { why, hopeless } = Stage::of(&pod(Some("n1"), waiting, json!({}))) else {
                panic!("{reason}")
            };
            assert_eq!(hopeless, is_hopeless);
            assert!(why.contains("image:1") && why.ends_with("no such image"), "{why}");
        }
        let mut before = with(json!({"waiting": {"reason": "PodInitializing"}}));
        before["initContainerStatuses"] = json!([{"name": "prepare", "image": "other:2", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull"}}}]);
        let stage = Stage::of(&pod(Some("n1"), before, json!({})));
        assert!(matches!(&stage, Stage::Stuck { why, .. } if why.contains("other:2")), "{stage:?}");
    }

    #[test]
    fn a_pod_runs_and_ends_with_the_container_of_the_proc() {
        let running = || with(json!({"running": {}}));
        assert_eq!(Stage::of(&pod(Some("n1"), running(), json!({}))), Stage::Runs);
        let ended = with(json!({"terminated": {"exitCode": 0}}));
        assert_eq!(Stage::of(&pod(Some("n1"), ended, json!({}))), Stage::Ended);
        let mut evicted = running();
        evicted["phase"] = json!("Failed");
        assert_eq!(Stage::of(&pod(Some("n1"), evicted, json!({}))), Stage::Runs, "it still does");
        assert_eq!(Stage::of(&pod(Some("n1"), json!({"phase": "Failed"}), json!({}))), Stage::Ended);
    }

    #[test]
    fn a_deleted_pod_has_ended_when_its_node_says_so_or_when_it_has_none() {
        let deleted = |grace: u32| json!({"deletionTimestamp": "2026-11-28T07:00:00Z", "deletionGracePeriodSeconds": grace});
        let waiting = || with(json!({"waiting": {"reason": "ContainerCreating"}}));
        assert!(matches!(Stage::of(&pod(Some("n1"), waiting(), deleted(1))), Stage::Waits(_)));
        assert_eq!(Stage::of(&pod(Some("n1"), waiting(), deleted(0))), Stage::Ended);
        assert_eq!(Stage::of(&pod(Some("n1"), with(json!({"running": {}})), deleted(0))), Stage::Runs);
        assert_eq!(Stage::of(&pod(None, json!({"phase": "Pending"}), deleted(0))), Stage::Ended);
    }
}
