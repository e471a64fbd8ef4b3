//! Messages of monitors and helpers of other versions, which a container may have got hold of.

use std::fmt::Debug;

use cricket_wire::exec_config::ExecConfig;
use cricket_wire::helper::Report;
use cricket_wire::launch_config::LaunchConfig;
use cricket_wire::{Request, Response, packet};
use prost::Message;
use serde_json::Value;

/// A message that can be read survives being written, and fits into a packet again unless unknown fields are what it
/// lost. The first byte says which message it is.
pub fn run(data: &[u8]) {
    let (kind, bytes) = data.split_first().unwrap_or((&0, &[]));
    if bytes.len() > packet::MAX_BYTES {
        return;
    }
    match kind % 5 {
        0 => message::<Request>(bytes),
        1 => message::<Response>(bytes),
        2 => message::<Report>(bytes),
        3 => json::<ExecConfig>(bytes),
        _ => json::<LaunchConfig>(bytes),
    }
}

fn message<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(read) = M::decode(bytes) else { return };
    let written = read.encode_to_vec();
    assert_eq!(M::decode(written.as_slice()).as_ref(), Ok(&read));
}

fn json<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else { return };
    let value = |config: &T| serde_json::to_value(config).expect("JSON");
    let written = value(&read);
    let again: T = serde_json::from_value::<T>(written.clone()).expect("what was written");
    assert_eq!(value(&again), written);
    assert!(matches!(written, Value::Object(_)));
}
