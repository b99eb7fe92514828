// Package nodetest proves that `testcluster up --node` runs pods, and that nothing of a node stays behind.
// It is started by tests/cluster/test-node.sh.
package nodetest
