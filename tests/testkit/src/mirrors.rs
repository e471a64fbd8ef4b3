//! A `hosts.toml` tree (containerd's registry host configuration) that sends
//! public registries' names to a registry of ours.

use anyhow::Result;
use std::fmt::Write as _;
use std::path::Path;

/// The hosts that the suites' images name.
pub const HOSTS: [&str; 5] = ["registry.k8s.io", "k8s.gcr.io", "gcr.io", "docker.io", "ghcr.io"];

/// Makes each of [`HOSTS`] a mirror of the registry at `url`.
pub fn write(dir: &Path, url: &str) -> Result<()> {
    for host in HOSTS {
        write_host(dir, host, url, &[Mirror::new(url)])?;
    }
    Ok(())
}

/// One `[host."…"]` table.
#[derive(Clone, Debug)]
pub struct Mirror<'a> {
    /// `http://` or `https://` and the host.
    pub url: &'a str,
    /// Path of a PEM certificate authority.
    pub ca: Option<&'a Path>,
    /// Accept any certificate.
    pub skip_verify: bool,
    /// What the mirror may be asked for.
    pub capabilities: &'a [&'a str],
}

impl<'a> Mirror<'a> {
    /// A mirror for everything that a pull asks.
    pub fn new(url: &'a str) -> Self {
        Self { url, ca: None, skip_verify: false, capabilities: &["pull", "resolve"] }
    }
}

/// Writes the file of one host: the server to ask last, and the mirrors in order.
pub fn write_host(dir: &Path, host: &str, server: &str, mirrors: &[Mirror<'_>]) -> Result<()> {
    let mut text = format!("server = {server:?}\n");
    for mirror in mirrors {
        write!(text, "\n[host.{:?}]\n  capabilities = {:?}\n", mirror.url, mirror.capabilities)?;
        if let Some(ca) = mirror.ca {
            writeln!(text, "  ca = {:?}", ca.display().to_string())?;
        }
        if mirror.skip_verify {
            writeln!(text, "  skip_verify = true")?;
        }
    }
    let dir = dir.join(host);
    std::fs::create_dir_all(&dir)?;
    Ok(std::fs::write(dir.join("hosts.toml"), text)?)
}
