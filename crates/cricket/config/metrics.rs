//! Where the daemon's own metrics are served: `[metrics]`, or `[plugins."io.containerd.server.v1.metrics"]` since
//! version 4.

use std::net::SocketAddr;

use super::error::Result;
use super::reader::Reader;

/// The table of versions 2 and 3.
const TABLE: [&str; 1] = ["metrics"];
/// Version 4's.
const NEWER: [&str; 2] = ["plugins", "io.containerd.server.v1.metrics"];

/// Reads the tables; `None`: nowhere.
pub(super) fn read(r: &mut Reader) -> Result<Option<SocketAddr>> {
    let newer: Option<String> = r.optional(&NEWER, "address")?;
    let older = r.setting(&TABLE, "address", String::new())?;
    // Durations are always counted.
    r.fixed(&TABLE, "grpc_histogram", true);
    let (table, text): (&[&str], _) = match newer {
        Some(text) => (&NEWER, text),
        None => (&TABLE, older),
    };
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse();
    address.map(Some).map_err(|_| {
        r.wrong(table, "address", format_args!("{text:?}: want an IP address and a port, as 127.0.0.1:1338"))
    })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn nobody_is_served_unless_asked_for() {
        let load = |text: &str| Config::of_text(text).map(|c| (c.metrics.map(|a| a.to_string()), c.unsupported.len()));
        assert_eq!(load("version = 3").expect("valid"), (None, 0));
        assert_eq!(load("version = 3\n[metrics]\naddress = ''\ngrpc_histogram = true\n").expect("valid"), (None, 0));
        let (address, unsupported) =
            load("version = 2\n[metrics]\naddress = '127.0.0.1:1338'\ngrpc_histogram = false\n").expect("valid");
        assert_eq!((address.as_deref(), unsupported), (Some("127.0.0.1:1338"), 1));
        let newer = "version = 4\n[plugins.'io.containerd.server.v1.metrics']\naddress = '[::1]:9'\n";
        assert_eq!(load(newer).expect("valid"), (Some("[::1]:9".to_owned()), 0));
        for wrong in ["localhost:1338", "127.0.0.1", "/run/x.sock"] {
            assert!(load(&format!("version = 3\n[metrics]\naddress = '{wrong}'\n")).is_err(), "{wrong}");
        }
    }
}
