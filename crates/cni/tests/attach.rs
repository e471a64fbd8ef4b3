//! What plugins are given, in which order, and what becomes of their answers.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{Lab, NETNS, RESULT, pod, until};
use cricket_cni::{Bandwidth, Dns, Error, PortMapping, Protocol};
use cricket_model::{ErrorKind, Kinded, SandboxId};
use serde_json::json;

#[tokio::test]
async fn a_chain_runs_forwards_and_comes_down_backwards() {
    let lab = Lab::new();
    // The record is there before the first plugin runs.
    let recorded = "[ -e $calls/../cache/$CNI_CONTAINERID.json ] || exit 9";
    lab.plugin("one", &format!("{recorded}\n[ $CNI_COMMAND != ADD ] || echo '{RESULT}'"));
    let second = r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.9/24"}]}"#;
    lab.good("two", second);
    lab.list("0.4.0", &["one", "two"]);
    let (cni, pod) = (lab.open(), pod());
    cni.ready().expect("ready");

    let attachment = cni.add(&pod).await.expect("add");
    assert_eq!(attachment.ips, ["10.0.0.9".parse::<std::net::IpAddr>().expect("ip")]);
    assert_eq!(cni.cached(), std::slice::from_ref(&pod.sandbox));
    assert_eq!(cni.attachment(&pod.sandbox).await.expect("record"), Some(attachment));
    let given = lab.given("two", "ADD");
    assert_eq!((&given["name"], &given["type"], &given["cniVersion"]), (&json!("net"), &json!("two"), &json!("0.4.0")));
    // The first plugin answered in a newer format than the list's.
    assert_eq!(given["prevResult"]["cniVersion"], "0.4.0");
    assert_eq!(given["prevResult"]["ips"][0]["version"], "4");
    assert_eq!(lab.given("one", "ADD").get("prevResult"), None);
    let env = lab.environment("one", "ADD");
    let args = format!(
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=0a1b;K8S_POD_INFRA_CONTAINER_ID={}",
        pod.sandbox
    );
    assert!(env.lines().any(|l| l == args), "{env}");
    assert!(!env.contains("CARGO"), "the daemon's environment leaks: {env}");

    cni.check(&pod.sandbox, NETNS.as_ref()).await.expect("check");
    assert_eq!(lab.given("one", "CHECK")["prevResult"]["ips"][0]["address"], "10.0.0.9/24");
    cni.del(&pod.sandbox, Some(NETNS.as_ref())).await.expect("del");
    assert_eq!(lab.given("one", "DEL")["prevResult"]["ips"][0]["address"], "10.0.0.9/24");
    let line = |plugin: &str, verb: &str| format!("{plugin} {verb} eth0 [{NETNS}]");
    let want = [("one", "ADD"), ("two", "ADD"), ("one", "CHECK"), ("two", "CHECK"), ("two", "DEL"), ("one", "DEL")];
    assert_eq!(lab.calls(), want.map(|(p, v)| line(p, v)));
    assert_eq!(cni.cached(), []);
    cni.del(&pod.sandbox, None).await.expect("a second DEL has nothing to do");
    assert_eq!(lab.calls().len(), 0);
    assert_eq!(fs::metadata(lab.path("cache")).expect("cache").permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn capability_arguments_go_to_those_who_declare_them() {
    let lab = Lab::new();
    lab.good("one", RESULT);
    lab.good("two", RESULT);
    let all = json!({"portMappings": true, "bandwidth": true, "dns": true, "cgroupPath": true, "io.kubernetes.cri.pod-annotations": true});
    let list = json!({"name": "net", "cniVersion": "1.0.0", "plugins": [{"type": "one", "capabilities": all}, {"type": "two"}]});
    lab.conf("10-net.conflist", &list.to_string());
    let mut pod = pod();
    let port = |host_port| PortMapping { host_port, container_port: 80, protocol: Protocol::Udp, host_ip: None };
    pod.port_mappings = vec![port(0), port(8080)];
    pod.annotations = BTreeMap::from([("kubernetes.io/egress-bandwidth".to_owned(), "1M".to_owned())]);
    pod.bandwidth = Bandwidth::from_annotations(&pod.annotations).expect("valid");
    pod.dns = Some(Dns { servers: vec!["10.0.0.10".into()], ..Dns::default() });
    pod.cgroup_parent = "/kubepods/x".into();
    lab.open().add(&pod).await.expect("add");
    let want = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "udp", "hostIP": ""}],
        "bandwidth": {"egressRate": 1_000_000, "egressBurst": u32::MAX},
        "dns": {"servers": ["10.0.0.10"], "searches": [], "options": []},
        "cgroupPath": "/kubepods/x",
        "io.kubernetes.cri.pod-annotations": {"kubernetes.io/egress-bandwidth": "1M"},
    });
    assert_eq!(lab.given("one", "ADD")["runtimeConfig"], want);
    assert_eq!(lab.given("two", "ADD").get("runtimeConfig"), None);
}

#[tokio::test]
async fn every_network_has_an_interface_and_names_cannot_inject() {
    let lab = Lab::new();
    lab.good("one", RESULT);
    let other = r#"{"ips":[{"address":"10.9.0.2/16"}]}"#;
    lab.good("other", other);
    lab.list("1.0.0", &["one"]);
    lab.conf("20-other.conf", r#"{"name":"other","cniVersion":"0.3.1","type":"other"}"#);
    let (cni, mut pod) = (lab.open(), pod());
    pod.name = "x;K8S_POD_NAMESPACE=kube-system".into();
    assert_eq!(cni.add(&pod).await.expect_err("injection").kind(), ErrorKind::InvalidArgument);
    assert_eq!((cni.cached(), lab.calls()), (vec![], vec![]));
    pod.name = "x".into();
    let attachment = cni.add(&pod).await.expect("add");
    assert_eq!(attachment.ips.len(), 1);
    assert_eq!(attachment.result["Interfaces"]["eth1"]["IPConfigs"][0]["IP"], "10.9.0.2");
    assert!(matches!(cni.add(&pod).await, Err(Error::AlreadyAttached(_))));
    cni.check(&pod.sandbox, NETNS.as_ref()).await.expect("check");
    cni.del(&pod.sandbox, Some(NETNS.as_ref())).await.expect("del");
    assert_eq!(lab.given("other", "DEL").get("prevResult"), None, "0.3.1 has no prevResult for DEL");
    let calls = lab.calls();
    let names: Vec<_> = calls.iter().map(|c| c.split(" [").next().unwrap_or_default()).collect();
    assert_eq!(names, ["one ADD eth0", "other ADD eth1", "one CHECK eth0", "other DEL eth1", "one DEL eth0"]);
    let info = cni.config_json();
    assert_eq!(
        (&info["Networks"][1]["IFName"], &info["Networks"][1]["Config"]["Name"]),
        (&json!("eth1"), &json!("other"))
    );
    assert_eq!(info["Networks"][0]["Config"]["Plugins"][0]["Network"]["type"], "one");
}

#[tokio::test]
async fn status_decides_readiness_and_gc_names_what_stays() {
    let lab = Lab::new();
    let busy = r#"[ $CNI_COMMAND != STATUS ] || { echo '{"code":50,"msg":"no backend"}'; exit 1; }"#;
    lab.plugin("one", busy);
    lab.list("1.1.0", &["one"]);
    let cni = lab.open();
    until(&cni, |r| r.as_ref().is_err_and(|e| e.message.contains("no backend"))).await;
    // A plugin that writes where it is watched is not asked over and over.
    let writes = "echo x > $calls/../net.d/token; sleep 0.3";
    lab.plugin(
        "one",
        &format!("[ $CNI_COMMAND != ADD ] || echo '{RESULT}'\n[ $CNI_COMMAND != STATUS ] || {{ {writes}; }}"),
    );
    until(&cni, Result::is_ok).await;
    let asked = lab.calls().iter().filter(|c| c.contains("one STATUS")).count();
    assert!(asked <= 3, "asked {asked} times");

    let (pod, known) = (pod(), SandboxId::generate());
    cni.add(&pod).await.expect("add");
    cni.gc(std::slice::from_ref(&known)).await.expect("gc");
    let given = lab.given("one", "GC");
    let keep = given["cni.dev/valid-attachments"].as_array().expect("list");
    for id in [&pod.sandbox, &known] {
        assert!(keep.contains(&json!({"containerID": id, "ifname": "eth0"})), "{id} in {given}");
    }
    lab.conf("10-net.conflist", r#"{"name":"net","cniVersion":"1.1.0","disableGC":true,"plugins":[{"type":"one"}]}"#);
    let quiet = lab.open();
    lab.calls();
    quiet.gc(&[]).await.expect("gc");
    assert!(!lab.calls().iter().any(|c| c.contains(" GC ")));
}
