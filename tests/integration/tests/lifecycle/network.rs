//! A pod's network: addresses, ports, names, and what is left of it.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::Node;
use cricket_testkit::cri;
use cricket_testkit::host::free_port;

use crate::support::{Scene, idle, node, pod_security, shell, until};

/// One connection to a server that says something.
fn fetch(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[tokio::test]
async fn the_address_in_the_status_is_the_pods() -> Result<()> {
    let scene = Scene::networked("net-address").await?;
    let ip = scene.cri.pod(&scene.id).await?.network.context("a network")?.ip;
    assert!(scene.node.daemon.network().leases()?.contains(&ip));
    let main = scene.run(&shell("main", "while :; do echo reached | nc -l -p 8080; done")).await?;
    let inside = scene.sh(&main, "ip -o -4 addr show dev eth0; ip -o addr show dev lo; ip route").await?;
    assert!(inside.contains(&format!("inet {ip}/24")), "{inside}");
    assert!(inside.contains("inet 127.0.0.1/8"), "lo is up: {inside}");
    assert!(inside.contains("default via"), "{inside}");
    let address = format!("{ip}:8080").parse()?;
    until("the server to answer", || async { Ok(fetch(address).is_ok_and(|text| text == "reached\n")) }).await?;
    // A second container has the same address.
    let second = scene.idle("second").await?;
    assert!(scene.sh(&second, "ip -o -4 addr show dev eth0").await?.contains(&ip));
    scene.end().await
}

#[tokio::test]
async fn nothing_is_left_of_it_when_the_pod_is_stopped() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let mut pod = node.daemon.pod("net-gone");
    let free = free_port(Ipv4Addr::UNSPECIFIED)?;
    pod.port_mappings = vec![v1::PortMapping { container_port: 80, host_port: free.into(), ..Default::default() }];
    let id = cri.run_pod(&pod).await?;
    let network = node.daemon.network();
    assert_eq!(
        (network.leases()?.len(), network.namespaces().map(|n| n.len()).unwrap_or_default()),
        (1, 0),
        "one lease; the namespace is not in the directory that other runtimes share"
    );
    assert!(!network.leaks()?.is_empty());
    cri.stop_pod(&id).await?;
    // All of it is gone with the stop: the record stays for the kubelet to look at.
    assert_eq!(network.leaks()?, Vec::<String>::new());
    assert_eq!(cri.pod(&id).await?.state(), v1::PodSandboxState::SandboxNotready);
    cri.remove_pod(&id).await?;
    node.daemon.assert_no_leaks(Duration::from_secs(5))
}

#[tokio::test]
async fn a_mapped_port_reaches_the_pod() -> Result<()> {
    let node = node().await?;
    let mut pod = node.daemon.pod("net-port");
    let free = free_port(Ipv4Addr::UNSPECIFIED)?;
    pod.port_mappings = vec![
        v1::PortMapping { container_port: 8080, host_port: free.into(), ..Default::default() },
        v1::PortMapping { container_port: 8081, host_port: 0, ..Default::default() },
    ];
    let scene = Scene::with(node, pod).await?;
    scene.run(&shell("main", "while :; do echo mapped | nc -l -p 8080; done")).await?;
    let gateway = scene.node.daemon.network().gateway();
    let address = format!("{gateway}:{free}").parse()?;
    until("the port to answer", || async { Ok(fetch(address).is_ok_and(|text| text == "mapped\n")) }).await?;
    scene.end().await
}

#[tokio::test]
async fn host_network_is_the_hosts() -> Result<()> {
    let scene = Scene::host("net-host").await?;
    let status = scene.cri.pod(&scene.id).await?;
    assert_eq!(status.network.unwrap_or_default().ip, "", "the kubelet puts the node's in");
    let options = status.linux.and_then(|l| l.namespaces).and_then(|n| n.options).context("options are echoed")?;
    assert_eq!(options.network(), v1::NamespaceMode::Node);
    let main = scene.idle("main").await?;
    let host = std::fs::read_link("/proc/self/ns/net")?.display().to_string();
    assert_eq!(scene.sh(&main, "readlink /proc/self/ns/net").await?, host);
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    assert_eq!(scene.sh(&main, "cat /proc/sys/kernel/hostname").await?, name.trim());
    scene.end().await
}

async fn network_ready(cri: &cri::Cri) -> Result<(bool, String)> {
    let answer = cri.runtime().status(v1::StatusRequest { verbose: false }).await?.into_inner();
    let conditions = answer.status.context("a status")?.conditions;
    assert!(conditions.iter().any(|c| c.r#type == "RuntimeReady" && c.status));
    let network = conditions.into_iter().find(|c| c.r#type == "NetworkReady").context("NetworkReady")?;
    Ok((network.status, format!("{}: {}", network.reason, network.message)))
}

#[tokio::test]
async fn readiness_follows_the_configuration() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    assert!(network_ready(&cri).await?.0);
    let (conf, aside) = (node.daemon.network().conf_path(), node.daemon.home().join("aside"));
    std::fs::rename(&conf, &aside)?;
    until("NetworkReady to be false", || async { Ok(!network_ready(&cri).await?.0) }).await?;
    let (_, why) = network_ready(&cri).await?;
    assert!(why.starts_with("NetworkPluginNotReady: ") && why.len() > 30, "{why}");
    let error = cri.run_pod(&node.daemon.pod("net-unready")).await.expect_err("there is no network");
    assert!(error.message().to_lowercase().contains("cni") || error.message().contains("network"), "{error}");
    // A pod on the host's network needs none.
    let host = cri.run_pod(&cri::host_network(node.daemon.pod("net-unready-host"))).await?;
    cri.stop_pod(&host).await?;
    cri.remove_pod(&host).await?;
    // The directory itself may go and come.
    let dir = node.daemon.network().conf_dir().to_owned();
    std::fs::remove_dir_all(&dir)?;
    std::fs::create_dir(&dir)?;
    std::fs::rename(&aside, &conf)?;
    until("NetworkReady to be true", || async { Ok(network_ready(&cri).await?.0) }).await?;
    let id = cri.run_pod(&node.daemon.pod("net-ready")).await?;
    cri.stop_pod(&id).await?;
    cri.remove_pod(&id).await?;
    node.daemon.assert_no_leaks(Duration::from_secs(5))
}

#[tokio::test]
async fn resolver_hostname_and_hosts() -> Result<()> {
    let node = node().await?;
    let mut pod = node.daemon.pod("net-names");
    pod.hostname = "the-name".into();
    pod.dns_config = Some(v1::DnsConfig {
        servers: vec!["10.9.9.9".into()],
        searches: vec!["a.example".into(), "b.example".into()],
        options: vec!["ndots:5".into()],
    });
    let scene = Scene::with(node, pod).await?;
    let main = scene.idle("main").await?;
    let resolver = scene.sh(&main, "cat /etc/resolv.conf").await?;
    assert_eq!(resolver, "search a.example b.example\nnameserver 10.9.9.9\noptions ndots:5");
    assert_eq!(
        scene.sh(&main, "hostname; cat /etc/hostname; cat /proc/sys/kernel/hostname").await?,
        "the-name\nthe-name\nthe-name"
    );
    assert!(scene.sh(&main, "cat /etc/hosts").await?.contains("localhost"));
    // Writable: many images' entrypoints edit them.
    scene.sh(&main, "echo '1.2.3.4 other' >> /etc/hosts").await?;
    scene.end().await
}

#[tokio::test]
async fn without_dns_the_hosts_resolver_is_copied() -> Result<()> {
    let scene = Scene::networked("net-dns-host").await?;
    let main = scene.idle("main").await?;
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(scene.sh(&main, "cat /etc/resolv.conf").await?, host.trim_end());
    scene.end().await
}

#[tokio::test]
async fn names_are_read_only_with_the_root_and_the_kubelets_win() -> Result<()> {
    let scene = Scene::networked("net-read-only").await?;
    let hosts = scene.node.daemon.home().join("kubelet-hosts");
    std::fs::write(&hosts, "127.0.0.1 from-the-kubelet\n")?;
    let mut config = idle("main");
    config.mounts = vec![crate::support::mount(&hosts, "/etc/hosts")];
    crate::support::security(&mut config).readonly_rootfs = true;
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "cat /etc/hosts").await?, "127.0.0.1 from-the-kubelet");
    for file in ["/etc/hostname", "/etc/resolv.conf", "/file"] {
        let done = scene.cri.exec(&main, &["sh", "-c", &format!("echo x >> {file}")], 5).await?;
        assert_ne!(done.exit_code, 0, "{file} is writable");
    }
    // The kubelet's mount is as the kubelet wants it, and devices and shared memory are not the root.
    scene.sh(&main, "echo '1.2.3.4 other' >> /etc/hosts; echo x > /dev/shm/file; echo x > /dev/null").await?;
    scene.end().await
}

#[tokio::test]
async fn sysctls_by_default_and_by_the_pod() -> Result<()> {
    let read = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range";
    let node = node().await?;
    let scene = Scene::with(node.clone(), node.daemon.pod("net-sysctl")).await?;
    let main = scene.idle("main").await?;
    assert_eq!(scene.sh(&main, read).await?.split_whitespace().collect::<Vec<_>>(), ["0", "0", "2147483647"]);
    scene.end().await?;

    let mut pod = node.daemon.pod("net-sysctl-own");
    pod.linux.get_or_insert_default().sysctls = [
        ("net.ipv4.ip_unprivileged_port_start".to_owned(), "1000".to_owned()),
        ("kernel.shm_rmid_forced".to_owned(), "1".to_owned()),
    ]
    .into();
    let scene = Scene::with(node.clone(), pod).await?;
    let main = scene.idle("main").await?;
    let values = scene.sh(&main, &format!("{read} /proc/sys/kernel/shm_rmid_forced")).await?;
    assert_eq!(values.split_whitespace().collect::<Vec<_>>(), ["1000", "0", "2147483647", "1"]);
    scene.end().await?;

    // A value that the kernel refuses is the pod's fault, and named.
    let mut pod = node.daemon.pod("net-sysctl-value");
    pod.linux.get_or_insert_default().sysctls = [("net.ipv4.ip_forward".to_owned(), "yes".to_owned())].into();
    let error = node.daemon.cri().await?.run_pod(&pod).await.expect_err("no number");
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    assert!(error.message().contains("net.ipv4.ip_forward"), "{error}");

    // On the host's network they would be the host's.
    let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")?;
    let scene = Scene::host("net-sysctl-host").await?;
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")?, before);
    scene.end().await?;
    let mut pod = cri::host_network(node.daemon.pod("net-sysctl-refused"));
    pod.linux.get_or_insert_default().sysctls =
        [("net.ipv4.ip_unprivileged_port_start".to_owned(), "1".to_owned())].into();
    let cri = node.daemon.cri().await?;
    let error = cri.run_pod(&pod).await.expect_err("the host's network is not the pod's to change");
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    Ok(())
}

#[tokio::test]
async fn an_unprivileged_process_serves_port_80() -> Result<()> {
    let node = node().await?;
    let mut pod = node.daemon.pod("net-port-80");
    pod_security(&mut pod);
    let scene = Scene::with(node, pod).await?;
    let mut config = shell("main", "while :; do echo eighty | nc -l -p 80; done");
    let context = crate::support::security(&mut config);
    context.run_as_user = Some(v1::Int64Value { value: 1000 });
    scene.run(&config).await?;
    let ip = scene.cri.pod(&scene.id).await?.network.context("a network")?.ip;
    let address = format!("{ip}:80").parse()?;
    until("port 80 to answer", || async { Ok(fetch(address).is_ok_and(|text| text == "eighty\n")) }).await?;
    scene.end().await
}
