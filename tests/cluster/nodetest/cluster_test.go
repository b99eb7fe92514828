package nodetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is for conditions that hold in seconds on a machine that has nothing else to do.
const patience = 2 * time.Minute

// binary is the program under test.
func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("TESTCLUSTER")
	if path == "" {
		t.Skip("TESTCLUSTER is not set: run tests/cluster/test-node.sh")
	}
	return path
}

// cluster is a running `testcluster up --node`.
type cluster struct {
	command *exec.Cmd
	errors  bytes.Buffer
	// exited closes when the command has ended, with its error in end.
	exited chan struct{}
	end    error
	// members are all processes of the node, and those of the cluster, when they were last looked up.
	members []int
	report
}

type report struct {
	Kubeconfig, Dir, Server, AuditLog string
	Pids                              map[string]int
	Node                              struct{ Name, Containerd, Cgroup string }
}

func start(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{command: exec.Command(binary(t), "up", "--node", "--ignore-stdin"), exited: make(chan struct{})}
	c.command.Stderr = &c.errors
	output, err := c.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(output).ReadBytes('\n')
	go func() {
		c.end = c.command.Wait()
		close(c.exited)
	}()
	t.Cleanup(func() {
		_ = c.command.Process.Signal(syscall.SIGTERM)
		<-c.exited
	})
	if readErr != nil {
		<-c.exited
		t.Fatalf("no node: %v: %s", c.end, &c.errors)
	}
	if err := json.Unmarshal(line, &c.report); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	t.Logf("node ready after %s", time.Since(began).Round(100*time.Millisecond))
	return c
}

func (c *cluster) kubectl(t *testing.T, input string, args ...string) (string, error) {
	t.Helper()
	command := exec.Command(binary(t), append([]string{"kubectl", "--kubeconfig", c.Kubeconfig, "--cache-dir", filepath.Join(c.Dir, "cache")}, args...)...)
	command.Stdin = strings.NewReader(input)
	var errs bytes.Buffer
	command.Stderr = &errs
	output, err := command.Output()
	if err != nil {
		return "", errors.New("kubectl " + strings.Join(args, " ") + ": " + errs.String())
	}
	return string(output), nil
}

func (c *cluster) must(t *testing.T, input string, args ...string) string {
	t.Helper()
	output, err := c.kubectl(t, input, args...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// eventually waits until check has nothing to complain about.
func eventually(t *testing.T, what string, check func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		complaint := check()
		if complaint == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %s", what, complaint)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// remember looks up the processes that have to be gone in the end, pods and shims among them, and returns the
// command line of each.
func (c *cluster) remember(t *testing.T) map[int]string {
	t.Helper()
	namespace, err := os.Readlink("/proc/" + strconv.Itoa(c.Pids["node"]) + "/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	commands := map[int]string{}
	for _, pid := range processes(t) {
		own, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/pid")
		parent := namespaceParent(pid)
		if err != nil || own != namespace && parent != namespace {
			continue
		}
		line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		commands[pid] = strings.TrimRight(strings.ReplaceAll(string(line), "\x00", " "), " ")
	}
	for name, pid := range c.Pids {
		commands[pid] = name
	}
	c.members = nil
	for pid := range commands {
		c.members = append(c.members, pid)
	}
	return commands
}

// namespaceParent is the process namespace above a process's own: a pod has one inside of the node's.
func namespaceParent(pid int) string {
	file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/pid")
	if err != nil {
		return ""
	}
	defer file.Close()
	const nsGetParent = 0xb702
	parent, _, errno := syscall.Syscall(syscall.SYS_IOCTL, file.Fd(), nsGetParent, 0)
	if errno != 0 {
		return ""
	}
	defer syscall.Close(int(parent))
	link, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(parent)))
	return link
}

func processes(t *testing.T) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// alive are those of the remembered processes that still run. A zombie is one that nobody reaps, as in some
// containers; it runs no more.
func (c *cluster) alive() []int {
	return slices.DeleteFunc(slices.Clone(c.members), func(pid int) bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			return true
		}
		_, after, _ := bytes.Cut(stat, []byte(") "))
		return bytes.HasPrefix(after, []byte("Z"))
	})
}

// machine is what a node must leave as it was.
type machine struct {
	mounts, settings string
	fixedPlaces      []string
}

func look(t *testing.T) machine {
	t.Helper()
	var m machine
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	m.mounts = string(mounts)
	for _, name := range []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys"} {
		value, _ := os.ReadFile("/proc/sys/" + name)
		m.settings += name + "=" + string(value)
	}
	for _, place := range []string{"/run/containerd", "/var/lib/kubelet", "/var/lib/containerd", "/var/log/pods", "/var/log/containers"} {
		_ = filepath.WalkDir(place, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				m.fixedPlaces = append(m.fixedPlaces, path)
			}
			return nil
		})
	}
	return m
}

// compare complains about what a node changed.
func (m machine) compare(t *testing.T) {
	t.Helper()
	now := look(t)
	if now.mounts != m.mounts {
		t.Errorf("the mounts were\n%s\nand are\n%s", m.mounts, now.mounts)
	}
	if now.settings != m.settings {
		t.Errorf("the kernel's settings were\n%s\nand are\n%s", m.settings, now.settings)
	}
	if !slices.Equal(now.fixedPlaces, m.fixedPlaces) {
		t.Errorf("in fixed places there was %q and is %q", m.fixedPlaces, now.fixedPlaces)
	}
}

// cgroupsNamed are all control groups of a name, in every hierarchy.
func cgroupsNamed(t *testing.T, name string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == name {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// gone complains about everything that is left of a node.
func (c *cluster) gone(t *testing.T) {
	t.Helper()
	eventually(t, "the node's processes end", func() string {
		if left := c.alive(); len(left) > 0 {
			return fmt.Sprint(left) + " still run"
		}
		return ""
	})
	if left := cgroupsNamed(t, c.Node.Cgroup); len(left) > 0 {
		t.Errorf("control groups are left: %q", left)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "node")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the node's directory is left: %v", err)
	}
}

// listeners are the addresses, as the kernel writes them, at which processes of the cluster listen.
func (c *cluster) listeners(t *testing.T) []string {
	t.Helper()
	sockets := map[string]bool{}
	for _, pid := range c.members {
		links, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
		for _, link := range links {
			target, _ := os.Readlink(link)
			if inode, found := strings.CutPrefix(target, "socket:["); found {
				sockets[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	var found []string
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		lines, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(lines)) {
			fields := strings.Fields(line)
			if len(fields) > 9 && fields[3] == "0A" && sockets[fields[9]] {
				found = append(found, fields[1])
			}
		}
	}
	return found
}
