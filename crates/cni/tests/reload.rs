//! The configuration directory comes, goes and changes under a running client.

mod common;

use std::fs;

use common::{Lab, RESULT, pod, until};
use cricket_model::{ErrorKind, Kinded};

const CONF: &str = r#"{"name":"late","cniVersion":"1.0.0","plugins":[{"type":"one"}]}"#;

#[tokio::test]
async fn a_directory_may_be_made_late_deleted_and_made_again() {
    let lab = Lab::new();
    lab.good("one", RESULT);
    fs::remove_dir(lab.path("net.d")).expect("rmdir");
    let mut config = lab.config();
    config.conf_dir = lab.path("etc/cni/net.d");
    let cni = cricket_cni::Cni::open(config).expect("open");
    let reason = cni.ready().expect_err("nothing there").message;
    assert!(reason.starts_with("cni plugin not initialized: no network configuration in /"), "{reason}");
    assert_eq!(cni.add(&pod()).await.expect_err("nothing there").kind(), ErrorKind::Unavailable);
    for round in 0..5 {
        fs::create_dir_all(lab.path("etc/cni/net.d")).expect("mkdir");
        fs::write(lab.path("etc/cni/net.d/10.conflist"), CONF).expect("write");
        until(&cni, Result::is_ok).await;
        cni.add(&pod()).await.expect("add");
        if round % 2 == 0 {
            fs::remove_dir_all(lab.path("etc")).expect("remove");
        } else {
            fs::rename(lab.path("etc"), lab.path(&format!("moved-{round}"))).expect("move");
        }
        until(&cni, Result::is_err).await;
    }
}

#[tokio::test]
async fn replaced_files_count_and_bad_ones_do_not_hide_good_ones() {
    let lab = Lab::new();
    lab.good("one", RESULT);
    lab.conf("10-late.conflist", CONF);
    lab.conf("05-bad.conflist", "{");
    let cni = lab.open();
    cni.ready().expect("ready");
    lab.conf("10-late.conflist", "{ not json");
    until(&cni, |r| r.as_ref().is_err_and(|e| e.message.contains("10-late.conflist"))).await;
    // Written in place this time.
    fs::write(lab.path("net.d/10-late.conflist"), CONF).expect("write");
    until(&cni, Result::is_ok).await;
    lab.conf("10-late.conflist", &CONF.replace("one", "missing"));
    until(&cni, |r| r.as_ref().is_err_and(|e| e.message.contains("no plugin \"missing\""))).await;
    // Its program is installed: no file of the configuration changes.
    lab.good("missing", RESULT);
    until(&cni, Result::is_ok).await;
    fs::remove_file(lab.path("bin/missing")).expect("remove");
    until(&cni, Result::is_err).await;
}

#[tokio::test]
async fn only_so_many_networks_are_loaded() {
    let lab = Lab::new();
    lab.good("one", RESULT);
    lab.conf("10-a.conflist", CONF);
    lab.conf("20-b.conflist", &CONF.replace("late", "more"));
    let mut config = lab.config();
    config.max_conf_num = 1;
    let cni = cricket_cni::Cni::open(config).expect("open");
    let networks = cni.config_json()["Networks"].clone();
    assert_eq!((networks.as_array().map(Vec::len), &networks[0]["Config"]["Name"]), (Some(1), &"late".into()));
}
