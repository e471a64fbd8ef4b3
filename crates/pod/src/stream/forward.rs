//! Connections into a pod's network.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use cricket_model::ErrorKind;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::{TcpSocket, TcpStream};

use crate::error::{Error, Result};
use crate::pods::Pods;
use crate::record::{SandboxRecord, SandboxState};
use crate::shared::blocking;

/// A connection over the loopback interface that is not accepted by then: the listener's queue is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Pods {
    /// Connects to a port of the pod, on 127.0.0.1 and then on ::1. Only the socket is made inside the pod's network
    /// namespace, to which it belongs from then on; nothing of cricket stays in there.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` for a port outside of 1 to 65535; `FailedPrecondition` for a sandbox that is not
    /// ready; `Unavailable` when nobody accepts.
    pub async fn port_forward(&self, sandbox_id: &str, port: i32) -> Result<TcpStream> {
        let number = u16::try_from(port).ok().filter(|port| *port > 0);
        let number = number.ok_or_else(|| Error::invalid(format_args!("port {port} is not within 1 to 65535")))?;
        let view = self.pod(sandbox_id)?;
        let sandbox = &view.record.sandbox;
        if sandbox.state != SandboxState::Ready {
            return Err(Error::precondition(format_args!("pod sandbox {} is not ready", sandbox.id.short())));
        }
        let mut refusal = None;
        for (netns, address) in self.ways(sandbox) {
            match connect(netns, SocketAddr::new(address, number)).await {
                Ok(stream) => return Ok(stream),
                // That of 127.0.0.1 says more: many pods have no IPv6 at all.
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        let cause = refusal.map_or_else(String::new, |error| format!(": {error}"));
        let message = format_args!("connect to port {port} of pod sandbox {}{cause}", sandbox.id.short());
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// From where and to which addresses. A runtime with a network stack of its own has taken the pod's addresses over:
    /// nobody listens in the network namespace, but the host reaches them as any other does.
    fn ways(&self, sandbox: &SandboxRecord) -> Vec<(Option<PathBuf>, IpAddr)> {
        let handler = self.shared().handlers.get(&sandbox.handler);
        if let Some(network) = &sandbox.network
            && handler.is_ok_and(|handler| handler.needs_sandbox_container())
        {
            return network.ips.iter().map(|ip| (None, *ip)).collect();
        }
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        loopback.map(|address| (sandbox.netns.clone(), address)).to_vec()
    }
}

async fn connect(netns: Option<PathBuf>, address: SocketAddr) -> Result<TcpStream> {
    let socket = match netns {
        None => make(address)?,
        Some(netns) => blocking("enter the pod's network", move || inside(netns, address)).await?,
    };
    let stream = std::net::TcpStream::from(socket);
    let connecting = TcpSocket::from_std_stream(stream).connect(address);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.map_err(|e| Error::internal(address, &e)),
        Err(_) => Err(Error::new(ErrorKind::Unavailable, format_args!("{address}: not accepted in time"))),
    }
}

/// A thread enters the namespace, makes the socket and ends.
fn inside(netns: PathBuf, address: SocketAddr) -> Result<OwnedFd> {
    let failed = |e: &dyn std::error::Error| Error::internal(format_args!("open {}", netns.display()), e);
    let file = File::open(&netns).map_err(|e| failed(&e))?;
    cricket_process::namespaces::inside(&file, || Ok(make(address)))
        .map_err(|e| Error::internal(format_args!("enter {}", netns.display()), &e))?
}

fn make(address: SocketAddr) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None).map_err(|e| Error::internal("make a socket", &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cricket_process::namespaces::{self, Kinds};

    #[tokio::test]
    async fn connects_inside_the_namespace_and_nowhere_else() {
        let (fds, listener) = namespaces::make(Kinds::NET, || {
            namespaces::loopback_up()?;
            Ok(std::net::TcpListener::bind("127.0.0.1:0").expect("listen"))
        })
        .expect("make");
        let address = listener.local_addr().expect("address");
        let pin = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fds[0].1)));
        let before = std::fs::read_link("/proc/thread-self/ns/net").expect("own");
        let stream = connect(Some(pin.clone()), address).await.expect("connect");
        assert_eq!(listener.accept().expect("accept").1, stream.local_addr().expect("address"));
        assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").expect("own"), before);
        drop(listener);
        assert!(connect(Some(pin), address).await.is_err(), "nobody listens any more");
        let host = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
        connect(None, host.local_addr().expect("address")).await.expect("the host's network");
    }
}
