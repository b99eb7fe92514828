package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// repeated is a flag that may be given more than once.
type repeated []string

func (r *repeated) String() string { return strings.Join(*r, " ") }

func (r *repeated) Set(value string) error {
	*r = append(*r, value)
	return nil
}

// report is one line on stdout: first when the cluster is ready, then as the answer to each command.
type report struct {
	Kubeconfig string         `json:"kubeconfig"`
	Server     string         `json:"server"`
	Dir        string         `json:"dir"`
	Pids       map[string]int `json:"pids"`
	AuditLog   string         `json:"auditLog,omitempty"`
	Node       *nodeReport    `json:"node,omitempty"`
	// Did is the command that this line answers; absent in the first line.
	Did string `json:"did,omitempty"`
}

// upMain runs a cluster until its stdin closes or it is told to stop. It must stay on the main thread,
// to which the lives of the components are bound.
func upMain(args []string) int {
	if err := up(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		fmt.Fprintln(os.Stderr, "testcluster up:", err)
		if errors.As(err, new(errIncapable)) {
			return exitIncapable
		}
		return 1
	}
	return 0
}

func up(args []string) error {
	options := clusterOptions{}
	var ignoreStdin bool
	flags := flag.NewFlagSet("testcluster up", flag.ContinueOnError)
	flags.StringVar(&options.dir, "dir", "", "directory of keys, data and logs: empty or not there yet (default: a temporary one)")
	flags.StringVar(&options.kubeconfig, "kubeconfig", "", "file to write the administrator's kubeconfig to (default: DIR/kubeconfig)")
	flags.StringVar(&options.admission, "admission", "", "admission plugins to enable besides the default ones, by comma")
	flags.StringVar(&options.auditLog, "audit-log", "", "file for the API server's audit log (with --node: DIR/audit.log)")
	flags.StringVar(&options.auditPolicy, "audit-policy", "", "audit policy (default: metadata of every request)")
	flags.Var((*repeated)(&options.apiserverFlags), "apiserver-flag", "one more flag for kube-apiserver, such as --apiserver-flag=--v=4; may be repeated")
	flags.Var((*repeated)(&options.controllerManagerFlags), "controller-manager-flag", "one more flag for kube-controller-manager; may be repeated")
	flags.DurationVar(&options.startTimeout, "start-timeout", 2*time.Minute, "how long the cluster may take to be ready")
	flags.BoolVar(&ignoreStdin, "ignore-stdin", false, "run until SIGTERM, whatever happens to stdin")
	flags.BoolVar(&options.node, "node", false, "run pods: also kube-scheduler, containerd and kubelet, as root; exit code 77 where that cannot be")
	flags.BoolVar(&options.keep, "keep", false, "leave data and logs in the directory at the end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}

	if options.node {
		if err := nodeCapable(); err != nil {
			return err
		}
	}
	dir, clean, err := prepareDir(options.dir)
	if err != nil {
		return err
	}
	if !options.keep {
		defer clean()
	}
	options.dir = dir
	for _, file := range []*string{&options.kubeconfig, &options.auditLog, &options.auditPolicy} {
		if *file != "" {
			if *file, err = filepath.Abs(*file); err != nil {
				return err
			}
		}
	}
	if options.kubeconfig == "" {
		options.kubeconfig = filepath.Join(dir, "kubeconfig")
	}
	if options.node && options.auditLog == "" {
		options.auditLog = filepath.Join(dir, "audit.log")
	}
	if !options.keep {
		defer os.Remove(options.kubeconfig)
	}

	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	var commands chan string
	if !ignoreStdin {
		commands = make(chan string)
		go readCommands(ctx, cancel, commands)
	}

	c, err := newCluster(options)
	if err != nil {
		return err
	}
	defer c.stop()
	if err := c.start(ctx); err != nil {
		return err
	}
	if err := c.report(""); err != nil {
		return err
	}
	return c.serve(ctx, commands, hangup)
}

// serve carries out commands until the context ends or a component dies.
func (c *cluster) serve(ctx context.Context, commands <-chan string, hangup <-chan os.Signal) error {
	wanted := true // whether the API server is meant to run
	scheduler, first := &child{}, &child{}
	if c.node != nil {
		scheduler, first = c.node.scheduler, c.node.first
	}
	for {
		apiserverExited := c.apiserver.exited
		if !wanted {
			apiserverExited = nil
		}
		var command string
		select {
		case <-ctx.Done():
			return nil
		case <-c.etcd.exited:
			return c.etcd.death()
		case <-apiserverExited:
			return c.apiserver.death()
		case <-c.manager.exited:
			return c.manager.death()
		case <-scheduler.exited:
			return scheduler.death()
		case <-first.exited:
			return first.death()
		case <-hangup:
			command = "restart apiserver"
		case command = <-commands:
		}
		switch command {
		case "":
			continue
		case "stop apiserver":
			c.stopAPIServer(ctx)
			wanted = false
		case "start apiserver", "restart apiserver":
			if wanted && command == "start apiserver" {
				break
			}
			c.stopAPIServer(ctx)
			wanted = true
			limited, cancel := context.WithTimeoutCause(ctx, c.options.startTimeout,
				fmt.Errorf("not ready after %s", c.options.startTimeout))
			err := c.startAPIServer(limited)
			cancel()
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown command %q on stdin: {stop|start|restart} apiserver", command)
		}
		if err := c.report(command); err != nil {
			return err
		}
	}
}

func (c *cluster) report(did string) error {
	r := report{
		Kubeconfig: c.options.kubeconfig,
		Server:     c.server,
		Dir:        c.options.dir,
		AuditLog:   c.options.auditLog,
		Pids: map[string]int{
			"up":                      os.Getpid(),
			"etcd":                    c.etcd.pid(),
			"kube-apiserver":          c.apiserver.pid(),
			"kube-controller-manager": c.manager.pid(),
		},
		Did: did,
	}
	if c.node != nil {
		r.Node = c.node.report()
		r.Pids["kube-scheduler"] = c.node.scheduler.pid()
		r.Pids["node"] = c.node.first.pid()
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// readCommands passes lines on and cancels when stdin closes: whoever started the cluster is gone.
func readCommands(ctx context.Context, cancel context.CancelFunc, commands chan<- string) {
	defer cancel()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		select {
		case commands <- strings.TrimSpace(lines.Text()):
		case <-ctx.Done():
			return
		}
	}
}

// prepareDir makes the cluster's directory, and a function that removes what was put there.
func prepareDir(dir string) (path string, clean func(), err error) {
	if dir == "" {
		path, err = os.MkdirTemp("", "testcluster-")
		return path, func() { removeAll(path) }, err
	}
	if path, err = filepath.Abs(dir); err != nil {
		return "", nil, err
	}
	err = os.Mkdir(path, 0o700)
	if err == nil {
		return path, func() { removeAll(path) }, nil
	}
	if !errors.Is(err, os.ErrExist) {
		return "", nil, err
	}
	// It was there: only its content will be ours.
	if first, err := firstEntry(path); err != nil {
		return "", nil, err
	} else if first != "" {
		return "", nil, fmt.Errorf("--dir %s is not empty (it has %s): name a new directory", path, first)
	}
	return path, func() {
		entries, err := os.ReadDir(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, "testcluster up:", err)
		}
		for _, entry := range entries {
			removeAll(filepath.Join(path, entry.Name()))
		}
	}, nil
}

func firstEntry(dir string) (string, error) {
	file, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	defer file.Close()
	names, err := file.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return names[0], nil
}

func removeAll(path string) {
	if err := os.RemoveAll(path); err != nil {
		fmt.Fprintln(os.Stderr, "testcluster up:", err)
	}
}
