//go:build tools

// Package tools pins gVisor: the runtime whose containers are not processes of
// the host's kernel, for cricket's handler for OCI runtimes by path.
package tools

import _ "gvisor.dev/gvisor/runsc"
