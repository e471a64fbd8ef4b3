//! Runs one plugin of a list for one verb.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value};

use crate::env::{Target, variables};
use crate::list::{NetworkList, Plugin};
use crate::{CniConfig, Error, PluginError, Result, Verb, invoke, readiness, request};

/// Knows where programs are and how long they may take.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    pub(crate) config: Arc<CniConfig>,
}

impl Runner {
    /// What the plugin printed.
    pub(crate) async fn run<'a>(
        &self,
        list: &NetworkList,
        plugin: &Plugin,
        verb: Verb,
        target: Option<Target<'_>>,
        capability_args: &Map<String, Value>,
        extra: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Result<Vec<u8>> {
        let input = request::compose(list, plugin, capability_args, extra).to_string();
        let env = variables(verb, &self.config.bin_dirs, target);
        let outcome = match readiness::find(&self.config.bin_dirs, &plugin.program) {
            Some(path) => {
                let began = Instant::now();
                let outcome = invoke::run(&path, env, input.as_bytes(), self.config.timeout).await;
                cricket_metrics::cni(verb.as_str(), outcome.is_ok(), began.elapsed());
                outcome
            }
            None => Err(PluginError::NotFound(self.config.bin_dirs.clone())),
        };
        outcome.map_err(|source| failed(list, plugin, verb, source))
    }
}

pub(crate) fn failed(list: &NetworkList, plugin: &Plugin, verb: Verb, source: PluginError) -> Error {
    Error::Plugin { network: list.name.clone(), plugin: plugin.program.clone(), verb, source }
}
