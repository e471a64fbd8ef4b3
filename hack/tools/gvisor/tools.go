//go:build tools

// Package tools pins gVisor: the runtime whose containers are not processes of
// the host's kernel, for cricket's handler for OCI runtimes by path, and its
// containerd shim, for the handler for shims.
package tools

import (
	_ "gvisor.dev/gvisor/runsc"
	_ "gvisor.dev/gvisor/shim"
)
