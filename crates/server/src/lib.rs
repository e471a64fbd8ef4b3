//! The CRI services: one file per RPC.

#![forbid(unsafe_code)]
