//! Handlers with networks of their own.

mod common;

use std::fs;

use common::{Lab, NETNS, RESULT, pod, until};
use cricket_cni::{Cni, CniConfig, HandlerNetworks};
use cricket_model::{ErrorKind, Kinded};

/// A client whose handler `own` has the directory `own.d`.
fn open(lab: &Lab) -> (Cni, CniConfig) {
    let own = HandlerNetworks { conf_dir: lab.path("own.d"), max_conf_num: 1 };
    let handlers = [("own".to_owned(), own.clone()), ("twin".to_owned(), own)].into();
    let config = CniConfig { handlers, ..lab.config() };
    (Cni::open(config.clone()).expect("open"), config)
}

fn conf(lab: &Lab, name: &str, plugin: &str) {
    let text = format!(r#"{{"name":"{name}","cniVersion":"1.0.0","plugins":[{{"type":"{plugin}"}}]}}"#);
    let new = lab.path("calls/own.new");
    fs::write(&new, text).expect("write");
    fs::rename(new, lab.path(&format!("own.d/{name}.conflist"))).expect("install");
}

async fn ready(cni: &Cni, handler: &str) {
    for _ in 0..400 {
        if cni.ready_for(handler).is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{handler} stays {:?}", cni.ready_for(handler));
}

#[tokio::test]
async fn a_handler_is_attached_to_its_own_networks_and_detached_from_them_after_a_restart() {
    let lab = Lab::new();
    for plugin in ["one", "other", "third"] {
        lab.good(plugin, RESULT);
    }
    lab.list("1.0.0", &["one"]);
    let (cni, config) = open(&lab);
    until(&cni, Result::is_ok).await;
    // The node's readiness is that of its own directory; the handler's says what is missing there.
    let missing = cni.ready_for("own").expect_err("nothing there").message;
    assert!(missing.contains("own.d"), "{missing}");
    let mut own = pod();
    own.handler = "own".into();
    let error = cni.add(&own).await.expect_err("nothing there");
    assert_eq!((error.kind(), lab.calls()), (ErrorKind::Unavailable, vec![]));
    // Its directory appears under the running client, with more than it may load.
    fs::create_dir(lab.path("own.d")).expect("mkdir");
    conf(&lab, "a", "other");
    conf(&lab, "b", "third");
    ready(&cni, "own").await;
    let (mut twin, plain, mut stranger) = (pod(), pod(), pod());
    twin.handler = "twin".into();
    stranger.handler = "stranger".into();
    for pod in [&own, &twin, &plain, &stranger] {
        cni.add(pod).await.expect("add");
    }
    let names = |calls: Vec<String>| -> Vec<String> {
        calls.iter().map(|c| c.split(" eth0").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(lab.calls()), ["other ADD", "other ADD", "one ADD", "one ADD"]);
    let shown = cni.handlers();
    let list: Vec<_> =
        shown.iter().map(|(name, info, r)| (*name, &info["Networks"][0]["Config"]["Name"], r.is_ok())).collect();
    assert_eq!(list, [("own", &"a".into(), true), ("twin", &"a".into(), true)]);
    assert_eq!(shown[0].1["PluginMaxConfNum"], 1);
    drop(cni);
    // Another daemon, whose handler has another network by now: what was added is what is taken away.
    fs::remove_file(lab.path("own.d/a.conflist")).expect("remove");
    let (cni, _) = (Cni::open(CniConfig { handlers: Default::default(), ..config }).expect("open"), ());
    cni.del(&own.sandbox, Some(NETNS.as_ref())).await.expect("del");
    assert_eq!(names(lab.calls()), ["other DEL"]);
    assert_eq!(lab.given("other", "DEL")["prevResult"]["ips"][0]["address"], "10.0.0.2/24");
    // Whose record is damaged is taken off every network there is.
    let (cni, _) = open(&lab);
    fs::write(lab.path(&format!("cache/{}.json", twin.sandbox)), "{").expect("damage");
    cni.del(&twin.sandbox, None).await.expect("del");
    let mut calls = names(lab.calls());
    calls.sort();
    assert_eq!(calls, ["one DEL", "third DEL"]);
}
