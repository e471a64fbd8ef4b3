//! Commands: what they get and how they end.

use std::os::fd::AsFd;
use std::time::Instant;

use crate::support::{Container, Status, command, execute, run};
use cricket_process::caps::Set;
use cricket_wire::exec_config::{CommandConfig, ExecConfig, Rlimit};
use cricket_wire::helper::Blame;

#[test]
fn output_environment_and_status() {
    let container = Container::start();
    let config = CommandConfig { cwd: "/home".into(), ..command(&["sh", "-c", "pwd; echo $A >&2; exit 7"]) };
    assert_eq!(execute(&container, config).output(), ("/home\nb c\n".to_owned(), 7));
    assert_eq!(execute(&container, command(&["env"])).output(), ("PATH=/bin\nA=b c\n".to_owned(), 0));
    let killed = execute(&container, command(&["sh", "-c", "kill -9 $$"]));
    assert_eq!(killed.output().1, 137);
}

#[test]
fn the_pid_is_the_hosts_and_the_namespaces_are_the_containers() {
    let container = Container::start();
    let outcome = execute(&container, command(&["sleep", "1000"]));
    let pid = outcome.report.pid;
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let link = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("link");
        assert_eq!(link(pid), link(container.pid), "{name}");
    }
    assert_eq!(std::fs::read(format!("/proc/{pid}/comm")).expect("comm"), b"sleep\n");
    // It leads a session of its own.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    assert_eq!(stat.split(' ').nth(5), Some(pid.to_string().as_str()));
    // The namespace ends with its init, and that waits for us to reap.
    container.pidfd.send_signal(libc::SIGKILL).expect("kill");
    assert_eq!(outcome.status().shell_code(), 137);
}

#[test]
fn rights_are_those_asked_for_and_the_containers_at_most() {
    let container = Container::start();
    let names = ["CAP_KILL", "CAP_NET_RAW", "CAP_SYS_TIME"].map(String::from);
    let (all, _) = Set::from_names(["CAP_KILL", "CAP_NET_RAW"]);
    let config = CommandConfig { capabilities: names.to_vec(), ..command(&["cat", "/proc/self/status"]) };

    let root = Status(execute(&container, config.clone()).output().0);
    let sets = root.capabilities();
    assert_eq!((sets.bounding, sets.permitted, sets.effective), (all, all, all));
    assert_eq!((sets.inheritable, sets.ambient), (Set::EMPTY, Set::EMPTY));
    assert_eq!((root.field("NoNewPrivs"), root.field("Groups")), ("0", ""));

    // Ambient ones are in effect for a user, and the only ones that are inheritable; none is that is not held.
    let kill = Set::from_names(["CAP_KILL"]).0;
    let ambient = ["CAP_KILL", "CAP_SYS_TIME", "CAP_CHOWN"].map(String::from).to_vec();
    let config_of_user = CommandConfig { uid: 1000, ambient, ..config.clone() };
    let sets = Status(execute(&container, config_of_user).output().0).capabilities();
    assert_eq!((sets.inheritable, sets.ambient, sets.bounding), (kill, kill, all));
    assert_eq!((sets.permitted, sets.effective), (kill, kill));

    let config = CommandConfig { uid: 1000, gid: 1001, groups: vec![7, 8], no_new_privileges: true, ..config };
    let user = Status(execute(&container, config).output().0);
    assert_eq!(user.field("Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(user.field("Gid"), "1001\t1001\t1001\t1001");
    assert_eq!(user.field("Groups"), "7 8");
    let sets = user.capabilities();
    assert_eq!((sets.bounding, sets.permitted, sets.inheritable), (all, Set::EMPTY, Set::EMPTY));
    assert_eq!(user.field("NoNewPrivs"), "1");
    for (name, value) in [("Umask", "0022"), ("SigIgn", "0000000000000000"), ("SigBlk", "0000000000000000")] {
        assert_eq!(user.field(name), value, "{name}");
    }
}

#[test]
fn no_descriptor_leaks_and_no_path_through_one_works() {
    let container = Container::start();
    let script = "n=3; while [ $n -le 64 ]; do [ -e /proc/self/fd/$n ] && echo $n; n=$((n + 1)); done";
    assert_eq!(execute(&container, command(&["sh", "-c", script])).output(), (String::new(), 0));
    for number in 3..20 {
        for path in [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/../..")] {
            let config = CommandConfig { cwd: path.clone(), ..command(&["ls"]) };
            assert_eq!(execute(&container, config).failure().blame(), Blame::Content, "{path}");
        }
    }
}

#[test]
fn failures_to_execute_are_a_shells() {
    let container = Container::start();
    let failure = |name: &str, uid| execute(&container, CommandConfig { uid, ..command(&[name]) }).failure();
    for (name, shell_status, message) in [
        ("no-such", 127, "exec: \"no-such\": executable file not found in $PATH"),
        ("/no/such", 127, "exec: \"/no/such\": no such file or directory"),
        ("/etc/plain", 126, "exec: \"/etc/plain\": permission denied"),
        ("broken", 126, "exec: \"broken\": exec format error"),
        ("/etc", 126, "exec: \"/etc\": permission denied"),
    ] {
        let failure = failure(name, 0);
        assert_eq!((failure.message.as_str(), failure.shell_status), (message, shell_status));
        assert_eq!(failure.blame(), Blame::Command);
    }
    let missing = execute(&container, CommandConfig { cwd: "/absent".into(), ..command(&["true"]) }).failure();
    assert_eq!(missing.blame(), Blame::Content);
    assert!(missing.message.contains("/absent"), "{}", missing.message);
}

#[test]
fn working_directories_of_the_user_and_forbidden_ones() {
    let container = Container::start();
    let at = |uid| CommandConfig { uid, cwd: "/private".into(), capabilities: Vec::new(), ..command(&["pwd"]) };
    // The one who owns it, and others: entered with root's rights, as runc does, so that only the command may fail.
    assert_eq!(execute(&container, at(1000)).output(), ("/private\n".to_owned(), 0));
    assert_eq!(execute(&container, at(1001)).output().1, 0);
}

#[test]
fn limits_and_score() {
    let container = Container::start();
    let rlimits = vec![Rlimit { name: "RLIMIT_NOFILE".into(), soft: 100, hard: 200 }];
    let config = CommandConfig {
        rlimits,
        oom_score_adj: Some(777),
        ..command(&["sh", "-c", "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj"])
    };
    assert_eq!(execute(&container, config).output().0, "100\n200\n777\n");
}

#[test]
fn without_a_score_it_is_the_containers_and_not_the_helpers() {
    let container = Container::start();
    std::fs::write(format!("/proc/{}/oom_score_adj", container.pid), "345").expect("set the init's score");
    assert_ne!(std::fs::read_to_string("/proc/self/oom_score_adj").expect("own score"), "345\n");
    assert_eq!(execute(&container, command(&["cat", "/proc/self/oom_score_adj"])).output().0, "345\n");
}

#[test]
fn standard_streams_can_be_opened_by_the_user() {
    let container = Container::start();
    let config = CommandConfig { uid: 1000, ..command(&["sh", "-c", "echo again >/proc/self/fd/1"]) };
    assert_eq!(execute(&container, config).output(), ("again\n".to_owned(), 0));
}

#[test]
fn a_container_that_ended_is_gone() {
    let container = Container::start();
    container.kill();
    assert_eq!(execute(&container, command(&["true"])).failure().blame(), Blame::Gone);
}

#[test]
fn user_namespaces_are_joined() {
    let container = Container::start_in_user_namespace();
    let root = CommandConfig {
        cwd: "/tmp".into(),
        ..command(&["sh", "-c", "id -u; id -g; mkdir made; cat /proc/self/status"])
    };
    let (text, _) = execute(&container, root).output();
    assert!(text.starts_with("0\n0\nName"), "{text}");
    let made = std::fs::metadata(container.root().join("tmp/made")).expect("made");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 100_000);
    assert_eq!(Status(text).capabilities().inheritable, Set::EMPTY);
    let script = "id -u; id -G; echo x >/proc/self/fd/1; cat /proc/self/uid_map";
    let user = CommandConfig { uid: 1000, gid: 1000, groups: vec![20], ..command(&["sh", "-c", script]) };
    let (text, status) = execute(&container, user).output();
    assert!(text.starts_with("1000\n1000 20\nx\n"), "{text}");
    assert_eq!(text.split_whitespace().rev().take(2).collect::<Vec<_>>(), ["65536", "100000"]);
    assert_eq!(status, 0);
}

#[test]
fn a_target_in_the_hosts_namespaces() {
    let mut target = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
    let pidfd = cricket_process::Pidfd::open(target.id() as i32).expect("pidfd");
    let config = CommandConfig { uid: 1000, ..command(&["cat", "/proc/self/status"]) };
    let outcome = run(&ExecConfig::Command(Box::new(config)), &[pidfd.as_fd()]);
    let pid = outcome.report.pid.to_string();
    let status = Status(outcome.output().0);
    assert_eq!((status.field("NSpid"), status.field("Pid")), (pid.as_str(), pid.as_str()));
    assert_eq!(status.field("CapEff"), "0000000000000000");
    target.kill().expect("kill");
    target.wait().expect("wait");
}

/// Also the figure for the record: `cargo test -p cricket-exec --test privileged latency -- --nocapture`.
#[test]
fn latency_is_bounded() {
    let container = Container::start();
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(execute(&container, command(&["true"])).output().1, 0);
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("exec of true: p50 {:?}, p90 {:?}, max {:?}", times[100], times[180], times[199]);
    assert!(times[100] < std::time::Duration::from_millis(100), "{:?}", times[100]);
}
