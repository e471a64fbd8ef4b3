//! What a person reads when a pod does not do what it should: reasons and
//! messages of containers' states, and events.

use crate::support::{LONG, lines, sh, until};
use anyhow::{Context, Result, ensure};
use cricket_kubelet_tests::{Container, IMAGE, Kubelet, Node, peer};
use cricket_testkit::leaks;
use serde_json::{Value, json};

/// A registry at whose address nobody listens: port 9 of loopback is discard's.
const DOWN: &str = "127.0.0.1:9/any/thing:1";
/// What no registry has.
const UNKNOWN: &str = "docker.io/nobody/nothing:1";

#[tokio::test]
async fn failures_say_why() -> Result<()> {
    let node = Node::start().await?;
    let shared = node.shared();
    let pods: [(&str, Value); 10] = [
        ("unknown", container(json!({ "image": UNKNOWN }))),
        ("down", container(json!({ "image": DOWN }))),
        (
            "crash",
            container(json!({
                "command": sh("echo before; sleep 0.3; echo the last words >&2; exit 3"),
                "terminationMessagePolicy": "FallbackToLogsOnError",
            })),
        ),
        ("no-command", container(json!({ "command": ["/no/such/command"] }))),
        (
            "memory",
            once(json!({
                "command": ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"],
                "resources": { "limits": { "memory": "32Mi" } },
            })),
        ),
        ("once", once(json!({ "command": sh("echo 42 >/dev/termination-log; exit 42") }))),
        (
            "post-start",
            container(json!({
                "command": ["sleep", "3600"],
                "lifecycle": { "postStart": { "exec": { "command": ["/no/hook"] } } },
            })),
        ),
        (
            "pre-stop",
            container(json!({
                "command": sh("trap 'echo TERM >>/shared/pre-stop; exit 0' TERM; while :; do sleep 0.1; done"),
                "lifecycle": { "preStop": { "exec": { "command": ["sh", "-c", "echo no luck >&2; exit 5"] } } },
                "volumeMounts": [{ "name": "shared", "mountPath": "/shared" }],
            })),
        ),
        (
            "slow",
            container(json!({
                "command": sh("trap 'exit 0' TERM; while :; do sleep 0.1; done"),
                "readinessProbe": { "exec": { "command": ["sleep", "3333"] }, "periodSeconds": 1, "timeoutSeconds": 1 },
            })),
        ),
        (
            "probed",
            container(json!({
                "command": sh("trap 'exit 6' TERM; while :; do sleep 0.1; done"),
                "livenessProbe": {
                    "exec": { "command": sh("echo not well; exit 1") },
                    "periodSeconds": 1, "failureThreshold": 2,
                },
            })),
        ),
    ];
    for (name, mut spec) in pods {
        spec["volumes"] = json!([{ "name": "shared", "hostPath": { "path": shared } }]);
        // The hook fails at once. As an init, a process would ignore the signal until it has a handler.
        spec["hostPID"] = json!(name == "post-start");
        node.kubelet.add(name, &spec)?;
    }

    node.kubelet.wait_ready("pre-stop", LONG).await?;
    node.kubelet.delete("pre-stop")?;
    pulls(&node.kubelet).await?;
    ends(&node.kubelet).await?;
    starts(&node.kubelet).await?;
    hooks(&node.kubelet).await?;
    probes(&node.kubelet).await?;

    // A hook that fails does not keep the signal from coming.
    until("TERM after the hook", LONG, || lines(&shared.join("pre-stop")) == ["TERM"]).await?;
    node.finish().await
}

fn container(mut fields: Value) -> Value {
    fields["name"] = json!("c");
    if fields["image"].is_null() {
        fields["image"] = json!(IMAGE);
    }
    json!({ "terminationGracePeriodSeconds": 2, "containers": [fields] })
}

fn once(fields: Value) -> Value {
    let mut spec = container(fields);
    spec["restartPolicy"] = json!("Never");
    spec
}

/// Images that cannot be pulled.
async fn pulls(kubelet: &Kubelet) -> Result<()> {
    let (_, message) = waiting(kubelet, "unknown", &["ErrImagePull"]).await?;
    ensure!(message.contains(UNKNOWN) && contains(&message, "not found"), "{message}");
    kubelet.wait_event("unknown", "Failed", "Error: ErrImagePull", LONG).await?;
    let event = kubelet.wait_event("unknown", "Failed", "Failed to pull image", LONG).await?;
    ensure!(event.kind == "Warning" && event.field == "spec.containers{c}", "{event:?}");
    ensure!(event.message.contains(UNKNOWN) && contains(&event.message, "not found"), "{event:?}");
    let (_, message) = waiting(kubelet, "unknown", &["ImagePullBackOff"]).await?;
    ensure!(message.starts_with("Back-off pulling image") && contains(&message, "not found"), "{message}");
    kubelet.wait_event("unknown", "BackOff", &format!("Back-off pulling image \"{UNKNOWN}\""), LONG).await?;

    // containerd tells a kubelet no more than that the pull failed.
    let reason = if peer() { "ErrImagePull" } else { "RegistryUnavailable" };
    let (_, message) = waiting(kubelet, "down", &[reason]).await?;
    ensure!(message.contains("127.0.0.1:9") && contains(&message, "connection refused"), "{message}");
    if !peer() {
        let expected = format!("image pull failed for {DOWN} because the registry is unavailable: ");
        ensure!(message.starts_with(&expected), "{message}");
    }
    waiting(kubelet, "down", &["ImagePullBackOff"]).await?;
    Ok(())
}

/// Processes that end.
async fn ends(kubelet: &Kubelet) -> Result<()> {
    let (state, message) = waiting(kubelet, "crash", &["CrashLoopBackOff"]).await?;
    ensure!(message.starts_with("back-off "), "{message}");
    let last = state.last.as_ref().context("no last state")?;
    ensure!((last.code, last.reason.as_str()) == (3, "Error"), "{last:?}");
    ensure!(last.message == "before\nthe last words\n", "{last:?}");
    ensure!(last.started.is_some() && last.started <= last.finished, "{last:?}");
    let again = |now: &Container| (now.restarts > state.restarts.max(2)).then(|| now.clone());
    let later = wait(kubelet, "crash", "three restarts", again).await?;
    ensure!(later.last.as_ref().or(later.ended.as_ref()).is_some_and(|exit| exit.code == 3), "{later:#?}");
    ensure!(later.id != state.id, "{later:#?}");
    kubelet.wait_event("crash", "BackOff", "Back-off restarting failed container c in pod crash-", LONG).await?;

    let ended = |state: &Container| state.ended.clone();
    let exit = wait(kubelet, "memory", "the end", ended).await?;
    ensure!((exit.code, exit.reason.as_str()) == (137, "OOMKilled"), "{exit:?}");
    let exit = wait(kubelet, "once", "the end", ended).await?;
    ensure!((exit.code, exit.reason.as_str(), exit.message.as_str()) == (42, "Error", "42\n"), "{exit:?}");
    let phase = kubelet.wait("once", "the phase", LONG, |pod| (pod.phase == "Failed").then_some(())).await;
    phase.context("a pod that is not restarted has failed")
}

/// A process that cannot be started.
async fn starts(kubelet: &Kubelet) -> Result<()> {
    let (_, message) = waiting(kubelet, "no-command", &["RunContainerError", "CrashLoopBackOff"]).await?;
    let event = kubelet.wait_event("no-command", "Failed", "Error: ", LONG).await?;
    ensure!(event.message.contains("/no/such/command"), "{event:?}");
    ensure!(contains(&event.message, "no such file or directory"), "{event:?}, {message}");
    let last = |state: &Container| state.last.clone().or_else(|| state.ended.clone());
    let last = wait(kubelet, "no-command", "the last state", last).await?;
    ensure!((last.code, last.reason.as_str()) == (128, "StartError"), "{last:?}");
    ensure!(last.message.contains("/no/such/command"), "{last:?}");
    ensure!(contains(&last.message, "no such file or directory"), "{last:?}");
    wait(kubelet, "no-command", "a restart", |state| (state.restarts >= 1).then_some(())).await
}

/// Hooks that fail.
async fn hooks(kubelet: &Kubelet) -> Result<()> {
    let event = kubelet.wait_event("post-start", "FailedPostStartHook", "PostStartHook failed", LONG).await?;
    ensure!(event.kind == "Warning" && event.field == "spec.containers{c}", "{event:?}");
    let killing = kubelet.wait_event("post-start", "Killing", "FailedPostStartHook", LONG).await?;
    ensure!(killing.kind == "Normal", "{killing:?}");
    let (state, message) = waiting(kubelet, "post-start", &["PostStartHookError", "CrashLoopBackOff"]).await?;
    let why = cause(kubelet, "Exec lifecycle hook ([/no/hook]) for Container \"c\"")?;
    ensure!(contains(&why, "/no/hook") && contains(&why, "no such file or directory"), "{why}, {message}");
    if !peer() {
        // As a shell says it: containerd's answer is an error of the call instead.
        ensure!(why.contains("exited with 127"), "{why}");
    }
    // Its process was asked to end, and did.
    let exit = |state: &Container| state.last.clone().or_else(|| state.ended.clone());
    let exit = wait(kubelet, "post-start", "the end", exit).await?;
    ensure!((exit.code, exit.reason.as_str()) == (143, "Error"), "{exit:?}, {state:#?}");

    let event = kubelet.wait_event("pre-stop", "FailedPreStopHook", "PreStopHook failed", LONG).await?;
    ensure!(event.kind == "Warning" && event.field == "spec.containers{c}", "{event:?}");
    let why = cause(kubelet, "exited with 5")?;
    ensure!(why.contains("no luck"), "{why}");
    Ok(())
}

/// Probes that fail.
async fn probes(kubelet: &Kubelet) -> Result<()> {
    let event = kubelet.wait_event("probed", "Unhealthy", "Liveness probe failed: not well", LONG).await?;
    ensure!(event.kind == "Warning", "{event:?}");
    kubelet.wait_event("probed", "Killing", "Container c failed liveness probe, will be restarted", LONG).await?;
    let restarted = |state: &Container| (state.restarts >= 1).then(|| state.last.clone()).flatten();
    let last = wait(kubelet, "probed", "a restart", restarted).await?;
    ensure!((last.code, last.reason.as_str()) == (6, "Error"), "{last:?}");

    let event = kubelet.wait_event("slow", "Unhealthy", "Readiness probe failed: ", LONG).await?;
    ensure!(event.message.contains("timed out"), "{event:?}");
    // It is ended, and not only given up: at most the next one runs.
    let mark = kubelet.node().trim_start_matches("node-");
    let sleeping = leaks::processes(mark)?.into_iter().filter(|process| process.command == "sleep 3333").count();
    ensure!(sleeping <= 1, "{sleeping} commands of probes run");
    Ok(())
}

/// The container of a pod once it waits for one of the reasons, and the message.
async fn waiting(kubelet: &Kubelet, pod: &str, reasons: &[&str]) -> Result<(Container, String)> {
    wait(kubelet, pod, &format!("waiting for {reasons:?}"), |state| {
        let (reason, message) = state.waiting.as_ref()?;
        reasons.contains(&reason.as_str()).then(|| (state.clone(), message.clone()))
    })
    .await
}

async fn wait<T>(kubelet: &Kubelet, pod: &str, what: &str, mut ask: impl FnMut(&Container) -> Option<T>) -> Result<T> {
    kubelet.wait(pod, what, LONG, |pod| pod.containers.get("c").and_then(&mut ask)).await
}

/// The line of the kubelet's log with the text.
fn cause(kubelet: &Kubelet, text: &str) -> Result<String> {
    let log = kubelet.log();
    let texts = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let texts = texts.map(|line| line.to_string().replace("\\\"", "\"").replace("\\\\", "\\"));
    texts.into_iter().find(|line| line.contains(text)).with_context(|| format!("no {text:?} in the kubelet's log"))
}

fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}
