use k8s_openapi::api::core::v1::Pod;
use procession_launch::Signal;

use crate::stage::{Stage, node};

/// Who gets a signal that is for all of a pod: process 1 is not meant by -1, and is the program itself where the pod has none of its
/// own; it is always there, and comes last, so that whether it got it is what a shell tells. Nobody where nothing runs, or where -1 would be all of the node.
pub(crate) fn whom(pod: &Pod) -> &'static [i32] {
    let spec = pod.spec.as_ref();
    let is_of_node = spec.and_then(|spec| spec.host_pid) == Some(true);
    // A kubelet may not have said yet that it runs.
    if node(pod).is_none() || Stage::of(pod) == Stage::Ended || is_of_node {
        return &[];
    }
    if spec.and_then(|spec| spec.share_process_namespace) == Some(true) { &[-1] } else { &[-1, 1] }
}

/// The commands that send a signal, of which an image may have one.
pub(crate) fn tellers(python: &str, signal: Signal, whom: &[i32]) -> [Vec<String>; 2] {
    let number = signal.number();
    let shell: Vec<String> = whom.iter().map(|pid| format!("kill -{number} {pid}")).collect();
    let send = format!("  try: os.kill(pid, {number})\n  except ProcessLookupError: pass");
    let script = format!("import os\nfor pid in {whom:?}:\n{send}");
    [
        vec!["/bin/sh".to_owned(), "-c".to_owned(), shell.join("; ")],
        vec![python.to_owned(), "-ISc".to_owned(), script],
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn signals_are_for_all_of_a_pod_and_never_for_all_of_a_node() {
        let found = |spec: Value, state: Value| {
            let status = json!({"containerStatuses": [{"name": "proc", "image": "i", "imageID": "", "ready": true,
                "restartCount": 0, "state": state}]});
            let mut all = json!({"nodeName": "n1", "containers": [{"name": "proc"}]});
            json_patch::merge(&mut all, &spec);
            whom(&serde_json::from_value(json!({"spec": all, "status": status})).expect("a pod"))
        };
        let runs = || json!({"running": {}});
        assert_eq!(found(json!({"shareProcessNamespace": true}), runs()), [-1]);
        assert_eq!(found(json!({"shareProcessNamespace": false}), runs()), [-1, 1]);
        assert_eq!(found(json!({"hostPID": true}), runs()), [0; 0]);
        assert_eq!(
            found(json!({"shareProcessNamespace": true}), json!({"terminated": {"exitCode": 0}})),
            [0; 0]
        );
        assert_eq!(found(json!({"shareProcessNamespace": true}), json!({"waiting": {}})), [-1]);
        assert_eq!(found(json!({"nodeName": null}), json!({})), [0; 0]);
        let [shell, python] = tellers("py", Signal::Terminate, &[-1, 1]);
        assert_eq!(shell[2], "kill -15 -1; kill -15 1");
        assert_eq!((&*python[0], &*python[1]), ("py", "-ISc"));
        let script =
            "import os\nfor pid in [-1, 1]:\n  try: os.kill(pid, 15)\n  except ProcessLookupError: pass";
        assert_eq!(python[2], script);
    }
}
