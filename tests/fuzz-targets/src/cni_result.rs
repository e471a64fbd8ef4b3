//! What network plugins print: results in every version, and errors.

use cricket_cni::fuzzing::{attachment, reported, result};
use cricket_cni::{Attachment, PluginError, Version};

use crate::input;

/// A result can be written in every version, reads back as that version, and going twice changes nothing; a pod's
/// addresses begin with an IPv4 one; errors are printable and short.
pub fn run(data: &[u8]) {
    let (choice, output) = data.split_first().unwrap_or((&0, &[]));
    let asked = Version::ALL[usize::from(*choice) % Version::ALL.len()];
    for to in Version::ALL {
        let Ok(written) = result(output, asked, to) else { break };
        assert_eq!(written["cniVersion"], to.as_str());
        let text = serde_json::to_vec(&written).expect("JSON");
        let again = result(&text, asked, to).expect("what was written");
        assert_eq!(input::settled(again), input::settled(written), "the same version again");
    }
    if let Ok(mut got) = attachment(output, asked, "eth0") {
        assert!(!got.ips.is_empty());
        assert!(got.ips[0].is_ipv4() || !got.ips.iter().any(|ip| ip.is_ipv4()), "{:?}", got.ips);
        let longest = |ip: std::net::IpAddr| if ip.is_ipv4() { 32 } else { 128 };
        assert!(got.interfaces.iter().flat_map(|i| &i.addresses).all(|a| a.prefix <= longest(a.ip)));
        let text = serde_json::to_vec(&got).expect("JSON");
        let mut again: Attachment = serde_json::from_slice(&text).expect("what is recorded");
        (got.result, again.result) = (input::settled(got.result), input::settled(again.result));
        assert_eq!(again, got, "what is recorded");
    }
    if let Some(PluginError::Reported { code, msg, details }) = reported(output) {
        assert_ne!(code, 0);
        assert!([&msg, &details].iter().all(|t| t.chars().count() <= 2049 && !t.chars().any(char::is_control)));
    }
    let [first, _] = input::parts(output);
    assert!(reported(first).is_none() || !first.is_empty());
}
