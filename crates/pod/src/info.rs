//! What verbose answers want to know beyond the records.

use cricket_model::{ContainerId, SandboxId};

use crate::pods::Pods;
use crate::shared::blocking;

impl Pods {
    /// The `runtime_type` of a handler; empty when it is not configured any more.
    pub fn handler_type(&self, handler: &str) -> String {
        self.shared().handlers.get(handler).map(|h| h.config().runtime_type.clone()).unwrap_or_default()
    }

    /// The specification of a container, while its bundle is there.
    pub async fn runtime_spec(&self, pod: &SandboxId, container: &ContainerId) -> serde_json::Value {
        let bundle = self.shared().bundle(pod, container);
        let read = move || crate::bundle::read(&bundle);
        let spec = blocking("read a specification", read).await;
        spec.ok().and_then(|s| serde_json::to_value(s).ok()).unwrap_or_default()
    }
}
