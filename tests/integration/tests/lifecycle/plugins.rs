//! What CNI plugins are told: Multus, Calico and Cilium read every bit of it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::Node;
use serde_json::{Value, json};

/// A plugin that writes down what it is told and answers with what is in the file `result`.
fn recorder(dir: &Path) -> String {
    format!(
        "#!/bin/sh\ninput=$(cat)\nbase={}/$CNI_COMMAND-$$\n\
         printf '%s' \"$input\" > $base.json\nenv | grep ^CNI_ > $base.env\n\
         [ $CNI_COMMAND = VERSION ] && echo '{{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"0.4.0\",\"1.0.0\"]}}'\n\
         [ $CNI_COMMAND = ADD ] && cat {}/result\nexit 0\n",
        dir.display(),
        dir.display()
    )
}

/// What the plugin was told by calls of this command: its configuration and its environment.
fn told(dir: &Path, command: &str) -> Result<Vec<(Value, String)>> {
    let mut calls = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(command) && name.ends_with(".json") {
            let text = std::fs::read_to_string(&path)?;
            calls.push((serde_json::from_str(&text)?, std::fs::read_to_string(path.with_extension("env"))?));
        }
    }
    Ok(calls)
}

#[tokio::test]
async fn identity_and_capabilities_of_the_pod_reach_add_and_del() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let records = node.daemon.home().join("told");
    std::fs::create_dir(&records)?;
    let result = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "eth0", "sandbox": "/x" }],
        "ips": [
            { "address": "10.255.1.2/24", "interface": 0 },
            { "address": "fd00:255::2/64", "interface": 0 },
        ],
    });
    std::fs::write(records.join("result"), result.to_string())?;
    let plugin = node.daemon.plugins().join("recorder");
    std::fs::write(&plugin, recorder(&records))?;
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755))?;
    let capabilities = json!({
        "portMappings": true, "bandwidth": true, "dns": true, "cgroupPath": true,
        "io.kubernetes.cri.pod-annotations": true,
    });
    node.daemon.network().write(&[json!({ "type": "recorder", "capabilities": capabilities })])?;
    crate::support::until("the new network to count", || async {
        let status = cri.runtime().status(v1::StatusRequest { verbose: true }).await?.into_inner();
        Ok(status.info.get("cniconfig").is_some_and(|text| text.contains("recorder")))
    })
    .await?;

    let mut pod = node.daemon.pod("plugins");
    pod.annotations = [
        ("kubernetes.io/ingress-bandwidth".to_owned(), "1M".to_owned()),
        ("kubernetes.io/egress-bandwidth".to_owned(), "2M".to_owned()),
        ("k8s.v1.cni.cncf.io/networks".to_owned(), "second".to_owned()),
    ]
    .into();
    pod.port_mappings = vec![
        v1::PortMapping { container_port: 80, host_port: 8088, host_ip: "127.0.0.1".into(), ..Default::default() },
        v1::PortMapping { container_port: 81, host_port: 0, ..Default::default() },
    ];
    pod.dns_config = Some(v1::DnsConfig {
        servers: vec!["10.0.0.10".into()],
        searches: vec!["svc.local".into()],
        options: vec!["ndots:5".into()],
    });
    let id = cri.run_pod(&pod).await?;
    // Dual stack: the first address is the pod's, the others are additional.
    let network = cri.pod(&id).await?.network.context("a network")?;
    assert_eq!(network.ip, "10.255.1.2");
    assert_eq!(network.additional_ips.iter().map(|ip| ip.ip.as_str()).collect::<Vec<_>>(), ["fd00:255::2"]);
    // DEL is to be told the same though the configuration is another by then.
    node.daemon.network().write(&[json!({ "type": "bridge" })])?;
    cri.stop_pod(&id).await?;
    cri.remove_pod(&id).await?;

    let metadata = pod.metadata.clone().unwrap_or_default();
    for command in ["ADD", "DEL"] {
        let calls = told(&records, command)?;
        let (config, environment) = calls.last().with_context(|| format!("{command} was not called"))?;
        for part in [
            "IgnoreUnknown=1".to_owned(),
            "K8S_POD_NAMESPACE=default".to_owned(),
            "K8S_POD_NAME=plugins".to_owned(),
            format!("K8S_POD_UID={}", metadata.uid),
            format!("K8S_POD_INFRA_CONTAINER_ID={id}"),
        ] {
            let arguments = environment.lines().find_map(|l| l.strip_prefix("CNI_ARGS=")).unwrap_or_default();
            assert!(arguments.split(';').any(|argument| argument == part), "{command}: {part}: {arguments}");
        }
        assert!(environment.contains(&format!("CNI_CONTAINERID={id}\n")), "{environment}");
        assert!(environment.contains("CNI_IFNAME=eth0\n"), "{environment}");
        let runtime = &config["runtimeConfig"];
        assert_eq!(runtime["portMappings"].as_array().map(Vec::len), Some(1), "{command}: {runtime}");
        assert_eq!(runtime["portMappings"][0]["hostPort"], 8088);
        assert_eq!(runtime["portMappings"][0]["containerPort"], 80);
        assert_eq!(runtime["portMappings"][0]["protocol"], "tcp");
        assert_eq!(runtime["portMappings"][0]["hostIP"], "127.0.0.1");
        assert_eq!(runtime["bandwidth"]["ingressRate"], 1_000_000, "{command}: {runtime}");
        assert_eq!(runtime["bandwidth"]["egressRate"], 2_000_000);
        assert_eq!(runtime["dns"]["servers"][0], "10.0.0.10");
        assert_eq!(runtime["dns"]["searches"][0], "svc.local");
        let parent = pod.linux.as_ref().map(|l| l.cgroup_parent.clone()).unwrap_or_default();
        assert!(runtime["cgroupPath"].as_str().is_some_and(|path| path.starts_with(&parent)), "{runtime}");
        assert_eq!(runtime["io.kubernetes.cri.pod-annotations"]["k8s.v1.cni.cncf.io/networks"], "second");
        if command == "DEL" {
            assert_eq!(config["prevResult"]["ips"][0]["address"], "10.255.1.2/24", "the cached result");
        }
    }
    node.daemon.assert_no_leaks(Duration::from_secs(5))
}

#[tokio::test]
async fn a_plugin_that_fails_leaves_no_pod_and_its_words() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let plugin = node.daemon.plugins().join("refusing");
    std::fs::write(
        &plugin,
        "#!/bin/sh\ncat >/dev/null\n[ $CNI_COMMAND = ADD ] || exit 0\n\
         echo '{\"cniVersion\":\"1.0.0\",\"code\":100,\"msg\":\"no address is left\"}'; exit 1\n",
    )?;
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755))?;
    node.daemon.network().write(&[json!({ "type": "refusing" })])?;
    crate::support::until("the new network to count", || async {
        let status = cri.runtime().status(v1::StatusRequest { verbose: true }).await?.into_inner();
        Ok(status.info.get("cniconfig").is_some_and(|text| text.contains("refusing")))
    })
    .await?;
    let error = cri.run_pod(&node.daemon.pod("plugins-failed")).await.expect_err("there is no address");
    assert!(error.message().contains("no address is left"), "{error}");
    assert!(cri.pods().await?.is_empty());
    node.daemon.assert_no_leaks(Duration::from_secs(5))
}

/// A plugin that answers with this address and notes `COMMAND SANDBOX` in `calls`.
fn install(node: &Node, name: &str, ip: &str) -> Result<()> {
    let calls = node.daemon.home().join("calls");
    let result = json!({ "cniVersion": "1.0.0", "ips": [{ "address": format!("{ip}/24") }] });
    let text = format!(
        "#!/bin/sh\ncat >/dev/null\necho {name} $CNI_COMMAND $CNI_CONTAINERID >> {}\n\
         [ $CNI_COMMAND != ADD ] || echo '{result}'\n",
        calls.display()
    );
    let plugin = node.daemon.plugins().join(name);
    std::fs::write(&plugin, text)?;
    Ok(std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755))?)
}

#[tokio::test]
async fn a_handler_with_a_directory_of_its_own_has_a_network_of_its_own() -> Result<()> {
    let mut node = Node::start().await?;
    let own = node.daemon.home().join("own.d");
    std::fs::create_dir(&own)?;
    let table = format!(
        "\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gpu]\nruntime_type = 'io.cricket.youki.v1'\n\
         cni_conf_dir = {:?}\ncni_max_conf_num = 1\n",
        own.display().to_string()
    );
    let config = std::fs::read_to_string(node.daemon.config())?;
    std::fs::write(node.daemon.config(), format!("{config}{table}"))?;
    install(&node, "nodes", "10.255.2.2")?;
    install(&node, "handlers", "10.255.3.2")?;
    node.daemon.network().write(&[json!({ "type": "nodes" })])?;
    node.daemon.kill_and_launch()?;
    let log = node.daemon.log();
    let unused: Vec<_> = log.lines().filter(|line| line.contains("cni_conf_dir")).collect();
    assert!(unused.is_empty(), "listed as unused: {unused:?}");

    let cri = node.daemon.cri().await?;
    // Its directory is empty: the node is ready, only this handler's pods are refused.
    cri.run_pod(&node.daemon.pod("plain")).await?;
    let error = cri.run_pod_with(&node.daemon.pod("early"), "gpu").await.expect_err("no network");
    assert!(error.message().contains("own.d"), "{error}");
    let list = json!({ "cniVersion": "1.0.0", "name": "own", "plugins": [{ "type": "handlers" }] });
    std::fs::write(own.join("10-own.conflist"), list.to_string())?;
    crate::support::until("the handler's network to count", || async {
        let status = cri.runtime().status(v1::StatusRequest { verbose: true }).await?.into_inner();
        let shown = status.info.get("cniconfig.gpu").is_some_and(|text| text.contains("handlers"));
        Ok(shown && status.info.get("lastCNILoadStatus.gpu").is_some_and(|text| text == "OK"))
    })
    .await?;
    let (pod, plain) = (node.daemon.pod("own"), node.daemon.pod("nodes"));
    let (id, other) = (cri.run_pod_with(&pod, "gpu").await?, cri.run_pod(&plain).await?);
    assert_eq!(cri.pod(&id).await?.network.context("a network")?.ip, "10.255.3.2");
    assert_eq!(cri.pod(&other).await?.network.context("a network")?.ip, "10.255.2.2");
    // The handler leaves the configuration while its pod runs.
    std::fs::write(node.daemon.config(), config)?;
    std::fs::remove_dir_all(&own)?;
    node.daemon.kill_and_launch()?;
    let cri = node.daemon.cri().await?;
    cri.remove_all_pods().await?;
    let calls = std::fs::read_to_string(node.daemon.home().join("calls"))?;
    for line in [format!("handlers DEL {id}"), format!("nodes DEL {other}")] {
        assert!(calls.lines().any(|l| l == line), "{line} is not in {calls}");
    }
    assert!(!calls.contains(&format!("nodes DEL {id}")), "{calls}");
    node.daemon.assert_no_leaks(Duration::from_secs(5))
}
