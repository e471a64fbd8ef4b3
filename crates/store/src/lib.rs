//! Durable records and per-pod journals.

#![forbid(unsafe_code)]
