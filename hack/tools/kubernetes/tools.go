//go:build tools

// Package tools pins the kubelet that drives cricket in the tests.
package tools

import _ "k8s.io/kubernetes/cmd/kubelet"
