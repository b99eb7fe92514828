//go:build external

package main

import (
	"context"
	"errors"
)

// With the tag `external` nothing of Kubernetes is compiled in and the build takes seconds: for
// machines that bring the components themselves (KUBEBUILDER_ASSETS), or a whole cluster.
var components = map[string]func(){}

func awaitImage(context.Context, string, string) error {
	return errors.New("this testcluster was built without a node: unset KUBEBUILDER_ASSETS and TENANTRY_TEST_KUBECONFIG")
}
