//! Status.

use std::collections::HashMap;

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;
use crate::convert::info;

pub(super) async fn handle(service: &Service, request: v1::StatusRequest) -> Result<v1::StatusResponse, Error> {
    let shared = service.0.pods.shared();
    let condition = |r#type: &str, problem: Option<(&str, String)>| v1::RuntimeCondition {
        r#type: r#type.into(),
        status: problem.is_none(),
        reason: problem.as_ref().map(|(reason, _)| (*reason).to_owned()).unwrap_or_default(),
        message: problem.map(|(_, message)| message).unwrap_or_default(),
    };
    let network = shared.cni.ready().err().map(|e| ("NetworkPluginNotReady", e.to_string()));
    let conditions = vec![condition("RuntimeReady", None), condition("NetworkReady", network)];
    // Both take a handler and a kernel that can.
    let (attributes, users) = (shared.host.facts.mount_attributes, shared.user_namespaces.is_ok());
    let handlers = shared.handlers.statuses().into_iter().map(|(name, features)| v1::RuntimeHandler {
        name: name.to_owned(),
        features: Some(v1::RuntimeHandlerFeatures {
            recursive_read_only_mounts: features.recursive_read_only_mounts && attributes,
            user_namespaces: features.user_namespaces && users,
        }),
    });
    Ok(v1::StatusResponse {
        status: Some(v1::RuntimeStatus { conditions }),
        info: if request.verbose { info::status(service) } else { HashMap::new() },
        runtime_handlers: handlers.collect(),
        features: Some(v1::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: users,
            // Of the bind mounts' own; an option that is none is refused.
            mount_options: true,
        }),
    })
}
