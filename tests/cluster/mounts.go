package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tunables are the settings of the kernel that a kubelet makes, with the values it wants. They are the whole machine's.
var tunables = map[string]int{
	"vm/overcommit_memory":      1,
	"vm/panic_on_oom":           0,
	"kernel/panic":              10,
	"kernel/panic_on_oops":      1,
	"kernel/keys/root_maxkeys":  1_000_000,
	"kernel/keys/root_maxbytes": 25_000_000,
}

// isolate makes this process's own view of the machine: what the node mounts is not seen outside, and files that
// containerd and the kubelet put into fixed places stay in memory.
func isolate(dir string) error {
	state, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer state.Close()
	scratch := filepath.Join(dir, "scratch")
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return err
	}
	steps := []mounting{
		// Mounts of the host are still seen here, ours not there.
		{target: "/", flags: unix.MS_REC | unix.MS_SLAVE},
		{source: "proc", target: "/proc", kind: "proc"},
		{source: "tmpfs", target: scratch, kind: "tmpfs", data: "mode=0700"},
	}
	if err := mountAll(steps); err != nil {
		return err
	}
	for name, value := range tunables {
		file := filepath.Join(scratch, filepath.Base(name))
		if err := os.WriteFile(file, []byte(strconv.Itoa(value)+"\n"), 0o644); err != nil {
			return err
		}
		target := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(target); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := (mounting{source: file, target: target, flags: unix.MS_BIND}).mount(); err != nil {
			return err
		}
	}
	for _, place := range []string{"/run", "/var/lib", "/var/log"} {
		if err := shadow(place, filepath.Join(scratch, filepath.Base(place))); err != nil {
			return err
		}
	}
	if err := showAgain(dir, state); err != nil {
		return err
	}
	// Volumes that are mounted into a pod's directory must reach its containers, and back.
	return mounting{target: "/", flags: unix.MS_REC | unix.MS_SHARED}.mount()
}

// shadow lets processes write to a directory without changing it.
func shadow(place, scratch string) error {
	upper, work := filepath.Join(scratch, "upper"), filepath.Join(scratch, "work")
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return mounting{
		source: "overlay", target: place, kind: "overlay",
		data: "lowerdir=" + place + ",upperdir=" + upper + ",workdir=" + work,
	}.mount()
}

// showAgain brings back the node's directory when it lies in a place that is shadowed now.
func showAgain(dir string, state *os.File) error {
	real, err := state.Stat()
	if err != nil {
		return err
	}
	if seen, err := os.Stat(dir); err == nil && os.SameFile(real, seen) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return mounting{source: fmt.Sprintf("/proc/self/fd/%d", state.Fd()), target: dir, flags: unix.MS_BIND | unix.MS_REC}.mount()
}

type mounting struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

func (m mounting) mount() error {
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
		return fmt.Errorf("mount on %s (%s %s): %w", m.target, m.kind, m.data, err)
	}
	return nil
}

func mountAll(steps []mounting) error {
	for _, step := range steps {
		if err := step.mount(); err != nil {
			return err
		}
	}
	return nil
}

// unmountBelow unmounts what is mounted below dir, and says whether something is left.
func unmountBelow(dir string) (left bool, err error) {
	mounts, err := readMounts()
	if err != nil {
		return true, err
	}
	var errs []error
	for i := len(mounts) - 1; i >= 0; i-- {
		if below(dir, mounts[i].point) {
			if err := unix.Unmount(mounts[i].point, unix.MNT_DETACH); err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", mounts[i].point, err))
			}
		}
	}
	if mounts, err = readMounts(); err != nil {
		return true, errors.Join(append(errs, err)...)
	}
	for _, m := range mounts {
		left = left || below(dir, m.point)
	}
	return left, errors.Join(errs...)
}

func below(dir, path string) bool {
	relative, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(relative) && relative != "."
}

// mountPoint is one line of the table of mounts.
type mountPoint struct {
	point string
	kind  string
}

func readMounts() ([]mountPoint, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var mounts []mountPoint
	// Blanks in paths are written as octal numbers.
	plain := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(rest) < 1 {
			continue
		}
		mounts = append(mounts, mountPoint{point: plain.Replace(fields[4]), kind: rest[0]})
	}
	return mounts, lines.Err()
}
