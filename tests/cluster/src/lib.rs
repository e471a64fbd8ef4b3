//! Nothing to use: the tests in `tests/cluster` and the manifests beside them are all there is.

#![forbid(unsafe_code)]
