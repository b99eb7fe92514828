package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// firstProcess is process 1 of a node's namespaces: it starts containerd and the kubelet, reaps every orphan, and
// clears up when its stdin closes.
type firstProcess struct {
	layout nodeLayout
	cgroup string
	keep   bool

	// mutex is held while a process is started, so that its end is not seen before it is known.
	mutex   sync.Mutex
	running map[int]*member
	// empty is closed when no process is left.
	empty chan struct{}
}

// member is one process of the node.
type member struct {
	name   string
	log    string
	status syscall.WaitStatus
	exited chan struct{}
}

func (m *member) death() error {
	return fmt.Errorf("%s ended (exit code %d); the end of its log:\n%s", m.name, m.status.ExitStatus(), tail(m.log, 4096))
}

func nodeInitMain(args []string) int {
	p := &firstProcess{running: map[int]*member{}, empty: make(chan struct{})}
	flags := flag.NewFlagSet("testcluster node-init", flag.ContinueOnError)
	flags.StringVar(&p.layout.dir, "dir", "", "the node's directory")
	flags.StringVar(&p.cgroup, "cgroup", "", "name of the node's control group")
	flags.BoolVar(&p.keep, "keep", false, "leave data and logs in the directory at the end")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	// As any process 1, or whoever calls it by mistake would end all processes of the machine.
	if os.Getpid() != 1 || p.layout.dir == "" || p.cgroup == "" {
		fmt.Fprintln(os.Stderr, "testcluster node-init is started by `testcluster up --node` only")
		return 2
	}
	if err := p.run(); err != nil {
		fmt.Fprintln(os.Stderr, "testcluster node:", err)
		return 1
	}
	return 0
}

func (p *firstProcess) run() (err error) {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	if err := isolate(p.layout.dir); err != nil {
		return err
	}
	groups, err := findCgroups()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.clear(groups)) }()
	if err := groups.enter(p.cgroup); err != nil {
		return err
	}
	containerd, err := p.startContainerd(ctx)
	if err != nil {
		return endedOr(ctx, err)
	}
	kubelet, err := p.startKubelet(ctx)
	if err != nil {
		return endedOr(ctx, err)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-containerd.exited:
		return containerd.death()
	case <-kubelet.exited:
		return kubelet.death()
	}
}

// endedOr is err, unless the node was told to end meanwhile.
func endedOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// startContainerd returns when containerd has the image that every pod needs.
func (p *firstProcess) startContainerd(ctx context.Context) (*member, error) {
	containerd, err := p.start("containerd", findProgram("containerd"), "--config", p.layout.path("containerd.toml"))
	if err != nil {
		return nil, err
	}
	go p.reap()
	for {
		importer, err := p.start("ctr", findProgram("ctr"), p.layout.importArgs(p.layout.path("pause.tar"))...)
		if err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-containerd.exited:
			return nil, containerd.death()
		case <-importer.exited:
		}
		if importer.status.ExitStatus() == 0 {
			return containerd, awaitImage(ctx, p.layout.socket(), pauseImage)
		}
		// It does not listen yet. `up` sets the limit.
		time.Sleep(pollInterval)
	}
}

// startKubelet returns when the kubelet listens. The port is free when it is chosen, but another process may be faster.
func (p *firstProcess) startKubelet(ctx context.Context) (*member, error) {
	for tries := 1; ; tries++ {
		reserved, err := reservePort()
		if err != nil {
			return nil, err
		}
		config := p.layout.path("kubelet.yaml")
		err = os.WriteFile(config, p.layout.kubeletConfig(p.cgroup, reserved.number), 0o644)
		reserved.release()
		if err != nil {
			return nil, err
		}
		kubelet, err := p.start("kubelet", "/proc/self/exe",
			"--config="+config,
			"--kubeconfig="+p.layout.path("kubelet.kubeconfig"),
			"--hostname-override="+nodeName,
			"--root-dir="+p.layout.path("kubelet"),
			"--cert-dir="+p.layout.path("kubelet"),
		)
		if err != nil {
			return nil, err
		}
		err = kubelet.awaitListener(ctx, reserved.number)
		taken := bytes.Contains(tail(kubelet.log, 16384), []byte("address already in use"))
		if err != nil && taken && tries < 3 && ctx.Err() == nil {
			continue
		}
		return kubelet, err
	}
}

// awaitListener returns when the process listens on a port of loopback.
func (m *member) awaitListener(ctx context.Context, port int) error {
	for !hasListener(port) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.exited:
			return m.death()
		case <-time.After(pollInterval):
		}
	}
	return nil
}

// start runs a program with its output in a file of its name.
func (p *firstProcess) start(name, program string, args ...string) (*member, error) {
	m := &member{name: name, log: p.layout.path(name + ".log"), exited: make(chan struct{})}
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	process, err := os.StartProcess(program, append([]string{name}, args...), &os.ProcAttr{
		Dir:   p.layout.dir,
		Env:   os.Environ(),
		Files: []*os.File{null, log, log},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.running[process.Pid] = m
	return m, process.Release()
}

// reap takes in all processes that end: ours, and those whose parents left them to process 1.
func (p *firstProcess) reap() {
	defer close(p.empty)
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return // ECHILD: containerd and all others are gone
		}
		p.mutex.Lock()
		if m := p.running[pid]; m != nil {
			m.status = status
			close(m.exited)
			delete(p.running, pid)
		}
		p.mutex.Unlock()
	}
}

// clear ends all processes of the node and takes back what it made outside of its namespaces.
func (p *firstProcess) clear(groups cgroups) error {
	if err := p.killAll(); err != nil {
		return err
	}
	err := groups.leave(p.cgroup)
	mounted, mountErr := unmountBelow(p.layout.dir)
	err = errors.Join(err, mountErr)
	if mounted || p.keep {
		// A mount that stayed may be somebody's volume: its files must not go with ours.
		return err
	}
	return errors.Join(err, os.RemoveAll(p.layout.dir))
}

func (p *firstProcess) killAll() error {
	deadline := time.After(nodeGrace / 2)
	for {
		// From process 1 this reaches every process of the namespace and none outside of it.
		if err := syscall.Kill(-1, syscall.SIGKILL); errors.Is(err, syscall.ESRCH) {
			return nil
		}
		select {
		case <-p.empty:
			return nil
		case <-deadline:
			return errors.New("processes of the node did not end")
		case <-time.After(pollInterval):
		}
	}
}

// hasListener says whether somebody listens on a port of loopback, without a connection to it.
func hasListener(port int) bool {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return false
	}
	// Local address, any remote address, state 0A: listening.
	return bytes.Contains(table, fmt.Appendf(nil, " 0100007F:%04X 00000000:0000 0A ", port))
}
