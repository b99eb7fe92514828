package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// nodeName is also the address at which the API server reaches the kubelet, and what pods with host networking have
// as their own: a kubelet whose name is an address takes it, loopback or not.
const nodeName = "127.0.0.1"

// node is what a cluster has besides its control plane when it runs pods.
type node struct {
	layout    nodeLayout
	cgroup    string
	scheduler *child
	// first is the first process of the namespaces in which containerd, the kubelet and all pods live. Where it ends,
	// the kernel ends all of them and drops their mounts.
	first *child
	// lifeline closes when this process ends, however it does; then the first process clears up.
	lifeline *os.File
}

// nodeReport is what a caller of `up --node` may need to know.
type nodeReport struct {
	Name string `json:"name"`
	// Containerd is the socket of the container runtime.
	Containerd string `json:"containerd"`
	// Cgroup is the name of the control group that holds all pods, in every hierarchy.
	Cgroup string `json:"cgroup"`
}

const (
	// nodeGrace is how long clearing up may take: unmounting and removing files of all pods.
	nodeGrace = 30 * time.Second
	// exitIncapable tells a test suite that this machine cannot run a node, as `skip` does elsewhere.
	exitIncapable = 77
)

// errIncapable is the end of a start on a machine that cannot run a node.
type errIncapable struct{ reason string }

func (e errIncapable) Error() string {
	return "this machine cannot run a node: " + e.reason + " (tests/cluster/node-deps.sh installs what is missing)"
}

// nodeCapable says why this machine cannot run a node, as far as it is seen without trying.
func nodeCapable() error {
	if os.Geteuid() != 0 {
		return errIncapable{"only root may mount and make namespaces"}
	}
	if _, ok := components["kubelet"]; !ok {
		return errIncapable{"this testcluster was built without kubelet: unset KUBEBUILDER_ASSETS"}
	}
	for _, program := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc"} {
		if findProgram(program) == "" {
			return errIncapable{"there is no " + program}
		}
	}
	if cniDir() == "" {
		return errIncapable{"there are no CNI plugins"}
	}
	return nil
}

// start runs the scheduler, then the node, and returns when pods can run on it. The API server must be ready.
func (n *node) start(ctx context.Context, c *cluster) error {
	if err := n.writeFiles(c); err != nil {
		return err
	}
	var err error
	n.scheduler, err = startChild(c.options.dir, "kube-scheduler", []string{
		"--kubeconfig=" + n.layout.path("scheduler.kubeconfig"),
		"--leader-elect=false",
		"--secure-port=0",
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	})
	if err != nil {
		return err
	}
	if err := n.startFirst(c); err != nil {
		return err
	}
	return c.wait(ctx, "node "+nodeName, func() error { return n.ready(ctx, c) }, n.first, n.scheduler)
}

func (n *node) startFirst(c *cluster) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	held, lifeline, err := os.Pipe()
	if err != nil {
		return err
	}
	defer held.Close()
	argv := []string{"testcluster", "node-init", "--dir=" + n.layout.dir, "--cgroup=" + n.cgroup}
	if c.options.keep {
		argv = append(argv, "--keep")
	}
	n.lifeline = lifeline
	n.first, err = launch(c.options.dir, "node", &exec.Cmd{
		Path:  self,
		Args:  argv,
		Stdin: held,
		// Not bound to our life by a signal, as others are: it must live a little longer, to clear up.
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID},
	})
	if errors.Is(err, syscall.EPERM) {
		return errIncapable{"it may not make namespaces, though it is root (a container without privileges?)"}
	}
	return err
}

// ready fails until the kubelet is ready and nothing keeps pods away from its node.
func (n *node) ready(ctx context.Context, c *cluster) error {
	body, err := c.fetch(ctx, "/api/v1/nodes/"+nodeName)
	if err != nil {
		return err
	}
	var seen struct {
		Spec struct {
			Taints []struct{ Key string }
		}
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := json.Unmarshal(body, &seen); err != nil {
		return err
	}
	if len(seen.Spec.Taints) > 0 {
		return fmt.Errorf("it has the taint %s", seen.Spec.Taints[0].Key)
	}
	for _, condition := range seen.Status.Conditions {
		if condition.Type == "Ready" && condition.Status == "True" {
			return nil
		}
	}
	return fmt.Errorf("it is not ready: %+v", seen.Status.Conditions)
}

// stop ends all pods, containerd and the kubelet, and waits until they are gone with all they made.
func (n *node) stop() {
	if n.scheduler != nil {
		n.scheduler.kill()
	}
	if n.first == nil {
		return
	}
	_ = n.lifeline.Close()
	select {
	case <-n.first.exited:
	case <-time.After(nodeGrace):
		n.first.kill()
	}
	// When it was killed, this is left to do. Mounts are gone with its namespace.
	if groups, err := findCgroups(); err == nil {
		if err := groups.remove(n.cgroup); err != nil {
			fmt.Fprintln(os.Stderr, "testcluster up:", err)
		}
	}
}

func (n *node) report() *nodeReport {
	return &nodeReport{Name: nodeName, Containerd: n.layout.socket(), Cgroup: n.cgroup}
}

// nodeLayout names the files of a node.
type nodeLayout struct{ dir string }

func (l nodeLayout) path(name string) string { return filepath.Join(l.dir, name) }
func (l nodeLayout) socket() string          { return l.path("containerd.sock") }

// writeFiles writes keys and configuration of the node's parts.
func (n *node) writeFiles(c *cluster) error {
	// The socket's name has 108 bytes in the kernel; one more is derived from it (".ttrpc").
	if length := len(n.layout.socket()); length > 100 {
		return fmt.Errorf("the directory's name is too long for a socket (%s, %d bytes): set TMPDIR or --dir to a shorter one",
			n.layout.socket(), length)
	}
	if strings.ContainsAny(n.layout.dir, ":,\\\"") {
		return fmt.Errorf("%s: a node's directory may have none of : , \\ \" in its name (mount options)", n.layout.dir)
	}
	for _, dir := range []string{"", "cni", "containerd", "kubelet"} {
		if err := os.Mkdir(n.layout.path(dir), 0o755); err != nil {
			return err
		}
	}
	scheduler, err := c.ca.client("system:kube-scheduler")
	if err != nil {
		return err
	}
	kubelet, err := c.ca.client("system:node:"+nodeName, "system:nodes")
	if err != nil {
		return err
	}
	serving, err := c.ca.server([]net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"})
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(n.layout.path("scheduler.kubeconfig"), c.ca.kubeconfig(c.server, scheduler), 0o600),
		os.WriteFile(n.layout.path("kubelet.kubeconfig"), c.ca.kubeconfig(c.server, kubelet), 0o600),
		serving.write(n.layout.path("kubelet-server")),
		os.WriteFile(n.layout.path("ca.crt"), c.ca.cert, 0o600),
		os.WriteFile(n.layout.path("resolv.conf"), []byte("nameserver 127.0.0.1\n"), 0o644),
		os.WriteFile(n.layout.path("cni/10-loopback.conflist"), []byte(cniConfig), 0o644),
		os.WriteFile(n.layout.path("containerd.toml"), n.layout.containerdConfig(), 0o644),
		writePauseImage(n.layout.path("pause.tar")),
	)
}

// findProgram looks where packages put programs, also those that are not on everybody's PATH.
func findProgram(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}

// cniDir is where the CNI plugins are: as Debian packages put them, or as their makers do.
func cniDir() string {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin"} {
		if _, err := exec.LookPath(filepath.Join(dir, "loopback")); err == nil {
			return dir
		}
	}
	return ""
}
