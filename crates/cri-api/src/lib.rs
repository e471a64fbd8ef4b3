//! The CRI v1 types, client and server generated from `proto/` (see `proto/README.md` for its origin).

#![forbid(unsafe_code)]

/// `runtime.v1` as published by Kubernetes; field comments are in `proto/runtime.v1.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}
