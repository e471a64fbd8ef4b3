//go:build tools

// Package tools pins the judges of the container runtime interface: the
// conformance suite critest and the client crictl. critest itself is a test
// binary, so the packages that hold its specs are named here.
package tools

import (
	_ "sigs.k8s.io/cri-tools/cmd/crictl"
	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
