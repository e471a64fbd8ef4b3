//! The endpoints of one pull.

use crate::reference::Reference;

/// Where the blobs of one repository can be had, with the credentials of the pull. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Source {
    reference: Reference,
}

impl Source {
    /// What the pull is for.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }
}
