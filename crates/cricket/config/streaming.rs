//! The table of the streaming server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use cricket_streaming::{Config, Tls};

use super::duration::GoDuration;
use super::error::Result;
use super::reader::Reader;
use super::versions::GRPC;

/// The table.
const TABLE: [&str; 2] = ["plugins", GRPC];
/// The certificate's.
const PAIR: [&str; 3] = ["plugins", GRPC, "x509_key_pair_streaming"];

/// Reads the table.
pub(super) fn read(r: &mut Reader) -> Result<Config> {
    let default = Config::default();
    let ip = match r.setting(&TABLE, "stream_server_address", Ipv4Addr::LOCALHOST.to_string())?.as_str() {
        // containerd takes an address of the node for an empty one; a kubelet that is on the node needs none.
        "" | "localhost" => Ipv4Addr::LOCALHOST.into(),
        text => text.parse::<IpAddr>().map_err(|_| {
            r.wrong(&TABLE, "stream_server_address", format_args!("{text:?}: want an IP address, as 127.0.0.1"))
        })?,
    };
    let port = r.setting(&TABLE, "stream_server_port", "0".to_owned())?;
    let port = port.parse::<u16>().map_err(|_| {
        r.wrong(&TABLE, "stream_server_port", format_args!("{port:?}: want a port in quotes, \"0\" for any"))
    })?;
    let idle = r.setting(&TABLE, "stream_idle_timeout", GoDuration(Duration::from_secs(4 * 3600)))?;
    let tls = tls(r)?;
    // What a dump of containerd's defaults says and cricket does as well.
    r.fixed(&TABLE, "disable_tcp_service", true);
    Ok(Config { address: SocketAddr::new(ip, port), idle_timeout: idle.0, tls, ..default })
}

fn tls(r: &mut Reader) -> Result<Option<Tls>> {
    let enabled = r.setting(&TABLE, "enable_tls_streaming", false)?;
    let certificate: String = r.setting(&PAIR, "tls_cert_file", String::new())?;
    let key: String = r.setting(&PAIR, "tls_key_file", String::new())?;
    let wrong = |key, reason| Err(r.wrong(&PAIR, key, reason));
    match (enabled, certificate.is_empty(), key.is_empty()) {
        (false, true, true) => Ok(None),
        (false, false, _) => wrong("tls_cert_file", "enable_tls_streaming is not true"),
        (false, _, false) => wrong("tls_key_file", "enable_tls_streaming is not true"),
        (true, true, true) => Ok(Some(Tls::SelfSigned)),
        (true, true, false) => wrong("tls_key_file", "tls_cert_file is missing"),
        (true, false, true) => wrong("tls_cert_file", "tls_key_file is missing"),
        (true, false, false) => {
            Ok(Some(Tls::Files { certificate: PathBuf::from(certificate), key: PathBuf::from(key) }))
        }
    }
}
