//! Messages between the daemon, its monitors and their helpers.

#![forbid(unsafe_code)]

pub mod helper;
