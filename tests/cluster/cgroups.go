package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupPrefix = "tenantry-node-"

// cgroups are the places where control groups are made: one for each controller (v1), or one for all (v2).
type cgroups struct {
	// used are those that a node needs.
	used []string
	// all has also the second version's place on a machine that runs both: runc makes groups there too.
	all []string
	v2  bool
}

// findCgroups reads what is mounted.
func findCgroups() (cgroups, error) {
	mounts, err := readMounts()
	if err != nil {
		return cgroups{}, err
	}
	var first, second []string
	for _, m := range mounts {
		switch {
		case m.kind == "cgroup" && !slices.Contains(first, m.point):
			first = append(first, m.point)
		case m.kind == "cgroup2" && !slices.Contains(second, m.point):
			second = append(second, m.point)
		}
	}
	switch {
	case len(first) > 0:
		return cgroups{used: first, all: append(slices.Clone(first), second...)}, nil
	case len(second) > 0:
		return cgroups{used: second[:1], all: second[:1], v2: true}, nil
	default:
		return cgroups{}, errors.New("no control groups are mounted at /sys/fs/cgroup: a kubelet needs them")
	}
}

// marker is the place where the node's first process lives in its group, so that others see the group is in use.
func (c cgroups) marker() string {
	for _, controller := range []string{"pids", "freezer", "systemd"} {
		for _, place := range c.used {
			if filepath.Base(place) == controller {
				return place
			}
		}
	}
	return c.used[0]
}

func newCgroupName() string {
	random := make([]byte, 4)
	_, _ = rand.Read(random)
	return cgroupPrefix + hex.EncodeToString(random)
}

// enter makes the groups of a node, removes those of nodes that are gone, and puts this process into its own.
func (c cgroups) enter(name string) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	c.sweep()
	own := filepath.Join(c.marker(), name, "init")
	if err := os.MkdirAll(own, 0o755); err != nil {
		return fmt.Errorf("make a control group (is %s writable?): %w", c.marker(), err)
	}
	if err := joinCgroup(own); err != nil {
		return err
	}
	for _, place := range c.used {
		if err := os.MkdirAll(filepath.Join(place, name), 0o755); err != nil {
			return err
		}
	}
	if c.v2 {
		// Below a group the kubelet does it itself, but it looks for the controllers before that.
		control := filepath.Join(c.used[0], "cgroup.subtree_control")
		for _, controller := range []string{"cpu", "cpuset", "memory", "pids"} {
			if err := os.WriteFile(control, []byte("+"+controller), 0o644); err != nil {
				return fmt.Errorf("give the controller %s to control groups: %w", controller, err)
			}
		}
		// io and hugetlb are not there on every kernel, and nobody insists.
		for _, controller := range []string{"io", "hugetlb"} {
			_ = os.WriteFile(control, []byte("+"+controller), 0o644)
		}
	}
	return nil
}

// leave goes back to the top and removes the node's groups; no process may be left in them.
func (c cgroups) leave(name string) error {
	if err := joinCgroup(c.marker()); err != nil {
		return err
	}
	return c.remove(name)
}

func (c cgroups) remove(name string) error {
	var errs []error
	for _, place := range c.all {
		errs = append(errs, removeCgroup(filepath.Join(place, name)))
	}
	return errors.Join(errs...)
}

// sweep removes groups of nodes that were killed before they could.
func (c cgroups) sweep() {
	for _, place := range c.all {
		found, _ := filepath.Glob(filepath.Join(place, cgroupPrefix+"*"))
		for _, group := range found {
			name := filepath.Base(group)
			// The kernel refuses while the other node's first process is in it. Looking into cgroup.procs would not do:
			// processes of other namespaces are not shown there.
			err := unix.Rmdir(filepath.Join(c.marker(), name, "init"))
			if err == nil || errors.Is(err, unix.ENOENT) {
				_ = c.remove(name)
			}
		}
	}
}

// lock keeps a second node from taking a group that is being made for one that is abandoned.
func (c cgroups) lock() (unlock func(), err error) {
	place, err := os.Open(c.marker())
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(place.Fd()), unix.LOCK_EX); err != nil {
		place.Close()
		return nil, fmt.Errorf("lock %s: %w", c.marker(), err)
	}
	return func() { _ = place.Close() }, nil
}

func joinCgroup(group string) error {
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0o644); err != nil {
		return fmt.Errorf("enter control group %s: %w", group, err)
	}
	return nil
}

// removeCgroup removes a group and those below it. The kernel holds a group for a moment after its last process.
func removeCgroup(group string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := removeCgroupOnce(group)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pollInterval)
	}
}

func removeCgroupOnce(group string) error {
	var groups []string
	err := filepath.WalkDir(group, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && entry.IsDir() {
			groups = append(groups, path)
		}
		return err
	})
	for _, path := range slices.Backward(groups) {
		// rmdir alone: the files in a group go with it and cannot be removed.
		if e := unix.Rmdir(path); e != nil && !errors.Is(e, unix.ENOENT) {
			err = errors.Join(err, fmt.Errorf("control group %s: %w", path, e))
		}
	}
	return err
}
