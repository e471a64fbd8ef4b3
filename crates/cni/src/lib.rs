//! Runs CNI plugins: networks, result cache, teardown.

#![forbid(unsafe_code)]
