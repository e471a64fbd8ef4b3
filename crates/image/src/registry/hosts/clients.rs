//! HTTP clients: one for each combination of what decides how a connection is made.
//!
//! They are built when first needed, because reading the system's certificates costs milliseconds that a plain
//! registry on loopback must not pay, and must not fail for.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Certificate, Client, Identity};
use url::{Host, Url};

use crate::registry::failure::{Cause, Failure};

/// What the configuration says about TLS with one endpoint.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    pub(crate) roots: Vec<Certificate>,
    pub(crate) identity: Option<Identity>,
    pub(crate) skip_verify: bool,
}

struct Inner {
    tls: Tls,
    connect_timeout: Duration,
    /// Plain or TLS, direct or by the proxies of the environment.
    built: [OnceLock<Result<Client, String>>; 4],
}

/// The clients that share TLS settings and a connect timeout.
#[derive(Clone)]
pub(crate) struct Clients(Arc<Inner>);

impl Clients {
    pub(crate) fn new(tls: Tls, connect_timeout: Duration) -> Self {
        Self(Arc::new(Inner { tls, connect_timeout, built: Default::default() }))
    }

    /// The client for an address.
    pub(crate) fn of(&self, url: &Url) -> Result<&Client, Failure> {
        // Nobody means loopback by a proxy setting, and Go's programs do not proxy it either.
        let (secure, direct) = (url.scheme() == "https", is_loopback(url));
        let slot = &self.0.built[usize::from(secure) * 2 + usize::from(direct)];
        let built = slot.get_or_init(|| self.build(secure, direct).map_err(|e| explain(&e)));
        built.as_ref().map_err(|text| Failure::new(Cause::Unavailable, format!("setting up TLS: {text}")))
    }

    fn build(&self, secure: bool, direct: bool) -> reqwest::Result<Client> {
        // One connection for each transfer: a layer that is read slowly must not hold the others up.
        let mut builder = Client::builder()
            .user_agent(concat!("cricket/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .http1_only()
            .connect_timeout(self.0.connect_timeout)
            .tcp_nodelay(true);
        if direct {
            builder = builder.no_proxy();
        }
        let tls = &self.0.tls;
        if !secure && direct {
            // This client never sees TLS: no roots to read.
            return builder.tls_certs_only([]).build();
        }
        if let Some(identity) = &tls.identity {
            builder = builder.identity(identity.clone());
        }
        if tls.skip_verify {
            return builder.tls_danger_accept_invalid_certs(true).build();
        }
        builder.tls_certs_merge(tls.roots.iter().cloned()).build()
    }
}

fn explain(error: &reqwest::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Whether an address is this machine's loopback, by number or as `localhost`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}
