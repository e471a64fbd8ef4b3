//! Turns CRI configurations into OCI runtime specifications; pure.

#![forbid(unsafe_code)]
