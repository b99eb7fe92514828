//go:build !external

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	cri "k8s.io/cri-client/pkg"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// components are the programs in this binary, by the name they are called by.
var components = map[string]func(){
	"etcd":                    func() { etcdmain.Main(os.Args) },
	"kube-apiserver":          func() { os.Exit(cli.Run(apiserver.NewAPIServerCommand())) },
	"kube-controller-manager": func() { os.Exit(cli.Run(controllermanager.NewControllerManagerCommand())) },
	"kube-scheduler":          func() { os.Exit(cli.Run(scheduler.NewSchedulerCommand())) },
	"kubectl":                 runKubectl,
	"kubelet":                 func() { os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background()))) },
}

func runKubectl() {
	// The level of logging must be known before the command is built: plugins and .kuberc are read there.
	if _, err := logs.GlogSetter(kubectl.GetLogVerbosity(os.Args)); err != nil {
		kubectlutil.CheckErr(err)
	}
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		// As kubectl's own main does: print the error in its words and leave with its code.
		kubectlutil.CheckErr(err)
	}
}

// awaitImage returns when the container runtime shows an image to the kubelet: containerd stores it first and tells
// its CRI part a moment later, and a pod in between would fail.
func awaitImage(ctx context.Context, socket, name string) error {
	images, err := cri.NewRemoteImageService(ctx, "unix://"+socket, 10*time.Second, nil, false)
	if err != nil {
		return err
	}
	defer images.Close(ctx)
	for {
		status, err := images.ImageStatus(ctx, &runtimeapi.ImageSpec{Image: name}, false)
		if err == nil && status.Image != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("image %s: the container runtime does not show it (last error: %v): %w", name, err, context.Cause(ctx))
		case <-time.After(pollInterval):
		}
	}
}
