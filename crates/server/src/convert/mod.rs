//! Records become CRI messages.

pub(crate) mod container;
pub(crate) mod filter;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod sandbox;
pub(crate) mod stats;
