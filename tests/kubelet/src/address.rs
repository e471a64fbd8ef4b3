//! A node's address: kubelets refuse loopback's own, and theirs must be on an
//! interface of the machine.

use anyhow::{Context, Result};
use cricket_testkit::cni::Network;
use cricket_testkit::host;
use std::net::{Ipv4Addr, TcpListener};

/// After so many seconds the kernel takes the address back by itself, should
/// the process that made it have been killed.
const LIFETIME: u32 = 6 * 3600;

/// An address on `lo` that is nobody else's; removed on drop.
pub(crate) struct Address {
    ip: Ipv4Addr,
}

impl Address {
    /// Makes the address that goes with a network: as unique as its subnet is.
    pub(crate) fn new(network: &Network) -> Result<Self> {
        let gateway: Ipv4Addr = network.gateway().parse()?;
        let [a, b, c, d] = gateway.octets();
        let address = Self { ip: Ipv4Addr::new(a, b + 1, c, d) };
        let (prefix, seconds) = (address.prefix(), LIFETIME.to_string());
        // "replace": a killed owner of the same subnet may have left it.
        let add = ["address", "replace", &prefix, "dev", "lo", "valid_lft", &seconds, "preferred_lft", &seconds];
        host::run("ip", add).context("an address for the node")?;
        Ok(address)
    }

    pub(crate) fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// `N` ports that are free now, all different.
    pub(crate) fn free_ports<const N: usize>(&self) -> Result<[u16; N]> {
        let mut ports = [0; N];
        let mut held = Vec::new();
        for port in &mut ports {
            let listener = TcpListener::bind((self.ip, 0))?;
            *port = listener.local_addr()?.port();
            held.push(listener);
        }
        Ok(ports)
    }

    fn prefix(&self) -> String {
        format!("{}/32", self.ip)
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        if let Err(error) = host::run("ip", ["address", "delete", &self.prefix(), "dev", "lo"]) {
            eprintln!("{}: {error:#}", self.ip);
        }
    }
}
