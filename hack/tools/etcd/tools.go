//go:build tools

// Package tools pins etcd, where the API server of a test cluster keeps its objects.
package tools

import _ "go.etcd.io/etcd/server/v3"
