//! The real plugins: bridge, host-local and portmap from a distribution's package. Needs root.
//!
//! The test's thread, and with it every plugin, is in a network namespace of its own: bridge, addresses, packet filter
//! rules and settings go away with it, also when the test fails.

mod common;

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Lab, pod, until};
use cricket_cni::{CniConfig, PortMapping, Protocol};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;

const PLUGINS: &str = "/usr/lib/cni";

/// Runs a program that must succeed and returns what it printed.
fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().expect("sh");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Network namespaces of unique names, removed at the end; one is the host's part.
struct Net {
    id: String,
}

impl Net {
    fn new() -> Self {
        let net = Self { id: format!("ct{:x}", std::process::id()) };
        let host = fs::File::open(net.netns("host")).expect("namespace");
        move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
        sh("ip link set lo up");
        net
    }

    fn netns(&self, name: &str) -> PathBuf {
        let name = format!("{}-{name}", self.id);
        sh(&format!("ip netns add {name}"));
        Path::new("/run/netns").join(name)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let id = &self.id;
        let script = format!("for n in $(ip netns list | grep -o '^{id}-[a-z]*'); do ip netns del $n; done");
        let _ = Command::new("sh").args(["-c", &script]).output();
    }
}

#[tokio::test]
async fn real_plugins_attach_and_detach() {
    assert!(Path::new(PLUGINS).join("bridge").exists(), "install containernetworking-plugins");
    let (lab, net) = (Lab::new(), Net::new());
    let port = 20000 + u16::try_from(std::process::id() % 10000).expect("small");
    let list = json!({"name": net.id, "cniVersion": "1.0.0", "plugins": [
        {"type": "loopback"},
        {"type": "bridge", "bridge": net.id, "isGateway": true, "ipMasq": false,
         "ipam": {"type": "host-local", "dataDir": lab.path("ipam"), "routes": [{"dst": "0.0.0.0/0"}],
                  "ranges": [[{"subnet": "10.213.77.0/24"}], [{"subnet": "fd00:213:77::/64"}]]}},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]});
    lab.conf("10-net.conflist", &list.to_string());
    let cni = cricket_cni::Cni::open(CniConfig { bin_dirs: vec![PLUGINS.into()], ..lab.config() }).expect("open");
    until(&cni, Result::is_ok).await;

    let (mut a, mut b) = (pod(), pod());
    (a.netns, b.netns) = (net.netns("a"), net.netns("b"));
    a.port_mappings = vec![PortMapping { host_port: port, container_port: 80, protocol: Protocol::Tcp, host_ip: None }];
    let (at_a, at_b) = tokio::join!(cni.add(&a), cni.add(&b));
    let (at_a, at_b) = (at_a.expect("add a"), at_b.expect("add b"));
    assert!(at_a.ips[0].is_ipv4() && at_a.ips[1].is_ipv6() && at_a.ips[0] != at_b.ips[0], "{at_a:?} {at_b:?}");
    let shown = sh(&format!("ip -n {}-a addr show eth0", net.id));
    assert!(shown.contains(&format!("{}/24", at_a.ips[0])), "{shown}");
    assert!(rules().contains(&port.to_string()), "no rule for port {port}");
    // Not the one with a port: this portmap's CHECK looks for IPv4 rules among those of IPv6 when there are both.
    cni.check(&b.sandbox, &b.netns).await.expect("check");
    sh(&format!("ip -n {}-b link del eth0", net.id));
    cni.check(&b.sandbox, &b.netns).await.expect_err("the interface is gone");

    cni.del(&a.sandbox, Some(&a.netns)).await.expect("del a");
    // The other one's namespace goes first, and the configuration too.
    sh(&format!("ip netns del {}-b", net.id));
    fs::remove_dir_all(lab.path("net.d")).expect("remove");
    cni.del(&b.sandbox, Some(&b.netns)).await.expect("del b");
    let left: Vec<_> = fs::read_dir(lab.path("ipam").join(&net.id))
        .expect("ipam")
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| n.parse::<std::net::IpAddr>().is_ok())
        .collect();
    assert_eq!((left, cni.cached()), (vec![], vec![]));
    assert!(!rules().contains(&port.to_string()), "the rule for port {port} is left");
}

fn rules() -> String {
    sh("iptables-save -t nat")
}
