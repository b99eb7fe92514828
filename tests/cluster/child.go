package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// child is one running component, with its output in a file.
type child struct {
	name string
	log  string
	cmd  *exec.Cmd
	// exited is closed once the process is gone and err is set.
	exited chan struct{}
	err    error
}

// startChild runs a component. The kernel kills it when the thread that started it ends: that thread
// must be the main one (see main), which ends with the process, kill -9 included.
func startChild(dir, name string, args []string) (*child, error) {
	path, argv, err := commandLine(name, args)
	if err != nil {
		return nil, err
	}
	return launch(dir, name, &exec.Cmd{Path: path, Args: argv, SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}})
}

// launch runs a command with its output in a file of the directory.
func launch(dir, name string, cmd *exec.Cmd) (*child, error) {
	logPath := filepath.Join(dir, name+".log")
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, logFile, logFile
	// Nothing of the caller's environment: ETCD_* variables are flags, KUBECONFIG is the user's own.
	cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + dir, "PATH=" + os.Getenv("PATH")}
	// Own group: Ctrl-C in a terminal reaches `up` alone, which then stops its children in order.
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c := &child{name: name, log: logPath, cmd: cmd, exited: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		close(c.exited)
	}()
	return c, nil
}

// commandLine says which program plays a component: the one in KUBEBUILDER_ASSETS, else this binary.
func commandLine(name string, args []string) (path string, argv []string, err error) {
	if external := externalBinary(name); external != "" {
		return external, append([]string{external}, args...), nil
	}
	if _, ok := components[name]; !ok {
		return "", nil, fmt.Errorf("no %s: this testcluster was built without it and KUBEBUILDER_ASSETS has none", name)
	}
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	return self, append([]string{"testcluster", name}, args...), nil
}

// stop asks the process to leave; after grace, or when the context ends, it makes it.
func (c *child) stop(ctx context.Context, grace time.Duration) {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.exited:
		return
	case <-ctx.Done():
	case <-time.After(grace):
	}
	c.kill()
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.exited
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// death is the error of a process that left by itself, with the end of its log.
func (c *child) death() error {
	return fmt.Errorf("%s ended by itself (%v); the end of its log:\n%s", c.name, c.err, tail(c.log, 4096))
}

// tail is the last lines of a file, at most limit bytes.
func tail(path string, limit int64) []byte {
	file, err := os.Open(path)
	if err != nil {
		return []byte(err.Error())
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return []byte(err.Error())
	}
	start := max(info.Size()-limit, 0)
	text, err := io.ReadAll(io.NewSectionReader(file, start, limit))
	if err != nil && !errors.Is(err, io.EOF) {
		return []byte(err.Error())
	}
	if start > 0 {
		if newline := bytes.IndexByte(text, '\n'); newline >= 0 {
			text = text[newline+1:]
		}
	}
	return text
}
