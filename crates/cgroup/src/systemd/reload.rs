//! What a `daemon-reload` does to limits that no property stands for: systemd writes every file of the controllers that a
//! unit has, some of them with a default that cannot be changed. Those are written again after it.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use zbus::message::Type;
use zbus::{MatchRule, MessageStream};

use super::{INTERFACE, SERVICE, Systemd, SystemdError};
use crate::Resources;

/// Files that systemd writes and scopes have no property for: `memory.oom.group` (the kubelet sets it; scopes have
/// `OOMPolicy` since systemd 253, which cannot be changed later and brings systemd's own kills), what follows from
/// `CPUWeight` and `IOWeight`, and what only newer versions write.
const WRITTEN_OVER: [&str; 6] =
    ["cpu.idle", "cpu.weight.nice", "io.bfq.weight", "memory.oom.group", "memory.zswap.max", "memory.zswap.writeback"];

/// Of these limits those that systemd writes over whenever it writes the unit's; `None`: none of them.
pub fn written_over(resources: &Resources) -> Option<Resources> {
    let is = |file: &String| WRITTEN_OVER.contains(&file.as_str());
    let unified: BTreeMap<_, _> =
        resources.unified.iter().filter(|(file, _)| is(file)).map(|(f, v)| (f.clone(), v.clone())).collect();
    (!unified.is_empty()).then(|| Resources { unified, ..Resources::default() })
}

/// The ends of systemd's reloads, from a certain moment on.
#[derive(Debug)]
pub struct Reloads(MessageStream);

impl Reloads {
    /// Waits for the next end of a `daemon-reload` or `daemon-reexec`, which comes after the limits were written: systemd
    /// tells when it has nothing else to do (`manager_dispatch_dbus_queue` is the last of its queues). `None`: the bus
    /// has closed the connection.
    pub async fn next(&mut self) -> Option<()> {
        loop {
            let message = self.0.next().await?.ok()?;
            // Reloading(true) is the beginning.
            if message.body().deserialize::<bool>().is_ok_and(|active| !active) {
                return Some(());
            }
        }
    }
}

impl Systemd {
    /// Every reload that ends from now on.
    ///
    /// # Errors
    /// See [`SystemdError`].
    pub async fn reloads(&self) -> Result<Reloads, SystemdError> {
        let action = "follow the reloads of";
        let bus = |source| SystemdError::Bus { action, unit: SERVICE.to_owned(), source };
        let connection = self.connection(action, SERVICE).await?;
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(SERVICE)
            .interface(INTERFACE)
            .member("Reloading")
            .build()
            .map_err(bus)?;
        Ok(Reloads(MessageStream::for_match_rule(rule, &connection, None).await.map_err(bus)?))
    }

    /// Waits until systemd has done what follows from earlier calls: between two messages it works off what is queued.
    ///
    /// # Errors
    /// See [`SystemdError`].
    pub async fn settled(&self, unit: &str) -> Result<(), SystemdError> {
        let action = "wait for";
        let connection = self.connection(action, unit).await?;
        // A unit that is always there.
        self.call(&connection, action, unit, "GetUnit", &("-.slice",)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_no_property_is_written_again() {
        let with = |files: &[&str]| {
            let unified = files.iter().map(|file| ((*file).to_owned(), "1".to_owned())).collect();
            Resources { memory_limit: Some(4096), unified, ..Resources::default() }
        };
        let again = written_over(&with(&["memory.oom.group", "memory.high", "cpu.idle", "hugetlb.2MB.max"]));
        let again = again.expect("some");
        assert_eq!(again.memory_limit, None);
        assert_eq!(again.unified.keys().collect::<Vec<_>>(), ["cpu.idle", "memory.oom.group"]);
        assert_eq!(written_over(&with(&["memory.high"])), None);
    }
}
