//! Credentials of a pull: base64 of `user:password`, and the address that they are for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cricket_image::AuthConfig;
use cricket_image::fuzzing::credentials;

use crate::input;

/// What is sent is what was given; an error does not repeat it; credentials for another server stay here.
pub fn run(data: &[u8]) {
    let [auth, server, host] = input::parts(data).map(String::from_utf8_lossy);
    let config = AuthConfig { auth: auth.to_string(), server_address: server.to_string(), ..AuthConfig::default() };
    match credentials(&config, &host) {
        Ok(Some(header)) => {
            let encoded = header.strip_prefix("Basic ").expect("the scheme");
            let sent = STANDARD.decode(encoded).expect("base64");
            let given = STANDARD.decode(auth.trim()).or_else(|_| STANDARD.decode(padded(auth.trim())));
            let given = given.expect("what was read is base64");
            // NULs at the end are padding of old clients.
            let nuls = given.iter().rev().take_while(|b| **b == 0).count();
            assert_eq!(sent, given[..given.len() - nuls]);
            assert!(sent.contains(&b':'));
        }
        Ok(None) => assert!(auth.is_empty() || !server.is_empty()),
        Err(text) => assert!(auth.len() < 8 || !text.contains(&*auth), "{text}"),
    }
    let other = AuthConfig { server_address: "registry.invalid".to_owned(), ..config };
    if !host.to_ascii_lowercase().contains("registry.invalid") {
        assert_eq!(credentials(&other, &host), Ok(None), "sent to {host:?}");
    }
}

fn padded(text: &str) -> String {
    let text = text.trim_end_matches('=');
    format!("{text}{}", &"==="[..(4 - text.len() % 4) % 4])
}
