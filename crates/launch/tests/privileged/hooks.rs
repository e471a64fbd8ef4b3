//! Hooks: where, when and with what they run.

use std::fs;

use serde_json::{Value, json};

use crate::harness::Fixture;

/// A hook that writes what it is told, and the root file system's mount as it sees it, to a file of the bundle.
fn hook(fixture: &Fixture, name: &str, script: &str) -> Value {
    let out = fixture.dir.path().join(name);
    let text = format!("#!/bin/sh\n{{ cat; echo; {script}; }} > {} 2>&1\n", out.display());
    let path = fixture.script(&format!("{name}.sh"), &text);
    json!([{"path": path, "args": [name, "argument"], "env": ["PATH=/usr/bin:/bin", "KEY=value"], "timeout": 20}])
}

fn told(fixture: &Fixture, name: &str) -> (Value, String) {
    let text = fs::read_to_string(fixture.dir.path().join(name)).expect(name);
    let (state, rest) = text.split_once('\n').expect("a state");
    (serde_json::from_str(state).expect("json"), rest.to_owned())
}

#[test]
fn each_kind_where_it_belongs() {
    let mut fixture = Fixture::shell("ls /made; sleep 0.3");
    let rootfs = fixture.rootfs();
    // In the container's mount namespace the root is mounted, with all that is on it, where the host has it.
    let look = format!("ls {0}/proc/self/status {0}/dev/null; readlink /proc/self/ns/mnt", rootfs.display());
    fixture.spec["hooks"] = json!({
        "prestart": hook(&fixture, "prestart", "readlink /proc/self/ns/mnt"),
        "createRuntime": hook(&fixture, "createRuntime", "echo $KEY; readlink /proc/self/ns/mnt"),
        "createContainer": hook(&fixture, "createContainer", &format!("{look}; touch {}/made", rootfs.display())),
        "poststart": hook(&fixture, "poststart", "true"),
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /started; pwd >> /started"]}],
    });
    fixture.spec["annotations"] = json!({"who": "me"});
    let launched = fixture.launch();
    let pid = launched.pid();
    let host = fs::read_link("/proc/self/ns/mnt").expect("own").display().to_string();
    for (name, status) in [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("poststart", "running"),
    ] {
        let (state, rest) = told(&fixture, name);
        assert_eq!((&state["pid"], &state["status"]), (&json!(pid), &json!(status)), "{name}");
        assert_eq!((&state["id"], &state["bundle"]), (&json!(fixture.id), &json!(fixture.dir.path())), "{name}");
        assert_eq!(state["annotations"]["who"], "me");
        match name {
            "createContainer" => {
                assert!(!rest.contains(&host) && !rest.contains("No such file"), "{rest}");
            }
            "createRuntime" => assert!(rest.starts_with("value\n") && rest.contains(&host), "{rest}"),
            "prestart" => assert!(rest.contains(&host), "{rest}"),
            _ => {}
        }
    }
    let started = fs::read_to_string(rootfs.join("started")).expect("started");
    assert!(started.contains("\"created\"") && started.ends_with("/\n"), "{started}");
    assert!(launched.output().contains("/made"));
}

#[test]
fn one_that_fails_ends_the_container() {
    for kind in ["createRuntime", "createContainer", "startContainer", "poststart"] {
        let mut fixture = Fixture::new(&["/bin/sleep", "30"]);
        fixture.spec["hooks"] = json!({kind: [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]});
        let launched = fixture.launch();
        assert!(fixture.cgroup.is_empty().expect("cgroup"), "{kind}: a process was left");
        let failure = launched.failure();
        assert!(failure.message.contains(&format!("run the {kind} hooks")), "{}", failure.message);
        // The PID is known to whom it was reported.
        assert_eq!(launched.reports[0].pid > 0, ["startContainer", "poststart"].contains(&kind), "{kind}");
    }
}

#[test]
fn one_that_hangs_is_ended() {
    let mut fixture = Fixture::shell("true");
    fixture.spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}]});
    let begin = std::time::Instant::now();
    assert!(fixture.launch().failure().message.contains("timeout"));
    assert!(begin.elapsed().as_secs() < 20);
}
