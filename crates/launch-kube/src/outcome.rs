use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;
use procession_model::{Eviction, ProcExitKind, ProcExitResult, ReportedExit};

use crate::request::CONTAINER;
use crate::stage::{node, state};

/// Runtimes give 128 + n for the end by signal n.
const SIGNALED: i32 = 128;
const LAST_SIGNAL: i32 = 64;
/// By these a runtime says that the program was never started.
const NEVER_STARTED: [&str; 3] = ["ContainerCannotRun", "StartError", "ContainerStartFailed"];

/// How a pod has ended. `asked`: whether its end was asked for by us.
pub(crate) fn outcome(pod: &Pod, asked: bool) -> ProcExitResult {
    let evicted = evicted(pod, asked);
    let why = why(pod);
    let Some(terminated) = state(pod).and_then(|state| state.terminated.as_ref()) else {
        return without_status(pod, asked, evicted, why);
    };
    let reason = terminated.reason.as_deref().unwrap_or_default();
    if NEVER_STARTED.contains(&reason) {
        let message = terminated.message.as_deref().unwrap_or("it could not be started");
        return ProcExitResult::failed(format!("{reason}: {}", message.trim_end()));
    }
    if reason == "ContainerStatusUnknown" {
        let reason = format!("node {} does not know how its container ended", shown_node(pod));
        return ProcExitResult { evicted, ..ProcExitResult::new(ProcExitKind::Lost { reason }) };
    }
    ProcExitResult { evicted, oom: oom(pod, reason), ..of_code(terminated, why) }
}

fn of_code(terminated: &ContainerStateTerminated, why: Option<String>) -> ProcExitResult {
    let code = terminated.exit_code;
    let folded = (code > SIGNALED && code <= SIGNALED + LAST_SIGNAL).then(|| code - SIGNALED);
    let signal = terminated.signal.filter(|signal| *signal > 0).or(folded);
    let kind = match signal {
        Some(signal) => ProcExitKind::Signaled { signal, core_dumped: false },
        None if (0..=255).contains(&code) => ProcExitKind::Exited { code },
        None => ProcExitKind::Exited { code: -1 },
    };
    let reported = ReportedExit { exit_code: Some(code), signal, core_dumped: false, failed_reason: why };
    ProcExitResult { reported: Some(reported), ..ProcExitResult::new(kind) }
}

/// Of a pod whose container has left no status, or was never made.
fn without_status(pod: &Pod, asked: bool, evicted: Option<Eviction>, why: Option<String>) -> ProcExitResult {
    let was_there = state(pod).is_some_and(|state| state.running.is_some());
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let was_deleted = pod.metadata.deletion_timestamp.is_some();
    let text = match &why {
        Some(why) => format!("pod {name}: {why}"),
        None if !was_deleted => format!("pod {name} has ended before its program had started{}", before(pod)),
        None if asked => format!("pod {name} was deleted before its program had started"),
        None => format!("somebody else deleted pod {name} before its program had started"),
    };
    let kind = if was_there || is_node_lost(pod) {
        let what = why.unwrap_or_else(|| "it was taken away before the end of its container was told".into());
        ProcExitKind::Lost { reason: format!("pod {name} on node {}: {what}", shown_node(pod)) }
    } else {
        ProcExitKind::Failed { reason: text }
    };
    ProcExitResult { evicted, ..ProcExitResult::new(kind) }
}

/// What of a pod has failed that comes before its program.
fn before(pod: &Pod) -> String {
    let all = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_deref());
    let ended = |status: &ContainerStatus| Some((status.name.clone(), status.state.clone()?.terminated?));
    let failed = all.unwrap_or_default().iter().filter_map(ended).find(|(_, end)| end.exit_code != 0);
    failed.map_or_else(String::new, |(name, end)| {
        let said = end.message.or(end.reason).unwrap_or_default();
        format!(": container {name} has ended with code {}: {}", end.exit_code, said.trim_end())
    })
}

/// For how long a pod is deleted that had `grace` then, by this machine's clock.
pub(crate) fn deleted_for(pod: &Pod, grace: Duration) -> Duration {
    let Some(until) = &pod.metadata.deletion_timestamp else { return Duration::ZERO };
    let since = Timestamp::now().duration_since(until.0);
    Duration::try_from(since).map_or(Duration::ZERO, |since| since + grace)
}

/// Of a pod that was deleted, and of which its node has said nothing since.
pub(crate) fn silent(pod: &Pod) -> ProcExitResult {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let reason = format!(
        "pod {name} was deleted, and its node {} does not say that it has ended: it may live on there",
        shown_node(pod)
    );
    ProcExitResult::new(ProcExitKind::Lost { reason })
}

/// Of a pod that ran, and has ended without a word on how.
pub(crate) fn untold(pod: &Pod, asked: bool) -> ProcExitResult {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let what = why(pod).unwrap_or_else(|| "its node has not told how its container ended".to_owned());
    let reason = format!("pod {name} on node {}: {what}", shown_node(pod));
    ProcExitResult { evicted: evicted(pod, asked), ..ProcExitResult::new(ProcExitKind::Lost { reason }) }
}

/// Of a pod that is gone, and was last seen so.
pub(crate) fn vanished(pod: &Pod, asked: bool) -> ProcExitResult {
    if state(pod).is_some_and(|state| state.terminated.is_some()) {
        return outcome(pod, asked);
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let reason = format!("pod {name} is gone: somebody has taken it away, its end was not seen");
    let evicted = evicted(pod, asked);
    ProcExitResult { evicted, ..ProcExitResult::new(ProcExitKind::Lost { reason }) }
}

fn shown_node(pod: &Pod) -> &str {
    node(pod).unwrap_or("none")
}

fn is_node_lost(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("NodeLost")
}

/// Why its place was taken away, where it was.
fn evicted(pod: &Pod, asked: bool) -> Option<Eviction> {
    let status = pod.status.as_ref();
    let disruption = status.and_then(|status| disruption(status)).map(|(reason, _)| reason);
    let reason = status.and_then(|status| status.reason.as_deref());
    match (disruption, reason) {
        (Some("PreemptionByScheduler" | "PreemptionByKubeScheduler"), _) => Some(Eviction::Preempted),
        (Some(_), _) => Some(Eviction::Evicted),
        (None, Some("Preempting" | "Preempted")) => Some(Eviction::Preempted),
        (None, Some("Evicted" | "Shutdown" | "NodeShutdown" | "Terminated")) => Some(Eviction::Evicted),
        (None, Some("DeadlineExceeded")) => Some(Eviction::TimeLimit),
        _ if !asked && pod.metadata.deletion_timestamp.is_some() => Some(Eviction::Deleted),
        _ => None,
    }
}

/// What Kubernetes says of it, beyond its container.
fn why(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let (reason, message) = match (&status.reason, disruption(status)) {
        (Some(reason), _) => (reason.as_str(), status.message.as_deref()),
        (None, Some(told)) => told,
        (None, None) => return None,
    };
    Some(match message.filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {}", message.trim_end()),
        None => reason.to_owned(),
    })
}

fn disruption(status: &PodStatus) -> Option<(&str, Option<&str>)> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let found = conditions.iter().find(|one| one.type_ == "DisruptionTarget" && one.status == "True")?;
    Some((found.reason.as_deref().unwrap_or("DisruptionTarget"), found.message.as_deref()))
}

/// Kubernetes looks at the container; of what has no limit it may not hear.
fn oom(pod: &Pod, reason: &str) -> Option<bool> {
    if reason == "OOMKilled" {
        return Some(true);
    }
    let containers = &pod.spec.as_ref()?.containers;
    let own = containers.iter().find(|container| container.name == CONTAINER)?;
    let limits = own.resources.as_ref()?.limits.as_ref()?;
    limits.contains_key("memory").then_some(false)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(terminated: Value, status: Value, meta: Value) -> Pod {
        let mut metadata = json!({"name": "p"});
        json_patch::merge(&mut metadata, &meta);
        let mut all = json!({"phase": "Failed", "containerStatuses": [{"name": "proc", "image": "i", "imageID": "",
            "ready": false, "restartCount": 0, "state": terminated}]});
        json_patch::merge(&mut all, &status);
        let spec = json!({"nodeName": "n1", "containers": [
            {"name": "proc", "image": "i", "resources": {"limits": {"memory": "1"}}}]});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": all})).expect("a pod")
    }

    fn ended(code: i32) -> Value {
        json!({"terminated": {"exitCode": code, "reason": "Error"}})
    }

    fn deleted() -> Value {
        json!({"deletionTimestamp": "2026-11-28T07:00:00Z", "deletionGracePeriodSeconds": 1})
    }

    #[test]
    fn what_a_container_ended_with_is_read_as_an_exit() {
        let exited = |code| ProcExitKind::Exited { code };
        let signaled = |signal| ProcExitKind::Signaled { signal, core_dumped: false };
        for (code, kind) in
            [(0, exited(0)), (7, exited(7)), (255, exited(255)), (137, signaled(9)), (143, signaled(15))]
        {
            let exit = outcome(&pod(ended(code), json!({}), json!({})), false);
            assert_eq!((exit.kind, exit.evicted, exit.oom), (kind, None, Some(false)), "{code}");
        }
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let exit = outcome(&pod(killed, json!({}), json!({})), false);
        assert_eq!((exit.kind, exit.oom), (signaled(9), Some(true)));
    }

    #[test]
    fn a_program_that_cannot_be_started_has_failed_in_the_words_of_the_runtime() {
        for reason in NEVER_STARTED {
            let state = json!({"terminated": {"exitCode": 128, "reason": reason, "message": "no such file"}});
            let exit = outcome(&pod(state, json!({}), json!({})), false);
            let ProcExitKind::Failed { reason: told } = exit.kind else { panic!("{reason}") };
            assert_eq!(told, format!("{reason}: no such file"));
        }
    }

    #[test]
    fn what_took_its_place_away_is_told_beside_how_it_ended() {
        let target = |reason: &str| json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "m"}]});
        let reason = |reason: &str| json!({"reason": reason, "message": "the node was low on memory"});
        for (status, evicted) in [
            (target("PreemptionByScheduler"), Eviction::Preempted),
            (target("EvictionByEvictionAPI"), Eviction::Evicted),
            (target("DeletionByTaintManager"), Eviction::Evicted),
            (target("TerminationByKubelet"), Eviction::Evicted),
            (reason("Evicted"), Eviction::Evicted),
            (reason("Preempting"), Eviction::Preempted),
            (reason("Shutdown"), Eviction::Evicted),
            (reason("DeadlineExceeded"), Eviction::TimeLimit),
        ] {
            let exit = outcome(&pod(ended(143), status.clone(), json!({})), false);
            assert_eq!(exit.evicted, Some(evicted), "{status}");
            assert!(exit.reported.is_some_and(|told| told.failed_reason.is_some()), "{status}");
        }
        let never = outcome(&pod(json!({}), reason("Evicted"), json!({})), false);
        assert_eq!(never.evicted, Some(Eviction::Evicted));
        assert!(matches!(never.kind, ProcExitKind::Failed { reason } if reason.contains("low on memory")));
    }

    #[test]
    fn whether_a_deletion_was_asked_for_by_us_is_told() {
        let gone = pod(ended(143), json!({}), deleted());
        assert_eq!(outcome(&gone, true).evicted, None);
        assert_eq!(outcome(&gone, false).evicted, Some(Eviction::Deleted));
        let never = pod(json!({"waiting": {}}), json!({}), deleted());
        let told = |asked| match outcome(&never, asked).kind {
            ProcExitKind::Failed { reason } => reason,
            other => panic!("{other:?}"),
        };
        assert!(told(false).contains("somebody else") && !told(true).contains("somebody else"));
    }

    #[test]
    fn what_fails_before_the_program_is_named_and_no_deletion_made_up() {
        let inits = json!({"initContainerStatuses": [{"name": "prepare", "image": "i", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]});
        let exit = outcome(&pod(json!({"waiting": {"reason": "PodInitializing"}}), inits, json!({})), false);
        let ProcExitKind::Failed { reason } = exit.kind else { panic!("{exit:?}") };
        assert!(reason.ends_with("had started: container prepare has ended with code 3: Error"), "{reason}");
    }

    #[test]
    fn for_how_long_a_pod_is_deleted_counts_from_the_deletion_and_not_from_the_end_of_its_grace() {
        let gone = pod(json!({"running": {}}), json!({}), deleted());
        let grace = Duration::from_secs(1);
        assert!(deleted_for(&gone, grace) > Duration::from_secs(1));
        let soon = json!({"deletionTimestamp": Timestamp::now() + Duration::from_secs(60)});
        assert_eq!(deleted_for(&pod(json!({}), json!({}), soon), grace), Duration::ZERO);
    }

    #[test]
    fn an_end_that_nobody_saw_is_lost_and_never_made_up() {
        let unknown = json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}});
        let running = pod(json!({"running": {}}), json!({"phase": "Running"}), deleted());
        for exit in [
            outcome(&pod(unknown, json!({}), json!({})), false),
            outcome(&running, false),
            outcome(&pod(json!({}), json!({"reason": "NodeLost", "message": "m"}), json!({})), false),
            silent(&running),
            untold(&running, true),
            vanished(&running, true),
        ] {
            assert!(matches!(exit.kind, ProcExitKind::Lost { .. }), "{exit:?}");
        }
        let known = vanished(&pod(ended(3), json!({}), json!({})), false);
        assert_eq!(known.kind, ProcExitKind::Exited { code: 3 });
    }
}
