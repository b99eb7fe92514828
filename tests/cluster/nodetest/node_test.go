package nodetest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const image = "localhost/probe:test"

// buildImage makes an image of the program probe as the product's is made: by buildah, from nothing.
func buildImage(t *testing.T, form string) (archive string) {
	t.Helper()
	dir := t.TempDir()
	run(t, nil, "go", "build", "-trimpath", "-o", filepath.Join(dir, "probe"), "./probe")
	file := "FROM scratch\nCOPY probe /probe\nUSER 65534:65534\nENTRYPOINT [\"/probe\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	archive = filepath.Join(dir, "probe.tar")
	storage := []string{"--storage-driver", "vfs", "--root", filepath.Join(dir, "storage"), "--runroot", filepath.Join(dir, "run")}
	run(t, nil, "buildah", append(storage, "build", "--isolation", "chroot", "-t", image, dir)...)
	run(t, nil, "buildah", append(storage, "push", image, form+":"+archive+":"+image)...)
	return archive
}

func run(t *testing.T, env []string, program string, args ...string) string {
	t.Helper()
	command := exec.Command(program, args...)
	command.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, output)
	}
	return string(output)
}

func (c *cluster) load(t *testing.T, archive string) {
	t.Helper()
	if names := run(t, nil, binary(t), "node", "load", "--dir", c.Dir, archive); strings.TrimSpace(names) != image {
		t.Fatalf("loaded %q, want %s", names, image)
	}
}

// podSpec is what a pod of the test cluster needs besides its image: the host's network, and where the API server is.
func (c *cluster) podSpec(args, more, volumes string) string {
	_, port, _ := strings.Cut(strings.TrimPrefix(c.Server, "https://"), ":")
	return fmt.Sprintf(`{"hostNetwork": true, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "volumes": [%s],
		"containers": [{"name": "probe", "image": %q, "imagePullPolicy": "Never", "args": %s, %s
			"env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "127.0.0.1"}, {"name": "KUBERNETES_SERVICE_PORT", "value": %q}]}]}`,
		volumes, image, args, more, port)
}

func (c *cluster) startPod(t *testing.T, namespace string) {
	t.Helper()
	c.must(t, "", "create", "namespace", namespace)
	eventually(t, "the namespace has its ServiceAccount", func() string {
		_, err := c.kubectl(t, "", "get", "serviceaccount", "default", "-n", namespace)
		return text(err)
	})
	c.must(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "who"}, "spec": %s}`,
		c.podSpec(`["whoami"]`, "", "")), "apply", "-n", namespace, "-f", "-")
	want := "I am system:serviceaccount:" + namespace + ":default\n"
	eventually(t, "the pod's log, read through the API server", func() string {
		log, err := c.kubectl(t, "", "logs", "who", "-n", namespace)
		if err == nil && log != want {
			return fmt.Sprintf("it says %q, want %q", log, want)
		}
		return text(err)
	})
}

func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestANodeRunsPodsAndLeavesNothing(t *testing.T) {
	binary(t)
	before := look(t)
	c := start(t)
	c.load(t, buildImage(t, "docker-archive"))

	c.startPod(t, "one")
	if output := c.must(t, "", "get", "pod", "who", "-n", "one", "-o", "jsonpath={.status.hostIP}"); output != "127.0.0.1" {
		t.Errorf("the pod's host is %q", output)
	}
	for _, address := range c.listenersOfAll(t) {
		// 127.0.0.1 and ::1 in the kernel's way to write addresses.
		if !strings.HasPrefix(address, "0100007F:") && !strings.HasPrefix(address, "00000000000000000000000001000000:") {
			t.Errorf("a process of the cluster listens at %s, which is not loopback", address)
		}
	}
	c.jobSurvivesAKill(t)
	c.restrictedRefusesHostNetwork(t)
	c.auditLogHasTheRead(t)

	c.remember(t)
	if err := c.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	<-c.exited
	t.Logf("down after %s", time.Since(began).Round(100*time.Millisecond))
	if c.end != nil || c.errors.Len() > 0 {
		t.Errorf("the end of the cluster: %v: %s", c.end, &c.errors)
	}
	c.gone(t)
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", c.Dir, err)
	}
	before.compare(t)
}

func (c *cluster) listenersOfAll(t *testing.T) []string {
	t.Helper()
	c.remember(t)
	addresses := c.listeners(t)
	// etcd (two), API server, containerd's streaming, kubelet.
	if len(addresses) < 5 {
		t.Errorf("only %q listen: this test looks at the wrong processes", addresses)
	}
	return addresses
}

func (c *cluster) jobSurvivesAKill(t *testing.T) {
	t.Helper()
	data := t.TempDir()
	if err := os.Chmod(data, 0o777); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c.must(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "List", "items": [
		{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "data"}, "spec": {"capacity": {"storage": "1Gi"},
			"accessModes": ["ReadWriteOnce"], "storageClassName": "manual", "hostPath": {"path": %q}}},
		{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "one"}, "spec": {
			"accessModes": ["ReadWriteOnce"], "storageClassName": "manual", "resources": {"requests": {"storage": "1Gi"}}}},
		{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "count", "namespace": "one"}, "spec": {"backoffLimit": 3,
			"template": {"spec": %s}}}]}`,
		data, c.podSpec(`["count", "/data"]`, `"volumeMounts": [{"name": "data", "mountPath": "/data"}],`,
			`{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}`)), "apply", "-f", "-")
	eventually(t, "the Job's pod writes to the volume", func() string {
		_, err := os.Stat(filepath.Join(data, "starts"))
		return text(err)
	})
	t.Logf("the Job's pod wrote to its volume after %s", time.Since(began).Round(100*time.Millisecond))
	killed := 0
	for pid, command := range c.remember(t) {
		if command == "/probe count /data" {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			killed++
		}
	}
	if killed != 1 {
		t.Fatalf("killed %d processes, want 1", killed)
	}
	c.must(t, "", "wait", "-n", "one", "--for=condition=Complete", "job/count", "--timeout="+patience.String())
	result, err := os.ReadFile(filepath.Join(data, "result"))
	if string(result) != "counted to two" {
		t.Errorf("the second pod wrote %q: %v", result, err)
	}
	if failed := c.must(t, "", "get", "job", "count", "-n", "one", "-o", "jsonpath={.status.failed}"); failed != "1" {
		t.Errorf("the Job counts %q failed pods, want 1", failed)
	}
}

func (c *cluster) restrictedRefusesHostNetwork(t *testing.T) {
	t.Helper()
	c.must(t, "", "create", "namespace", "strict")
	c.must(t, "", "label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
	_, err := c.kubectl(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "who"}, "spec": %s}`,
		c.podSpec(`["whoami"]`, "", "")), "apply", "-n", "strict", "-f", "-")
	if err == nil || !strings.Contains(err.Error(), "violates PodSecurity") {
		t.Errorf("a namespace that enforces restricted took a pod with host networking: %v", err)
	}
}

func (c *cluster) auditLogHasTheRead(t *testing.T) {
	t.Helper()
	file, err := os.Open(c.AuditLog)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := json.NewDecoder(file); lines.More(); {
		var event struct {
			Level, Verb string
			ObjectRef   struct{ Resource, Subresource, Name string }
		}
		if err := lines.Decode(&event); err != nil {
			t.Fatal(err)
		}
		if event.Verb == "get" && event.ObjectRef.Subresource == "log" && event.ObjectRef.Name == "who" {
			if event.Level != "Metadata" {
				t.Errorf("the audit log's level is %s", event.Level)
			}
			return
		}
	}
	t.Error("the audit log has no line for the log that was read")
}

func TestANodeEndsWithItsParent(t *testing.T) {
	binary(t)
	before := look(t)
	c := start(t)
	c.load(t, buildImage(t, "oci-archive"))
	c.startPod(t, "one")
	c.remember(t)
	if err := c.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-c.exited
	defer os.RemoveAll(c.Dir)
	eventually(t, "the node clears up by itself", func() string {
		_, err := os.Stat(filepath.Join(c.Dir, "node"))
		if err == nil {
			return "its directory is there"
		}
		return ""
	})
	c.gone(t)
	before.compare(t)
}

func TestAKilledNodeIsClearedByTheNext(t *testing.T) {
	binary(t)
	before := look(t)
	c := start(t)
	c.load(t, buildImage(t, "docker-archive"))
	c.startPod(t, "one")
	c.remember(t)
	// Both that could clear up, neither while the other still can.
	if err := c.command.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(c.Pids["node"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-c.exited
	eventually(t, "the kernel ends all processes", func() string {
		if left := c.alive(); len(left) > 0 {
			return fmt.Sprint(left)
		}
		return ""
	})
	if left := cgroupsNamed(t, c.Node.Cgroup); len(left) == 0 {
		t.Error("nobody was left to remove the control groups, and they are gone: this test proves nothing")
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		t.Errorf("something is still mounted below %s: %v", c.Dir, err)
	}
	before.compare(t)

	next := start(t)
	if left := cgroupsNamed(t, c.Node.Cgroup); len(left) > 0 {
		t.Errorf("control groups are left: %q", left)
	}
	// Without its first process a node is no node: the cluster ends with an error, and clears up.
	next.remember(t)
	if err := syscall.Kill(next.Pids["node"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-next.exited
	if next.end == nil || !strings.Contains(next.errors.String(), "node ended by itself") {
		t.Errorf("the end of a cluster whose node died: %v: %s", next.end, &next.errors)
	}
	next.gone(t)
	before.compare(t)
}

func identities(t *testing.T, cgroup string) map[string]os.FileInfo {
	t.Helper()
	found := map[string]os.FileInfo{}
	for _, group := range cgroupsNamed(t, cgroup) {
		info, err := os.Stat(group)
		if err != nil {
			t.Fatal(err)
		}
		found[group] = info
	}
	return found
}

func TestTwoNodesDoNotDisturbEachOther(t *testing.T) {
	binary(t)
	before := look(t)
	archive := buildImage(t, "docker-archive")
	first := start(t)
	groups := identities(t, first.Node.Cgroup)
	second := start(t)
	for group, identity := range groups {
		// One that was removed may be there again: the kubelet makes what it misses.
		if now, err := os.Stat(group); err != nil || !os.SameFile(identity, now) {
			t.Errorf("the second node removed the first one's control group %s (%v)", group, err)
		}
	}
	first.load(t, archive)
	first.startPod(t, "one")
	second.load(t, archive)
	second.startPod(t, "one")
	first.remember(t)
	if err := first.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-first.exited
	first.gone(t)
	second.startPod(t, "two")
	second.remember(t)
	if err := second.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-second.exited
	second.gone(t)
	before.compare(t)
}

func TestTheScriptsKeepANodeBeyondTheirShell(t *testing.T) {
	binary(t)
	before := look(t)
	state := t.TempDir()
	kubeconfig := strings.TrimSpace(run(t, nil, "sh", "-c", `exec ../up.sh "$0" --node 2>/dev/null`, state))
	t.Cleanup(func() { run(t, nil, "../down.sh", state) })
	line, err := os.ReadFile(filepath.Join(state, "up.json"))
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{}
	if err := json.Unmarshal(line, &c.report); err != nil {
		t.Fatal(err)
	}
	if c.Kubeconfig != kubeconfig {
		t.Errorf("up.sh printed %q, the kubeconfig is %q", kubeconfig, c.Kubeconfig)
	}
	if names := run(t, nil, "../node.sh", "load", buildImage(t, "docker-archive"), state); !strings.Contains(names, image) {
		t.Errorf("node.sh loaded %q", names)
	}
	c.startPod(t, "one")
	c.remember(t)
	run(t, nil, "../down.sh", state)
	c.gone(t)
	before.compare(t)
}
