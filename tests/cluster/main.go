// Command testcluster is a small Kubernetes in one binary: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, kubelet and kubectl, each reached by its name, either as the first
// argument (`testcluster kubectl get ns`) or as the name the binary is called by (a symlink `kubectl`).
// `testcluster up` runs the first three together as one throw-away cluster on loopback; with --node also the next
// two and containerd, so that pods run.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func init() {
	// `up` binds the lives of the components to the thread that starts them (see startChild).
	runtime.LockOSThread()
}

func main() {
	if name := filepath.Base(os.Args[0]); slices.Contains(names, name) {
		run(name, os.Args)
	}
	if len(os.Args) < 2 {
		usage()
	}
	switch os.Args[1] {
	case "up":
		os.Exit(upMain(os.Args[2:]))
	case "node":
		os.Exit(nodeMain(os.Args[2:]))
	case "node-init":
		os.Exit(nodeInitMain(os.Args[2:]))
	case "tied":
		os.Exit(tiedMain(os.Args[2:]))
	}
	if !slices.Contains(names, os.Args[1]) {
		usage()
	}
	run(os.Args[1], os.Args[1:])
}

// names are the programs this binary can be.
var names = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet"}

// run becomes a component: the one in KUBEBUILDER_ASSETS when it is there, else the one compiled in.
// It does not return.
func run(name string, argv []string) {
	path := externalBinary(name)
	component, builtIn := components[name]
	if path == "" && !builtIn {
		// A cluster that is not ours (TENANTRY_TEST_KUBECONFIG) still needs a kubectl.
		path = onPath(name)
	}
	switch {
	case path != "":
		err := syscall.Exec(path, append([]string{path}, argv[1:]...), os.Environ())
		fmt.Fprintf(os.Stderr, "testcluster: %s: %v\n", path, err)
		os.Exit(1)
	case builtIn:
		os.Args = append([]string{name}, argv[1:]...)
		component()
		os.Exit(0)
	default:
		fmt.Fprintf(os.Stderr, "testcluster: no %s: not compiled in, not in KUBEBUILDER_ASSETS, not on PATH\n", name)
		os.Exit(1)
	}
}

// externalBinary is the path of a component in KUBEBUILDER_ASSETS, or empty.
func externalBinary(name string) string {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		return ""
	}
	return other(filepath.Join(assets, name))
}

func onPath(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return other(path)
}

// other is path when it is a program and not this one (by a link), which would run itself in circles.
func other(path string) string {
	found, err := os.Stat(path)
	if err != nil || found.IsDir() || found.Mode()&0o111 == 0 {
		return ""
	}
	self, err := os.Stat("/proc/self/exe")
	if err != nil || os.SameFile(found, self) {
		return ""
	}
	return path
}

// tiedMain becomes another program that the kernel kills when the thread that started it ends: for a
// test's own processes, which must not outlive a test process that is killed.
func tiedMain(args []string) int {
	if len(args) < 2 {
		usage()
	}
	if err := tie(args[0], args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "testcluster tied:", err)
	}
	return 1
}

func tie(parent string, argv []string) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_PDEATHSIG: %w", err)
	}
	// The parent may have been gone before that; then nothing will ever tell.
	if strconv.Itoa(os.Getppid()) != parent {
		return fmt.Errorf("process %s, to which this is to be tied, is not the parent", parent)
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", path, syscall.Exec(path, argv, os.Environ()))
}

func usage() {
	fmt.Fprintf(os.Stderr, "usage: testcluster up [flags]\n       testcluster node load --dir DIR IMAGE_ARCHIVE...\n       testcluster tied PARENT_PID PROGRAM [arguments]\n       testcluster {%s} [arguments]\n", strings.Join(names, "|"))
	os.Exit(2)
}
