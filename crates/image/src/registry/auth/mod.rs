//! Credentials, and how an endpoint is convinced by them.

use std::fmt;

/// Credentials of a pull: CRI's `AuthConfig`, or `registry.configs.HOST.auth`. Empty strings are absent values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Base64 of `username:password`, read when `username` is empty.
    pub auth: String,
    /// The registry these are for, as host or URL; empty: whatever endpoint stands for the image's registry.
    pub server_address: String,
    /// OAuth2 refresh token.
    pub identity_token: String,
    /// Bearer token for the registry itself.
    pub registry_token: String,
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig").field("server_address", &self.server_address).finish_non_exhaustive()
    }
}
