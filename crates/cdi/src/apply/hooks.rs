//! Hooks, each at the end of its list.

use std::path::PathBuf;

use cricket_oci::oci_spec::runtime::{self, Spec};

use super::Edited;
use crate::error::Refusal;
use crate::model::Hook;

#[allow(deprecated, reason = "hooks of the oldest kind are run as well")]
pub(super) fn apply(spec: &mut Spec, asked: &[Hook]) -> Edited {
    if asked.is_empty() {
        return Ok(());
    }
    let mut hooks = spec.hooks().clone().unwrap_or_default();
    for hook in asked {
        let list = match hook.hook_name.as_str() {
            "prestart" => hooks.prestart_mut(),
            "createRuntime" => hooks.create_runtime_mut(),
            "createContainer" => hooks.create_container_mut(),
            "startContainer" => hooks.start_container_mut(),
            "poststart" => hooks.poststart_mut(),
            "poststop" => hooks.poststop_mut(),
            other => return Err(Refusal::Unsupported(format!("{other} is no hook"))),
        };
        list.get_or_insert_default().push(convert(hook));
    }
    spec.set_hooks(Some(hooks));
    Ok(())
}

fn convert(asked: &Hook) -> runtime::Hook {
    let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let mut hook = runtime::Hook::default();
    hook.set_path(PathBuf::from(&asked.path))
        .set_args(list(&asked.args))
        .set_env(list(&asked.env))
        .set_timeout(asked.timeout);
    hook
}
