//go:build tools

// Package tools pins runc: the runtime below the peer containerd, and the
// binary behind cricket's handler for OCI runtimes by path.
package tools

import _ "github.com/opencontainers/runc"
