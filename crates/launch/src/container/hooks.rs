//! Hooks of the specification (runtime-spec, config.md, "POSIX-platform Hooks"), run by libcontainer.
//!
//! | hook | by | when |
//! |---|---|---|
//! | prestart, createRuntime | the helper, on the host | everything is mounted, the root is still the host's |
//! | createContainer | the init, in the container's namespaces | after those |
//! | startContainer | the init, in the container's root | before the command |
//! | poststart | the helper | the command runs |

use std::path::Path;

use libcontainer::container::{ContainerStatus, State};
use libcontainer::hooks::run_hooks;
use libcontainer::oci_spec::runtime::{Hook, Spec};

use crate::error::Error;

/// The hooks of a container, by who runs them.
#[derive(Debug)]
pub(super) struct Hooks {
    pub(super) runtime: Vec<Hook>,
    pub(super) container: Vec<Hook>,
    pub(super) start: Vec<Hook>,
    pub(super) poststart: Vec<Hook>,
    state: State,
}

/// What the container's state says to a hook.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    Creating,
    Created,
    Running,
}

impl Hooks {
    #[allow(deprecated, reason = "hooks of the oldest kind are run as well")]
    pub(super) fn of(spec: &Spec, id: &str, bundle: &Path) -> Self {
        let mut state = State::new(id, ContainerStatus::Creating, None, bundle.to_owned());
        state.annotations = spec.annotations().clone();
        let list = |hooks: Option<&Option<Vec<Hook>>>| hooks.and_then(|h| h.clone()).unwrap_or_default();
        let hooks = spec.hooks().as_ref();
        let mut runtime = list(hooks.map(|h| h.prestart()));
        runtime.extend(list(hooks.map(|h| h.create_runtime())));
        Self {
            runtime,
            container: list(hooks.map(|h| h.create_container())),
            start: list(hooks.map(|h| h.start_container())),
            poststart: list(hooks.map(|h| h.poststart())),
            state,
        }
    }

    /// Whether any are run before the root changes.
    pub(super) fn before_pivot(&self) -> bool {
        !self.runtime.is_empty() || !self.container.is_empty()
    }

    /// Runs a list of them, one after the other, up to the first that fails. `pid` is the init's on the host.
    pub(super) fn run(&self, hooks: &Vec<Hook>, kind: &str, when: When, pid: i32) -> Result<(), Error> {
        if hooks.is_empty() {
            return Ok(());
        }
        let mut state = self.state.clone();
        state.pid = Some(pid);
        state.status = match when {
            When::Creating => ContainerStatus::Creating,
            When::Created => ContainerStatus::Created,
            When::Running => ContainerStatus::Running,
        };
        run_hooks(Some(hooks), Some(&state), None, None, None)
            .map_err(|e| Error::chain(format!("run the {kind} hooks"), &e))
    }
}
