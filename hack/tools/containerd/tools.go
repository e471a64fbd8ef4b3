//go:build tools

// Package tools pins the peer that cricket is measured against and whose
// results check the harness itself: containerd with its runc shim and client.
package tools

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
)
