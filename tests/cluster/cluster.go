package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// clusterOptions are what a caller of `up` may choose.
type clusterOptions struct {
	dir                    string
	kubeconfig             string
	auditLog               string
	auditPolicy            string
	admission              string
	apiserverFlags         []string
	controllerManagerFlags []string
	startTimeout           time.Duration
	node                   bool
	keep                   bool
}

// cluster is etcd, the API server and the controller manager of one throw-away Kubernetes, perhaps with a node.
type cluster struct {
	options   clusterOptions
	server    string
	ca        *authority
	admin     pair
	http      *http.Client
	etcdPort  *port
	apiPort   *port
	etcd      *child
	apiserver *child
	manager   *child
	// node is nil unless it was asked for.
	node *node
}

const (
	apiserverGrace = 20 * time.Second
	pollInterval   = 50 * time.Millisecond
	auditPolicy    = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`
)

// newCluster writes the keys and configuration of a cluster into its directory and reserves its ports.
func newCluster(options clusterOptions) (*cluster, error) {
	c := &cluster{options: options}
	if options.node {
		c.node = &node{layout: nodeLayout{dir: c.path("node")}, cgroup: newCgroupName()}
	}
	var err error
	if c.etcdPort, err = reservePort(); err != nil {
		return nil, err
	}
	if c.apiPort, err = reservePort(); err != nil {
		c.etcdPort.release()
		return nil, err
	}
	c.server = "https://127.0.0.1:" + strconv.Itoa(c.apiPort.number)
	if err := c.writeFiles(); err != nil {
		c.releasePorts()
		return nil, err
	}
	return c, nil
}

func (c *cluster) releasePorts() {
	c.etcdPort.release()
	c.apiPort.release()
}

func (c *cluster) writeFiles() error {
	var err error
	if c.ca, err = newAuthority("tenantry-test-ca"); err != nil {
		return err
	}
	serving, err := c.ca.server(
		[]net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.IPv4(10, 96, 0, 1)},
		[]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
	)
	if err != nil {
		return err
	}
	if c.admin, err = c.ca.client("kubernetes-admin", "system:masters"); err != nil {
		return err
	}
	manager, err := c.ca.client("system:kube-controller-manager")
	if err != nil {
		return err
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tokens, err := encodeKey(signer)
	if err != nil {
		return err
	}
	config, err := c.ca.tlsConfig(c.admin)
	if err != nil {
		return err
	}
	c.http = &http.Client{
		// Its own connection each time: after a restart an old one would only be in the way.
		Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true},
		Timeout:   10 * time.Second,
	}
	// With it the API server asks kubelets for logs.
	kubeletClient, err := c.ca.client("kube-apiserver-kubelet-client", "system:masters")
	if err != nil {
		return err
	}
	return errors.Join(
		kubeletClient.write(c.path("kubelet-client")),
		c.ca.write(c.path("ca")),
		serving.write(c.path("apiserver")),
		os.WriteFile(c.path("service-accounts.key"), tokens, 0o600),
		os.WriteFile(c.path("controller-manager.kubeconfig"), c.ca.kubeconfig(c.server, manager), 0o600),
		os.WriteFile(c.path("audit-policy.yaml"), []byte(auditPolicy), 0o600),
	)
}

func (c *cluster) path(name string) string { return filepath.Join(c.options.dir, name) }

// start brings the three components up and returns when a client can use the cluster.
func (c *cluster) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.options.startTimeout,
		fmt.Errorf("not ready after %s", c.options.startTimeout))
	defer cancel()
	var err error
	if c.etcd, err = startChild(c.options.dir, "etcd", c.etcdArgs()); err != nil {
		return err
	}
	if err := c.startAPIServer(ctx); err != nil {
		return err
	}
	// Only now: the controller manager gives up when the API server is not there within ten seconds.
	if c.manager, err = startChild(c.options.dir, "kube-controller-manager", c.managerArgs()); err != nil {
		return err
	}
	// The default ServiceAccount is the controller manager's first visible effect in a namespace.
	for _, path := range []string{
		"/api/v1/namespaces/kube-system",
		"/api/v1/namespaces/default/serviceaccounts/default",
	} {
		if err := c.waitOK(ctx, path, c.manager); err != nil {
			return err
		}
	}
	if c.node != nil {
		if err := c.node.start(ctx, c); err != nil {
			return err
		}
	}
	return os.WriteFile(c.options.kubeconfig, c.ca.kubeconfig(c.server, c.admin), 0o600)
}

func (c *cluster) startAPIServer(ctx context.Context) error {
	var err error
	if c.apiserver, err = startChild(c.options.dir, "kube-apiserver", c.apiserverArgs()); err != nil {
		return err
	}
	return c.waitOK(ctx, "/readyz", c.apiserver)
}

func (c *cluster) stopAPIServer(ctx context.Context) { c.apiserver.stop(ctx, apiserverGrace) }

// stop ends everything at once. The data is thrown away and the audit log is written in step with the
// requests, so there is nothing to wait for.
func (c *cluster) stop() {
	if c.node != nil {
		c.node.stop()
	}
	for _, child := range []*child{c.manager, c.apiserver, c.etcd} {
		if child != nil {
			child.kill()
		}
	}
	c.releasePorts()
}

// waitOK polls the API server until path answers 200, or a component that it takes has ended.
func (c *cluster) waitOK(ctx context.Context, path string, needed *child) error {
	ask := func() error {
		_, err := c.fetch(ctx, path)
		return err
	}
	return c.wait(ctx, "GET "+path, ask, needed)
}

// wait polls until ask has no error, or a component that it takes has ended.
func (c *cluster) wait(ctx context.Context, what string, ask func() error, needed ...*child) error {
	for {
		last := ask()
		if last == nil {
			return nil
		}
		for _, child := range append(needed, c.etcd) {
			select {
			case <-child.exited:
				return child.death()
			default:
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; last answer: %w; the end of the log of %s:\n%s",
				what, context.Cause(ctx), last, needed[0].name, tail(needed[0].log, 4096))
		case <-time.After(pollInterval):
		}
	}
}

func (c *cluster) fetch(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", response.Status, body)
	}
	return body, nil
}

func (c *cluster) etcdURL() string { return "http://127.0.0.1:" + strconv.Itoa(c.etcdPort.number) }

func (c *cluster) etcdArgs() []string {
	return []string{
		"--data-dir=" + c.path("etcd"),
		"--listen-client-urls=" + c.etcdURL(),
		"--advertise-client-urls=" + c.etcdURL(),
		"--listen-peer-urls=http://127.0.0.1:0",
		"--socket-reuse-port",
		"--unsafe-no-fsync",
		"--log-level=warn",
	}
}

func (c *cluster) apiserverArgs() []string {
	args := []string{
		"--etcd-servers=" + c.etcdURL(),
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.apiPort.number),
		"--permit-port-sharing",
		// Loopback may not stand in an Endpoints object, and no other address is needed.
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--tls-cert-file=" + c.path("apiserver.crt"),
		"--tls-private-key-file=" + c.path("apiserver.key"),
		"--client-ca-file=" + c.path("ca.crt"),
		"--kubelet-certificate-authority=" + c.path("ca.crt"),
		"--kubelet-client-certificate=" + c.path("kubelet-client.crt"),
		"--kubelet-client-key=" + c.path("kubelet-client.key"),
		"--authorization-mode=Node,RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.path("service-accounts.key"),
		"--service-account-signing-key-file=" + c.path("service-accounts.key"),
		"--allow-privileged",
		// Without it, it waits for watches that nobody ends when it is asked to leave: a minute.
		"--shutdown-watch-termination-grace-period=1s",
	}
	if c.options.admission != "" {
		args = append(args, "--enable-admission-plugins="+c.options.admission)
	}
	if c.options.auditLog != "" {
		policy := c.options.auditPolicy
		if policy == "" {
			policy = c.path("audit-policy.yaml")
		}
		args = append(args, "--audit-log-path="+c.options.auditLog, "--audit-policy-file="+policy)
	}
	return append(args, c.options.apiserverFlags...)
}

func (c *cluster) managerArgs() []string {
	args := []string{
		"--kubeconfig=" + c.path("controller-manager.kubeconfig"),
		// No port: what it does is seen in the API server.
		"--secure-port=0",
		"--leader-elect=false",
		"--use-service-account-credentials",
		"--service-account-private-key-file=" + c.path("service-accounts.key"),
		"--root-ca-file=" + c.path("ca.crt"),
		"--cluster-signing-cert-file=" + c.path("ca.crt"),
		"--cluster-signing-key-file=" + c.path("ca.key"),
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	}
	if c.node != nil {
		// Claims and a new node are looked at every 15 and 5 seconds otherwise: nobody wants to wait for that.
		args = append(args, "--pvclaimbinder-sync-period=1s", "--node-monitor-period=1s")
	}
	return append(args, c.options.controllerManagerFlags...)
}
