//! The families of metrics. Those of gRPC have the names and labels that other servers of containerd's kind give them.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::States;

/// Seconds: from a list's to a large image's.
const BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];

/// Labels in the order in which they are shown.
type Labels<const N: usize> = [(&'static str, String); N];
type Seconds<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// All of them.
pub(crate) struct Families {
    handled: Family<Labels<4>, Counter>,
    handling: Seconds<2>,
    pulls: Family<Labels<1>, Counter>,
    pulled: Counter<u64, AtomicU64>,
    plugins: Seconds<2>,
    monitors_lost: Counter,
    pods: Family<Labels<1>, Gauge>,
    containers: Family<Labels<1>, Gauge>,
}

fn seconds() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Default for Families {
    fn default() -> Self {
        Self {
            handled: Family::default(),
            handling: Family::new_with_constructor(seconds),
            pulls: Family::default(),
            pulled: Counter::default(),
            plugins: Family::new_with_constructor(seconds),
            monitors_lost: Counter::default(),
            pods: Family::default(),
            containers: Family::default(),
        }
    }
}

impl Families {
    pub(crate) fn rpc(&self, service: &'static str, method: &str, code: &'static str, took: Duration) {
        let streams = method.starts_with("Stream") || method == "GetContainerEvents";
        let kind = if streams { "server_stream" } else { "unary" };
        let (service, method) = (("grpc_service", service.to_owned()), ("grpc_method", method.to_owned()));
        let labels = [("grpc_type", kind.to_owned()), service.clone(), method.clone(), ("grpc_code", code.to_owned())];
        self.handled.get_or_create(&labels).inc();
        self.handling.get_or_create(&[service, method]).observe(took.as_secs_f64());
    }

    pub(crate) fn pull(&self, outcome: &'static str) {
        self.pulls.get_or_create(&[("outcome", outcome.to_owned())]).inc();
    }

    pub(crate) fn pulled(&self, bytes: u64) {
        self.pulled.inc_by(bytes);
    }

    pub(crate) fn cni(&self, verb: &'static str, outcome: &'static str, took: Duration) {
        let labels = [("verb", verb.to_owned()), ("outcome", outcome.to_owned())];
        self.plugins.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn monitor_lost(&self) {
        self.monitors_lost.inc();
    }

    pub(crate) fn encode(&self, version: &str, states: &States) -> String {
        let state = |name: &str| [("state", name.to_owned())];
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for (name, n) in [("ready", states.pods_ready), ("not_ready", states.pods_not_ready)] {
            self.pods.get_or_create(&state(name)).set(number(n));
        }
        for (name, n) in [
            ("created", states.containers_created),
            ("running", states.containers_running),
            ("exited", states.containers_exited),
        ] {
            self.containers.get_or_create(&state(name)).set(number(n));
        }
        let build: Family<Labels<1>, Gauge> = Family::default();
        build.get_or_create(&[("version", version.to_owned())]).set(1);
        let mut all = Registry::default();
        all.register("grpc_server_handled", "Calls that were answered", self.handled.clone());
        let help = "How long answers took";
        all.register_with_unit("grpc_server_handling", help, Unit::Seconds, self.handling.clone());
        all.register("cricket_image_pulls", "Pulls that ended, by their outcome", self.pulls.clone());
        let help = "Bytes of layers that came from registries";
        all.register_with_unit("cricket_image_pulled", help, Unit::Bytes, self.pulled.clone());
        let help = "How long CNI plugins ran";
        all.register_with_unit("cricket_cni_plugin", help, Unit::Seconds, self.plugins.clone());
        all.register("cricket_monitors_lost", "Pods' monitors that ended unasked", self.monitors_lost.clone());
        all.register("cricket_pods", "Pods by state", self.pods.clone());
        all.register("cricket_containers", "Containers by state", self.containers.clone());
        all.register("cricket_build_info", "The daemon's version", build);
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut out, &all);
        out
    }
}
