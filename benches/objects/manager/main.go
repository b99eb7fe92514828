// A controller-runtime manager that caches BuildRequests and does nothing: what tenantry's memory is compared with.
//
//	manager -kubeconfig FILE -namespace NAME [-metadata]
//
// It prints "ready" when its cache is filled and each object has been through its empty Reconcile once.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/go-logr/logr"
)

var kind = schema.GroupVersionKind{Group: "tenantry.dev", Version: "v1alpha1", Kind: "BuildRequest"}

func main() {
	// A set of its own: controller-runtime has put a -kubeconfig into the common one.
	flags := flag.NewFlagSet("manager", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	namespace := flags.String("namespace", "", "the namespace whose objects are cached")
	metadata := flags.Bool("metadata", false, "cache metadata only, instead of whole objects")
	objects := flags.Int64("objects", 0, "how many objects there are")
	_ = flags.Parse(os.Args[1:])
	if err := run(*kubeconfig, *namespace, *metadata, *objects); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kubeconfig, namespace string, metadata bool, objects int64) error {
	log.SetLogger(logr.Discard())
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	// The client's own limits are not what is measured.
	config.QPS, config.Burst = -1, 0
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Cache:   cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}},
		Metrics: server.Options{BindAddress: "0"},
	})
	if err != nil {
		return err
	}
	var object client.Object
	var options []builder.ForOption
	if metadata {
		partial := &metav1.PartialObjectMetadata{}
		partial.SetGroupVersionKind(kind)
		object, options = partial, []builder.ForOption{builder.OnlyMetadata}
	} else {
		whole := &unstructured.Unstructured{}
		whole.SetGroupVersionKind(kind)
		object = whole
	}
	var seen atomic.Int64
	nothing := reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) {
		if seen.Add(1) == objects {
			fmt.Println("ready")
		}
		return reconcile.Result{}, nil
	})
	if err := ctrl.NewControllerManagedBy(manager).For(object, options...).Complete(nothing); err != nil {
		return err
	}
	if objects == 0 {
		go func() {
			<-manager.Elected()
			if manager.GetCache().WaitForCacheSync(context.Background()) {
				fmt.Println("ready")
			}
		}()
	}
	return manager.Start(ctrl.SetupSignalHandler())
}
