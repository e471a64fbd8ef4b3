//! Garbage collection by itself, and records behind the files.

mod common;

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Lab, NETNS, RESULT, alive, pod, until};
use cricket_cni::Cni;
use cricket_model::SandboxId;
use cricket_store::{Batch, Store};
use serde_json::json;

async fn wait(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..400 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited for {what}");
}

fn collected(lab: &Lab) -> usize {
    let log = fs::read_to_string(lab.path("calls/log")).unwrap_or_default();
    log.lines().filter(|line| line.contains(" GC ")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_collected_at_start_and_when_the_networks_change() {
    let lab = Lab::new();
    lab.good("one", RESULT);
    lab.list("1.1.0", &["one"]);
    let (cni, attached, known) = (lab.open(), pod(), SandboxId::generate());
    until(&cni, Result::is_ok).await;
    cni.add(&attached).await.expect("add");
    cni.collect_in_background({
        let known = known.clone();
        move || vec![known.clone()]
    });
    wait("the first collection", || collected(&lab) == 1).await;
    let keep = lab.given("one", "GC")["cni.dev/valid-attachments"].clone();
    let keep = keep.as_array().expect("list");
    assert_eq!(keep.len(), 2, "{keep:?}");
    for id in [&attached.sandbox, &known] {
        assert!(keep.contains(&json!({"containerID": id, "ifname": "eth0"})), "{id} in {keep:?}");
    }
    // A file that does not count, then one that does.
    fs::write(lab.path("net.d/README"), "").expect("write");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(collected(&lab), 1);
    lab.good("two", RESULT);
    lab.list("1.1.0", &["one", "two"]);
    wait("a collection by both", || collected(&lab) == 3).await;
    cni.del(&attached.sandbox, None).await.expect("del");
    // One that fails is left to the next occasion, one that is too old for it is not asked.
    lab.plugin("one", "[ $CNI_COMMAND != GC ] || exit 1");
    wait("the plugin to be seen", || cni.ready().is_ok()).await;
    lab.list("1.1.0", &["one"]);
    wait("a failed collection", || collected(&lab) == 4).await;
    lab.list("1.0.0", &["one"]);
    until(&cni, Result::is_ok).await;
    cni.add(&pod()).await.expect_err("this plugin prints no result");
    assert_eq!(collected(&lab), 4);
}

/// One pod's hung ADD is that pod's affair, also while a collection waits for its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_waits_holds_nobody_up() {
    let lab = Lab::new();
    let (hung, other) = (pod(), pod());
    let body = format!(
        "[ $CNI_COMMAND.$CNI_CONTAINERID != ADD.{} ] || {{ touch $calls/hangs; sleep 6; }}\n\
         [ $CNI_COMMAND != ADD ] || echo '{RESULT}'",
        hung.sandbox
    );
    lab.plugin("one", &body);
    lab.list("1.1.0", &["one"]);
    let cni = lab.open();
    until(&cni, Result::is_ok).await;
    let adding = {
        let cni = cni.clone();
        tokio::spawn(async move { cni.add(&hung).await })
    };
    wait("the ADD to hang", || lab.path("calls/hangs").exists()).await;
    cni.collect_in_background(Vec::new);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    cni.add(&other).await.expect("add");
    cni.del(&other.sandbox, None).await.expect("del");
    assert!(began.elapsed() < Duration::from_secs(3), "they waited {:?}", began.elapsed());
    assert!(!adding.is_finished() && collected(&lab) == 0, "GC runs alone");
    adding.await.expect("task").expect("add");
    wait("the collection", || collected(&lab) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_hangs_gives_way() {
    let lab = Lab::new();
    let hangs = "echo $$ > $calls/gc.pid; sleep 60";
    lab.plugin("one", &format!("[ $CNI_COMMAND != ADD ] || echo '{RESULT}'\n[ $CNI_COMMAND != GC ] || {{ {hangs}; }}"));
    lab.list("1.1.0", &["one"]);
    let (cni, first, second) = (lab.open(), pod(), pod());
    until(&cni, Result::is_ok).await;
    cni.add(&first).await.expect("add");
    let pid = lab.path("calls/gc.pid");
    cni.collect_in_background(Vec::new);
    wait("the collection to hang", || pid.exists()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    cni.del(&first.sandbox, None).await.expect("del");
    assert!(began.elapsed() < Duration::from_millis(900), "a DEL waited {:?}", began.elapsed());
    wait("the plugin to be killed", || !alive(&pid)).await;
    // It is tried again, then an ADD comes.
    wait("another collection", || collected(&lab) == 2).await;
    let began = Instant::now();
    cni.add(&second).await.expect("add");
    assert!(began.elapsed() < Duration::from_secs(5), "an ADD waited {:?}", began.elapsed());
    // What took too long is left to the next occasion.
    wait("the plugin to be killed", || !alive(&pid)).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(collected(&lab), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_valid_is_asked_each_time() {
    let lab = Lab::new();
    lab.good("one", RESULT);
    lab.list("1.1.0", &["one"]);
    let (cni, known) = (lab.open(), Arc::new(Mutex::new(vec![SandboxId::generate()])));
    until(&cni, Result::is_ok).await;
    cni.collect_in_background({
        let known = known.clone();
        move || known.lock().expect("lock").clone()
    });
    wait("the first collection", || collected(&lab) == 1).await;
    let kept = || lab.given("one", "GC")["cni.dev/valid-attachments"].as_array().map(Vec::len);
    wait("its input", || lab.path("calls/one.GC.env").exists()).await;
    assert_eq!(kept(), Some(1));
    known.lock().expect("lock").clear();
    lab.list("1.1.0", &["one", "one"]);
    wait("the second collection", || collected(&lab) == 3).await;
    assert_eq!(kept(), Some(0));
}

#[tokio::test]
async fn what_a_power_cut_took_is_restored_from_the_store() {
    let lab = Lab::new();
    lab.good("one", RESULT);
    lab.list("1.0.0", &["one"]);
    let open = || {
        let store = Store::open(lab.path("records.redb")).expect("store");
        (Cni::open_with(lab.config(), store.clone()).expect("open"), store)
    };
    let (cni, store) = open();
    let (begun, done, gone) = (pod(), pod(), pod());
    for pod in [&begun, &done, &gone] {
        let intent = cni.intend(pod.clone()).expect("a network");
        let mut batch = Batch::new();
        intent.record_in(&mut batch).expect("encode");
        store.commit(batch).await.expect("commit");
        if pod.sandbox != begun.sandbox {
            cni.add_intended(intent).await.expect("add");
        }
    }
    cni.del(&gone.sandbox, None).await.expect("del");
    store.flush().await.expect("flush");
    drop((cni, store));
    // The directory as a power cut may leave it: empty files, or none.
    fs::write(lab.path(&format!("cache/{}.json", done.sandbox)), "").expect("write");
    assert!(!lab.path(&format!("cache/{}.json", begun.sandbox)).exists());
    lab.conf("10-net.conflist", r#"{"name":"new","cniVersion":"1.0.0","plugins":[{"type":"gone"}]}"#);
    let (cni, store) = open();
    let mut want = vec![begun.sandbox.clone(), done.sandbox.clone()];
    want.sort();
    assert_eq!(cni.cached(), want);
    assert!(cni.attachment(&begun.sandbox).await.expect("record").is_none());
    lab.calls();
    cni.del(&done.sandbox, Some(NETNS.as_ref())).await.expect("del");
    assert_eq!(lab.given("one", "DEL")["prevResult"]["ips"][0]["address"], "10.0.0.2/24");
    cni.del(&begun.sandbox, None).await.expect("del");
    assert_eq!(lab.calls().len(), 2);
    store.flush().await.expect("flush");
    drop((cni, store));
    assert_eq!(open().0.cached(), Vec::<SandboxId>::new());
}
