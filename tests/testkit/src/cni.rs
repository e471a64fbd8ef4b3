//! A CNI network of one's own: a conflist with a bridge, addresses and port
//! mappings that no other test uses. `lo` needs no plugin.
//!
//! The subnet is claimed by a lock on a file below `/run/lock`, so that it is
//! free again when this process ends, however it ends.

use crate::{host, leaks};
use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Where Debian's package puts the standard plugins.
pub const PLUGINS: &str = "/usr/lib/cni";

const FILE: &str = "10-testkit.conflist";
const CLAIMS: &str = "/run/lock/cricket-testkit";

/// The network and what was made for it on the host.
pub struct Network {
    name: String,
    bridge: String,
    number: u8,
    conf_dir: PathBuf,
    data_dir: PathBuf,
    _claim: File,
}

impl Network {
    /// A network whose configuration and leases are below `dir`.
    pub fn new(dir: &Path) -> Result<Self> {
        Self::with(dir, |_| {})
    }

    /// Same, with the list of plugins changed before it is written.
    pub fn with(dir: &Path, change: impl FnOnce(&mut Vec<Value>)) -> Result<Self> {
        let (number, claim) = claim()?;
        let id = host::unique();
        let network = Self {
            name: format!("ck-{id}"),
            bridge: format!("ck{id}"),
            number,
            conf_dir: dir.join("net.d"),
            data_dir: dir.join("ipam"),
            _claim: claim,
        };
        let mut plugins = vec![
            json!({
                "type": "bridge",
                "bridge": network.bridge,
                "isGateway": true,
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": network.data_dir,
                    "ranges": [[{ "subnet": network.subnet() }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }),
            json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true }),
        ];
        change(&mut plugins);
        std::fs::create_dir_all(&network.conf_dir)?;
        network.write(&plugins)?;
        Ok(network)
    }

    /// The network whose owner was killed, by the configuration in `dir`: to
    /// drop it, which removes what it has on the host. None when there is none.
    pub fn left_in(dir: &Path) -> Result<Option<Self>> {
        let conf_dir = dir.join("net.d");
        let path = conf_dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let list: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        let name = list["name"].as_str().filter(|name| name.starts_with("ck-")).context("not a name of ours")?;
        let subnet = list["plugins"][0]["ipam"]["ranges"][0][0]["subnet"].as_str().unwrap_or_default();
        let number = subnet.split('.').nth(2).and_then(|octet| octet.parse().ok()).context("not a subnet of ours")?;
        let bridge = name.replacen('-', "", 1);
        let claim = File::create(Path::new(CLAIMS).join(format!("subnet-{number}")))?;
        if claim.try_lock().is_err() {
            bail!("subnet {subnet} has a new owner");
        }
        Ok(Some(Self { name: name.to_owned(), bridge, number, conf_dir, data_dir: dir.join("ipam"), _claim: claim }))
    }

    /// Replaces the configuration; the directory's watchers see a rename.
    pub fn write(&self, plugins: &[Value]) -> Result<()> {
        let list = json!({ "cniVersion": "1.0.0", "name": self.name, "plugins": plugins });
        let (temporary, path) = (self.conf_dir.join(".new"), self.conf_path());
        std::fs::write(&temporary, serde_json::to_vec_pretty(&list)?)?;
        std::fs::rename(&temporary, &path).with_context(|| path.display().to_string())
    }

    /// The directory that holds the conflist.
    pub fn conf_dir(&self) -> &Path {
        &self.conf_dir
    }

    /// The conflist.
    pub fn conf_path(&self) -> PathBuf {
        self.conf_dir.join(FILE)
    }

    /// The name in the conflist.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bridge device.
    pub fn bridge(&self) -> &str {
        &self.bridge
    }

    /// The subnet of the pods, such as `10.203.7.0/24`.
    pub fn subnet(&self) -> String {
        format!("10.203.{}.0/24", self.number)
    }

    /// The host's address in the subnet.
    pub fn gateway(&self) -> String {
        format!("10.203.{}.1", self.number)
    }

    /// Gives the host an address besides, such as a kubelet wants for its node:
    /// not loopback's own, but nobody else's. It goes with the network.
    pub fn node_address(&self) -> Result<Ipv4Addr> {
        let address = self.node_ip();
        // "replace": a killed owner of the subnet may have left it.
        host::run("ip", ["address", "replace", &format!("{address}/32"), "dev", "lo"])?;
        Ok(address)
    }

    fn node_ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 204, self.number, 1)
    }

    /// Addresses that are leased now.
    pub fn leases(&self) -> Result<Vec<String>> {
        let dir = self.data_dir.join(&self.name);
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut leases = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("10.203.") {
                leases.push(name);
            }
        }
        Ok(leases)
    }

    /// What pods have left in the network: leases, devices on the bridge, and
    /// rules that mention the subnet.
    pub fn leaks(&self) -> Result<Vec<String>> {
        let mut leaks: Vec<_> = self.leases()?.into_iter().map(|ip| format!("lease of {ip}")).collect();
        let ports = PathBuf::from(format!("/sys/class/net/{}/brif", self.bridge));
        if ports.exists() {
            for entry in std::fs::read_dir(ports)? {
                leaks.push(format!("device {} on {}", entry?.file_name().to_string_lossy(), self.bridge));
            }
        }
        leaks.extend(self.namespaces()?.into_iter().map(|path| format!("network namespace {}", path.display())));
        leaks.extend(self.rules()?.into_iter().map(|rule| format!("iptables rule {rule}")));
        Ok(leaks)
    }
}

impl Network {
    /// Network namespaces in `/run/netns` that have an address of the subnet.
    pub fn namespaces(&self) -> Result<Vec<PathBuf>> {
        let prefix = format!(" 10.203.{}.", self.number);
        let mut found = Vec::new();
        for name in leaks::names(Path::new("/run/netns")) {
            let path = Path::new("/run/netns").join(name);
            // One that goes away just now, or a file that is no namespace, has no addresses.
            let addresses = host::run("nsenter", [&format!("--net={}", path.display()), "ip", "-o", "-4", "addr"]);
            if addresses.unwrap_or_default().contains(&prefix) {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// Rules of the nat table that belong to this network: by its name in
    /// their comment, or by an address of its subnet.
    fn rules(&self) -> Result<Vec<String>> {
        let prefix = format!("10.203.{}.", self.number);
        let table = host::run("iptables-save", ["-t", "nat"])?;
        let mine = |line: &&str| line.starts_with("-A ") && (line.contains(&self.name) || line.contains(&prefix));
        Ok(table.lines().filter(mine).map(str::to_owned).collect())
    }

    /// Removes what no DEL came for: pinned namespaces, rules, and the chains
    /// made for them.
    fn purge(&self) -> Result<()> {
        for path in self.namespaces()? {
            umount2(&path, MntFlags::MNT_DETACH)?;
            std::fs::remove_file(path)?;
        }
        let rules = self.rules()?;
        let words = rules.iter().flat_map(|rule| rule.split(' '));
        let chains: BTreeSet<_> = words.filter(|word| word.starts_with("CNI-DN-")).collect();
        let change = |arguments: &str| host::run("sh", ["-c", &format!("iptables -w -t nat {arguments}")]).map(drop);
        for rule in rules.iter().filter(|rule| !rule.starts_with("-A CNI-DN-")) {
            change(&rule.replacen("-A ", "-D ", 1))?;
        }
        for chain in chains {
            change(&format!("-F {chain}"))?;
            change(&format!("-X {chain}"))?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // No pod with a network was ever made: then there is no bridge.
        let _ = host::run("ip", ["link", "delete", &self.bridge]);
        // Likewise when no node was ever made.
        let _ = host::run("ip", ["address", "delete", &format!("{}/32", self.node_ip()), "dev", "lo"]);
        if let Err(error) = self.purge() {
            eprintln!("network {}: {error:#}", self.name);
        }
    }
}

/// A free third octet of 10.203.0.0/16 and the lock that keeps it.
fn claim() -> Result<(u8, File)> {
    let dir = Path::new(CLAIMS);
    std::fs::create_dir_all(dir)?;
    let start: u8 = u8::from_str_radix(&host::unique()[..2], 16)?;
    for step in 0..=u8::MAX {
        let number = start.wrapping_add(step);
        let path = dir.join(format!("subnet-{number}"));
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        if file.try_lock().is_ok() && !in_use(number)? {
            return Ok((number, file));
        }
    }
    bail!("every subnet of 10.203.0.0/16 is in use")
}

/// A bridge that a killed test left has the address still.
fn in_use(number: u8) -> Result<bool> {
    Ok(!host::run("ip", ["-o", "route", "show", "exact", &format!("10.203.{number}.0/24")])?.trim().is_empty())
}
