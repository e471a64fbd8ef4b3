//! Plugins that fail, hang, talk too much or answer nonsense; teardown must get through in the end.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{Lab, NETNS, RESULT, alive, pod};
use cricket_cni::{Cni, CniConfig, Error, PluginError};
use cricket_model::{ErrorKind, Kinded};

fn source(e: &Error) -> &PluginError {
    match e {
        Error::Plugin { source, .. } => source,
        other => panic!("{other}"),
    }
}

/// Fails the ADD of a plugin with `body`, and sees it taken back.
async fn failing(body: &str) -> Error {
    let lab = Lab::new();
    lab.plugin("bad", &format!("[ $CNI_COMMAND != ADD ] || {{ {body}\n}}"));
    lab.list("1.0.0", &["bad"]);
    let (cni, pod) = (lab.open(), pod());
    let e = cni.add(&pod).await.expect_err(body);
    assert_eq!(cni.cached(), [], "{body}");
    assert!(lab.calls().last().is_some_and(|c| c.contains("DEL")), "{body}");
    e
}

#[tokio::test]
async fn failures_are_told_apart() {
    let e = failing("echo broken bridge >&2; exit 3").await;
    assert!(e.to_string().contains("broken bridge") && e.to_string().contains("exit status: 3"), "{e}");
    let e = failing(r#"echo '{"code":11,"msg":"no address yet","details":"pool empty"}'; exit 1"#).await;
    assert_eq!(e.kind(), ErrorKind::Unavailable);
    assert!(e.to_string().contains("no address yet (code 11): pool empty"), "{e}");
    assert!(matches!(source(&failing("kill -9 $$").await), PluginError::Exit { .. }));
    assert!(matches!(source(&failing("echo garbage").await), PluginError::Result(_)));
    assert!(matches!(source(&failing("true").await), PluginError::Result(_)));
    assert!(matches!(source(&failing(r#"echo '{"cniVersion":"1.0.0","ips":[{"addr'"#).await), PluginError::Result(_)));
    assert!(matches!(source(&failing(r#"echo '{"code":7,"msg":"said with 0"}'"#).await), PluginError::Reported { .. }));
    assert!(matches!(failing(r#"echo '{"cniVersion":"1.0.0"}'"#).await, Error::Network { .. }));
}

#[tokio::test]
async fn endless_output_is_cut_off() {
    let begun = Instant::now();
    let e = failing("head -c 1000000000 /dev/zero; exit 0").await;
    assert!(matches!(source(&e), PluginError::TooMuchOutput(_)), "{e}");
    let e = failing("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1").await;
    assert!(e.to_string().ends_with("the end") && e.to_string().len() < 4096, "{e}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// A plugin that hangs with a child, whose pid is in `calls/child`.
fn hanging(lab: &Lab) -> CniConfig {
    lab.plugin("slow", "[ $CNI_COMMAND != ADD ] || { sleep 1000 & echo $! > $calls/child.new; mv $calls/child.new $calls/child; wait; }");
    lab.list("1.0.0", &["slow"]);
    lab.config()
}

#[tokio::test]
async fn a_plugin_that_hangs_is_killed_with_its_children() {
    let lab = Lab::new();
    let cni = Cni::open(CniConfig { timeout: Duration::from_secs(2), ..hanging(&lab) }).expect("open");
    let e = cni.add(&pod()).await.expect_err("hangs");
    assert_eq!(e.kind(), ErrorKind::DeadlineExceeded, "{e}");
    gone(&lab).await;
    assert_eq!(cni.cached(), []);
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_a_record_and_no_process() {
    let lab = Lab::new();
    let (cni, pod) = (Cni::open(hanging(&lab)).expect("open"), pod());
    let child = lab.path("calls/child");
    let started = async {
        while !child.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        added = cni.add(&pod) => panic!("{added:?}"),
        () = started => {}
    }
    gone(&lab).await;
    assert_eq!(cni.cached(), std::slice::from_ref(&pod.sandbox));
    assert!(matches!(cni.check(&pod.sandbox, NETNS.as_ref()).await, Err(Error::NotAttached(_))));
    drop(cni);
    // As after a restart.
    let cni = lab.open();
    cni.del(&pod.sandbox, Some(NETNS.as_ref())).await.expect("del");
    assert_eq!(cni.cached(), []);
}

async fn gone(lab: &Lab) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while alive(&lab.path("calls/child")) {
        assert!(Instant::now() < deadline, "the plugin's child lives on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_plugin_that_succeeded_is_reaped_and_what_it_started_lives_on() {
    let lab = Lab::new();
    let started = format!(
        "[ $CNI_COMMAND != ADD ] || {{ echo $$ > $calls/own; sleep 30 >&- 2>&- <&- & echo $! > $calls/child; echo '{RESULT}'; }}"
    );
    lab.plugin("starter", &started);
    lab.list("1.0.0", &["starter"]);
    lab.open().add(&pod()).await.expect("add");
    let pid = fs::read_to_string(lab.path("calls/own")).expect("pid");
    let own = std::path::PathBuf::from(format!("/proc/{}", pid.trim()));
    let deadline = Instant::now() + Duration::from_secs(10);
    while own.exists() {
        assert!(Instant::now() < deadline, "the plugin stays a zombie");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(alive(&lab.path("calls/child")));
    let child = fs::read_to_string(lab.path("calls/child")).expect("pid");
    std::process::Command::new("kill").arg(child.trim()).status().expect("kill");
}

#[tokio::test]
async fn a_failed_del_is_repeated_from_the_record() {
    let lab = Lab::new();
    lab.good("one", RESULT);
    let once = format!(
        "[ $CNI_COMMAND != ADD ] || echo '{RESULT}'\n[ $CNI_COMMAND != DEL ] || [ -e $calls/failed ] || {{ touch $calls/failed; exit 1; }}"
    );
    lab.plugin("two", &once);
    lab.list("1.0.0", &["one", "two"]);
    let (cni, pod) = (lab.open(), pod());
    cni.add(&pod).await.expect("add");
    lab.calls();
    // The directory now names another plugin: what is recorded counts.
    lab.list("1.0.0", &["other"]);
    assert!(matches!(cni.del(&pod.sandbox, Some(NETNS.as_ref())).await, Err(Error::Plugin { .. })));
    assert_eq!(lab.calls(), [format!("two DEL eth0 [{NETNS}]"), format!("one DEL eth0 [{NETNS}]")]);
    assert_eq!(cni.cached(), std::slice::from_ref(&pod.sandbox));
    cni.del(&pod.sandbox, Some(lab.path("gone").as_ref())).await.expect("second try");
    assert_eq!(lab.calls(), ["two DEL eth0 []", "one DEL eth0 []"]);
    assert_eq!(cni.cached(), []);
}

#[tokio::test]
async fn a_damaged_record_does_not_keep_a_sandbox() {
    let lab = Lab::new();
    lab.good("one", RESULT);
    lab.list("1.0.0", &["one"]);
    let (cni, pod) = (lab.open(), pod());
    cni.add(&pod).await.expect("add");
    fs::write(lab.path("cache").join(format!("{}.json", pod.sandbox)), "").expect("damage");
    assert_eq!(cni.attachment(&pod.sandbox).await.expect_err("damaged").kind(), ErrorKind::DataLoss);
    lab.calls();
    cni.del(&pod.sandbox, None).await.expect("del");
    assert_eq!((lab.calls(), cni.cached()), (vec!["one DEL eth0 []".to_owned()], vec![]));
}

#[tokio::test]
async fn a_helper_that_stays_does_not_hold_up_its_plugin() {
    let lab = Lab::new();
    lab.plugin("one", &format!("[ $CNI_COMMAND != ADD ] || {{ sleep 30 & echo $! > $calls/child; echo '{RESULT}'; }}"));
    lab.list("1.0.0", &["one"]);
    let begun = Instant::now();
    lab.open().add(&pod()).await.expect("add");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(alive(&lab.path("calls/child")));
    let pid = fs::read_to_string(lab.path("calls/child")).expect("pid");
    std::process::Command::new("kill").arg(pid.trim()).status().expect("kill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collecting_waits_for_attaching() {
    let lab = Lab::new();
    let slow = format!(
        "[ $CNI_COMMAND = ADD ] || exit 0\ntouch $calls/begun\nsleep 0.5\necho one ended >> $calls/log\necho '{RESULT}'"
    );
    lab.plugin("one", &slow);
    lab.list("1.1.0", &["one"]);
    let (cni, pod) = (lab.open(), pod());
    common::until(&cni, Result::is_ok).await;
    lab.calls();
    let collected = async {
        while !lab.path("calls/begun").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cni.gc(&[]).await
    };
    let (added, collected) = tokio::join!(cni.add(&pod), collected);
    added.expect("add");
    collected.expect("gc");
    assert_eq!(lab.calls(), [&format!("one ADD eth0 [{NETNS}]"), "one ended", "one GC  []"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sandboxes_do_not_wait_for_each_other() {
    let lab = Lab::new();
    // Each ADD waits for the other one to have begun.
    let meet = format!(
        "[ $CNI_COMMAND = ADD ] || exit 0\ntouch $calls/$CNI_CONTAINERID.begun\n\
         while [ $(ls $calls | grep -c begun) -lt 2 ]; do sleep 0.05; done\necho '{RESULT}'"
    );
    lab.plugin("meet", &meet);
    lab.list("1.0.0", &["meet"]);
    let (cni, a, b) = (lab.open(), pod(), pod());
    let (first, second) = tokio::join!(cni.add(&a), cni.add(&b));
    first.expect("first");
    second.expect("second");
    assert_eq!(cni.cached().len(), 2);
}
