//go:build external

package main

// With the tag `external` nothing of Kubernetes is compiled in and the build takes seconds: for
// machines that bring the components themselves (KUBEBUILDER_ASSETS), or a whole cluster.
var components = map[string]func(){}
