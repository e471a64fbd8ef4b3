//go:build tools

// Package tools pins Kubernetes' end-to-end suite, what runs it, and the program of most of its images.
package tools

import (
	_ "github.com/onsi/ginkgo/v2/ginkgo"
	_ "k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/images/agnhost"
)
