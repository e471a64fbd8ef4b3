//! The handler of OCI binaries: a small runtime in shell for the protocol, and a real runc where `CRICKET_RUNC` names
//! one.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use cricket_process::ExitStatus;
use cricket_wire::helper::{Blame, NO_PROCESS};
use cricket_wire::launch_config::{LaunchConfig, OciAction, OciCliConfig};

use crate::harness::Fixture;

/// Takes the arguments of runc; the container is a process that waits for a file and ends with 5.
const RUNTIME: &str = r#"#!/bin/sh
set -e
while [ $# -gt 0 ]; do
  case $1 in
    --root) root=$2; shift 2;;
    --log) log=$2; shift 2;;
    --log-format) shift 2;;
    --bundle) bundle=$2; shift 2;;
    --pid-file) pid=$2; shift 2;;
    --force) shift;;
    *) if [ -z "$verb" ]; then verb=$1; else id=$1; fi; shift;;
  esac
done
fail() { echo "{\"level\":\"error\",\"msg\":\"$1\"}" >> "$log"; exit 1; }
case $verb in
  create)
    [ -e "$bundle/refuse" ] && fail 'exec: \"foo\": executable file not found in $PATH'
    ( until [ -e "$root/$id.start" ]; do sleep 0.01; done; echo from the container; exit 5 ) &
    echo $! > "$root/$id.pid"; printf %s $! > "$pid";;
  start) [ -e "$root/no-start" ] && fail 'cannot start'; : > "$root/$id.start";;
  kill) [ -e "$root/hang" ] && sleep 1000; exit 0;;
  delete) [ -e "$root/$id.pid" ] || fail "container does not exist"; rm -f "$root/$id.pid" "$root/$id.start";;
  *) fail "verb $verb";;
esac
"#;

fn config(fixture: &Fixture, binary: &Path, action: OciAction) -> LaunchConfig {
    LaunchConfig::OciCli(Box::new(OciCliConfig {
        binary: binary.display().to_string(),
        root: fixture.dir.path().join("oci"),
        id: fixture.id.clone(),
        bundle: fixture.dir.path().to_owned(),
        systemd_cgroup: false,
        action,
    }))
}

fn runtime(fixture: &Fixture) -> PathBuf {
    fixture.script("runtime", RUNTIME)
}

#[test]
fn created_reported_started_and_deleted() {
    let fixture = Fixture::shell("true");
    let binary = runtime(&fixture);
    let launched = fixture.launch_with(&config(&fixture, &binary, OciAction::Run { terminal: false, keeper: false }));
    let (status, out, _) = launched.finish();
    assert_eq!((status, out.as_str()), (ExitStatus::Code(5), "from the container\n"));
    for _ in 0..2 {
        // Deleting again counts as deleted.
        let deleted = fixture.launch_with(&config(&fixture, &binary, OciAction::Delete));
        assert_eq!((deleted.helper, deleted.reports[0].pid), (ExitStatus::Code(0), NO_PROCESS));
    }
    assert!(!fixture.dir.path().join(".launch").exists());
}

#[test]
fn what_the_runtime_logs_is_the_failure() {
    let fixture = Fixture::shell("true");
    let binary = runtime(&fixture);
    let run = config(&fixture, &binary, OciAction::Run { terminal: false, keeper: false });
    fs::write(fixture.dir.path().join("refuse"), "").expect("write");
    let failure = fixture.launch_with(&run).failure();
    assert!(
        failure.message.ends_with("create: exec: \"foo\": executable file not found in $PATH"),
        "{}",
        failure.message
    );
    assert_eq!((failure.blame(), failure.shell_status), (Blame::Command, 127));
    fs::remove_file(fixture.dir.path().join("refuse")).expect("rm");
    fs::write(fixture.dir.path().join("oci/no-start"), "").expect("write");
    let launched = fixture.launch_with(&run);
    assert!(launched.failure().message.ends_with("start: cannot start"), "{}", launched.failure().message);
    assert_eq!(launched.reports.len(), 2);
    assert!(launched.reports[0].pid > 0);
    let missing = config(&fixture, Path::new("/no/runtime"), OciAction::Delete);
    assert!(fixture.launch_with(&missing).failure().message.contains("/no/runtime"));
}

#[test]
fn a_runtime_that_hangs_is_killed_and_named() {
    let fixture = Fixture::shell("true");
    let binary = runtime(&fixture);
    let kill = config(&fixture, &binary, OciAction::Kill { signal: 15 });
    assert_eq!(fixture.launch_with(&kill).helper, ExitStatus::Code(0));
    fs::write(fixture.dir.path().join("oci/hang"), "").expect("write");
    let begin = std::time::Instant::now();
    let failure = fixture.launch_with(&kill).failure();
    assert!((19..60).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    let expected = format!("{} kill: not done in 20 s, killed", binary.display());
    assert_eq!((failure.message.as_str(), failure.blame()), (expected.as_str(), Blame::Host));
}

/// `CRICKET_RUNC`, which `hack/test` sets, or what `hack/tools/build` makes here. None only where `CRICKET_TEST_MAY_SKIP`
/// is set, for machines without Go: then the test says that it was skipped.
fn real_runc() -> Option<PathBuf> {
    if let Some(runc) = std::env::var_os("CRICKET_RUNC") {
        return Some(runc.into());
    }
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/../../hack/tools/build");
    let output = std::process::Command::new(build).arg("runc").output().expect("run hack/tools/build");
    if output.status.success() {
        return Some(Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("runc"));
    }
    let why = String::from_utf8_lossy(&output.stderr);
    let may = std::env::var_os("CRICKET_TEST_MAY_SKIP").is_some();
    assert!(may, "runc is missing (CRICKET_TEST_MAY_SKIP=1 goes on without it): {why}");
    // Past the test's captured output.
    let _ =
        std::io::stderr().write_fmt(format_args!("skipped: a_real_runc: only the runtime in shell is tested: {why}\n"));
    None
}

#[test]
fn a_real_runc() {
    let Some(runc) = real_runc() else { return };
    let fixture = Fixture::shell("echo hello; exit 3");
    let run = OciAction::Run { terminal: false, keeper: false };
    let (status, out, err) = fixture.launch_with(&config(&fixture, &runc, run.clone())).finish();
    assert_eq!((status, out.as_str()), (ExitStatus::Code(3), "hello\n"), "{err}");
    let deleted = fixture.launch_with(&config(&fixture, &runc, OciAction::Delete));
    assert_eq!(deleted.helper, ExitStatus::Code(0));
    let fixture = Fixture::new(&["foo"]);
    let failure = fixture.launch_with(&config(&fixture, &runc, run)).failure();
    assert_eq!((failure.blame(), failure.shell_status), (Blame::Command, 127), "{}", failure.message);
    let mut fixture = Fixture::shell("tty && exit 4");
    fixture.terminal = true;
    let launched = fixture.launch_with(&config(&fixture, &runc, OciAction::Run { terminal: true, keeper: false }));
    assert!(launched.terminal.is_some());
    assert_eq!(launched.finish().0, ExitStatus::Code(4));
    let deleted = fixture.launch_with(&config(&fixture, &runc, OciAction::Delete));
    assert_eq!(deleted.helper, ExitStatus::Code(0));
}
