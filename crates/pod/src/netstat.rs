//! A pod's network counters, read inside its network namespace.

use std::path::Path;

use cricket_cri_api::v1;

use crate::stats::value;

/// The counters of every interface but `lo`; `eth0`, or else the first, is the default one.
pub(crate) fn usage(netns: &Path, timestamp: i64) -> Option<v1::NetworkUsage> {
    let file = std::fs::File::open(netns).ok()?;
    let text =
        cricket_process::namespaces::inside(&file, || Ok(std::fs::read_to_string("/proc/thread-self/net/dev"))).ok()?;
    let mut interfaces = parse(&text.ok()?);
    let at = interfaces.iter().position(|i| i.name == "eth0").unwrap_or(0);
    let default_interface = (!interfaces.is_empty()).then(|| interfaces.remove(at));
    Some(v1::NetworkUsage { timestamp, default_interface, interfaces })
}

/// Parses proc_pid_net(5) `dev`: bytes, packets, errs, … received, then the same sent.
pub(crate) fn parse(text: &str) -> Vec<v1::NetworkInterfaceUsage> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let numbers: Vec<u64> = rest.split_ascii_whitespace().map(|n| n.parse().unwrap_or(0)).collect();
        let name = name.trim();
        (name != "lo" && numbers.len() >= 11).then(|| v1::NetworkInterfaceUsage {
            name: name.to_owned(),
            rx_bytes: value(numbers[0]),
            rx_errors: value(numbers[2]),
            tx_bytes: value(numbers[8]),
            tx_errors: value(numbers[10]),
        })
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
    }
}
