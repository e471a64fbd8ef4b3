//! A pod's network counters, read inside its network namespace.

use std::path::Path;

use cricket_cri_api::v1;

use crate::stats::value;

/// What an interface has counted in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Packets.
    pub(crate) packets: u64,
    /// Packets that were broken.
    pub(crate) errors: u64,
    /// Packets that there was no room for.
    pub(crate) dropped: u64,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Its name.
    pub(crate) name: String,
    /// What came in.
    pub(crate) received: Traffic,
    /// What went out.
    pub(crate) sent: Traffic,
}

/// The counters of every interface of the network namespace but `lo`; `None` when it is gone.
pub(crate) fn counters(netns: &Path) -> Option<Vec<Counters>> {
    let read = || Ok(std::fs::read_to_string("/proc/thread-self/net/dev"));
    let inside = |file: &std::fs::File| cricket_process::namespaces::inside(file, read).ok()?.ok();
    Some(table(&inside(&std::fs::File::open(netns).ok()?)?))
}

/// As the CRI's statistics have them; `eth0`, or else the first, is the default one.
pub(crate) fn usage(netns: &Path, timestamp: i64) -> Option<v1::NetworkUsage> {
    let mut interfaces: Vec<_> = counters(netns)?.into_iter().map(interface).collect();
    let at = interfaces.iter().position(|i| i.name == "eth0").unwrap_or(0);
    let default_interface = (!interfaces.is_empty()).then(|| interfaces.remove(at));
    Some(v1::NetworkUsage { timestamp, default_interface, interfaces })
}

/// The counters in proc_pid_net(5) `dev`.
pub(crate) fn parse(text: &str) -> Vec<v1::NetworkInterfaceUsage> {
    table(text).into_iter().map(interface).collect()
}

fn interface(counters: Counters) -> v1::NetworkInterfaceUsage {
    v1::NetworkInterfaceUsage {
        name: counters.name,
        rx_bytes: value(counters.received.bytes),
        rx_errors: value(counters.received.errors),
        tx_bytes: value(counters.sent.bytes),
        tx_errors: value(counters.sent.errors),
    }
}

/// Eight numbers of what was received, the first four of them bytes, packets, errors and drops; the same of what was
/// sent.
fn table(text: &str) -> Vec<Counters> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let numbers: Vec<u64> = rest.split_ascii_whitespace().map(|n| n.parse().unwrap_or(0)).collect();
        let traffic = |n: &[u64]| {
            Some(Traffic { bytes: *n.first()?, packets: *n.get(1)?, errors: *n.get(2)?, dropped: *n.get(3)? })
        };
        let (received, sent) = (traffic(&numbers)?, traffic(numbers.get(8..)?)?);
        let name = name.trim();
        (name != "lo").then(|| Counters { name: name.to_owned(), received, sent })
    };
    text.lines().skip(2).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_kernels_table() {
        let text = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n  eth0:    2000      20    3    0    0     0          0         0      700       7    4    0    0     0       0          0\n";
        let all = parse(text);
        assert_eq!(all.len(), 1);
        let i = &all[0];
        assert_eq!(
            (i.name.as_str(), i.rx_bytes, i.rx_errors, i.tx_bytes, i.tx_errors),
            ("eth0", value(2000), value(3), value(700), value(4))
        );
        let received = Traffic { bytes: 2000, packets: 20, errors: 3, dropped: 0 };
        let sent = Traffic { bytes: 700, packets: 7, errors: 4, dropped: 0 };
        assert_eq!(table(text), [Counters { name: "eth0".into(), received, sent }]);
        assert!(table("a\nb\n eth0: 1 2 3 4 5 6 7 8 9 10 11\n").is_empty());
    }
}
