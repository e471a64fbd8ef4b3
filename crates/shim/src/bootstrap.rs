//! A shim's command line: how it is started and cleaned up after, and what `start` answers.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::error::{Error, Result};
use crate::messages::{Any, BootstrapParams, BootstrapResult, Extension};

/// Most bytes that an answer to `start` has.
pub const MAX_ANSWER: usize = 16 << 10;

/// What `start` answers: where the task service is and which version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Version of the task service: 2 or 3.
    pub version: u32,
    /// Where it listens.
    pub address: Address,
}

/// The same on paper. Fields that later versions add are not ours to judge.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    #[serde(default)]
    version: u32,
    address: String,
    #[serde(default)]
    protocol: String,
}

impl Bootstrap {
    /// Reads what a shim printed: a `BootstrapResult`, or, of shims before that, a JSON object or the address alone.
    ///
    /// # Errors
    /// When it is longer than [`MAX_ANSWER`], no answer, or one of a protocol other than ttrpc.
    pub fn parse(answer: &[u8]) -> Result<Self> {
        if answer.len() > MAX_ANSWER {
            return Err(Error::Bootstrap(format!("more than {MAX_ANSWER} bytes")));
        }
        let text = std::str::from_utf8(answer).unwrap_or_default().trim();
        if text.starts_with('/') || text.starts_with("unix:") {
            return Ok(Self { version: 2, address: Address::parse(text)? });
        }
        if text.starts_with('{') {
            let answer: Answer = serde_json::from_str(text).map_err(|e| Error::Bootstrap(e.to_string()))?;
            return Self::checked(answer.version, &answer.address, &answer.protocol);
        }
        let answer = BootstrapResult::decode(answer).map_err(|e| Error::Bootstrap(e.to_string()))?;
        Self::checked(u32::try_from(answer.version).unwrap_or(u32::MAX), &answer.address, &answer.protocol)
    }

    fn checked(version: u32, address: &str, protocol: &str) -> Result<Self> {
        if !["", "ttrpc"].contains(&protocol) {
            let protocol: String = protocol.chars().take(40).collect();
            return Err(Error::Bootstrap(format!("protocol {protocol:?}: only ttrpc is spoken")));
        }
        let version = match version {
            0 => 2,
            version @ (2 | 3) => version,
            version => return Err(Error::Bootstrap(format!("version {version}: 2 and 3 are spoken"))),
        };
        Ok(Self { version, address: Address::parse(address)? })
    }

    /// What [`Bootstrap::parse`] reads.
    pub fn to_json(&self) -> String {
        let answer = Answer { version: self.version, address: self.address.to_string(), protocol: "ttrpc".to_owned() };
        serde_json::to_string(&answer).unwrap_or_default()
    }
}

/// What every command of a shim is told.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The shim's binary.
    pub binary: &'a OsStr,
    /// containerd's namespace: names of sockets and state directories are made of it.
    pub namespace: &'a str,
    /// The runtime's own address: names of sockets are made of it.
    pub address: &'a Path,
    /// Where events are taken, if anywhere: the socket of [`Events`](crate::Events).
    pub events: Option<&'a Path>,
    /// Executed with each event where no event service is given.
    pub publish: &'a Path,
    /// The container's ID; a pod's shim has that of its first one.
    pub id: &'a str,
    /// The container's bundle.
    pub bundle: &'a Path,
}

impl Place<'_> {
    /// `start`: prints a [`Bootstrap`] and leaves a server behind. It wants a file `log` in the bundle.
    pub fn start(&self) -> Command {
        self.command("start")
    }

    /// What `start` reads from its input; older shims do not read it.
    pub fn input(&self, options: Option<Any>) -> Vec<u8> {
        let params = BootstrapParams {
            instance_id: self.id.to_owned(),
            namespace: self.namespace.to_owned(),
            ttrpc_address: self.events.map(|path| path.display().to_string()).unwrap_or_default(),
            grpc_address: self.address.display().to_string(),
            binary: self.publish.display().to_string(),
            extensions: options.map(|options| Extension { value: Some(options) }).into_iter().collect(),
        };
        params.encode_to_vec()
    }

    /// `delete`: cleans up what a container left whose server does not answer any more.
    pub fn delete(&self) -> Command {
        self.command("delete")
    }

    fn command(&self, action: &str) -> Command {
        let mut command = Command::new(self.binary);
        command.arg("-namespace").arg(self.namespace).arg("-address").arg(self.address);
        command.arg("-publish-binary").arg(self.publish).arg("-id").arg(self.id);
        // `delete` is told where the bundle is; both find it as their working directory.
        if action == "delete" {
            command.arg("-bundle").arg(self.bundle);
        }
        command.arg(action).current_dir(self.bundle);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_every_age() {
        let json = br#"{"version":3,"address":"unix:///run/containerd/s/ab","protocol":"ttrpc","later":[1]}"#;
        let new = Bootstrap::parse(json).expect("version 3");
        assert_eq!((new.version, new.address.path()), (3, Path::new("/run/containerd/s/ab")));
        assert_eq!(Bootstrap::parse(new.to_json().as_bytes()).expect("round trip"), new);
        let old = Bootstrap::parse(b"unix:///run/s\n").expect("address");
        assert_eq!((old.version, old.address.to_string().as_str()), (2, "unix:///run/s"));
        let newest =
            BootstrapResult { version: 3, address: new.address.to_string(), protocol: "ttrpc".into() }.encode_to_vec();
        assert_eq!(Bootstrap::parse(&newest).expect("message"), new);
        assert_eq!(Bootstrap::parse(br#"{"address":"/run/s"}"#).expect("no version").version, 2);
    }

    #[test]
    fn hostile_answers_are_refused() {
        let long = format!("unix:///{}", "a".repeat(200));
        let huge = vec![b'/'; MAX_ANSWER + 1];
        let bad: [&[u8]; 10] = [
            b"",
            b"\xff",
            b"relative",
            b"vsock://2:1024",
            b"/a\nb",
            b"{",
            br#"{"version":9,"address":"/run/s"}"#,
            br#"{"version":3,"address":"/run/s","protocol":"grpc"}"#,
            long.as_bytes(),
            &huge,
        ];
        for answer in bad {
            assert!(Bootstrap::parse(answer).is_err(), "{:?}", String::from_utf8_lossy(answer));
        }
    }
}
