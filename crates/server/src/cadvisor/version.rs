//! `Version`: cAdvisor asks it once, to see whether it is worth going on.

use super::messages::VersionResponse;

pub(super) fn handle(version: &str) -> VersionResponse {
    VersionResponse { version: version.to_owned() }
}
