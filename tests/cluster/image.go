package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pauseImage = "localhost/tenantry-pause:latest"
	// criNamespace is the part of containerd that the kubelet sees.
	criNamespace = "k8s.io"
)

// nodeMain is `testcluster node`: what one does to a node that runs.
func nodeMain(args []string) int {
	if len(args) == 0 || args[0] != "load" {
		usage()
	}
	if err := load(args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		fmt.Fprintln(os.Stderr, "testcluster node load:", err)
		return 1
	}
	return 0
}

// load puts images into a node and prints the names that pods call them by.
func load(args []string) error {
	var dir string
	flags := flag.NewFlagSet("testcluster node load", flag.ContinueOnError)
	flags.StringVar(&dir, "dir", "", "the cluster's directory, as `up` prints it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if dir == "" || flags.NArg() == 0 {
		return errors.New("want --dir DIR and image archives as `buildah push IMAGE docker-archive:FILE:NAME` or oci-archive: makes them")
	}
	layout := nodeLayout{dir: filepath.Join(dir, "node")}
	ctx, cancel := context.WithTimeoutCause(context.Background(), 5*time.Minute, errors.New("not loaded after 5 minutes"))
	defer cancel()
	for _, file := range flags.Args() {
		names, err := imageNames(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		command := exec.CommandContext(ctx, "ctr", layout.importArgs(file)...)
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("import %s: %w: %s", file, err, bytes.TrimSpace(output))
		}
		for _, image := range names {
			if err := awaitImage(ctx, layout.socket(), image); err != nil {
				return err
			}
			fmt.Println(image)
		}
	}
	return nil
}

// snapshotter is how containerd lays the files of images over each other.
func (l nodeLayout) snapshotter() string {
	var stat unix.Statfs_t
	if err := unix.Statfs(l.dir, &stat); err == nil && stat.Type == unix.OVERLAYFS_SUPER_MAGIC {
		// In a container: no overlay on an overlay.
		return "native"
	}
	return "overlayfs"
}

func (l nodeLayout) importArgs(file string) []string {
	return []string{"--address", l.socket(), "--namespace", criNamespace, "images", "import", "--snapshotter", l.snapshotter(), file}
}

// imageNames are the names of the images in an archive, in Docker's form or in OCI's.
func imageNames(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var docker []struct{ RepoTags []string }
	var oci struct {
		Manifests []struct{ Annotations map[string]string }
	}
	for archive := tar.NewReader(file); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("not an image archive: %w", err)
		}
		switch filepath.Clean(header.Name) {
		case "manifest.json":
			err = json.NewDecoder(archive).Decode(&docker)
		case "index.json":
			err = json.NewDecoder(archive).Decode(&oci)
		}
		if err != nil {
			return nil, fmt.Errorf("%s in it: %w", header.Name, err)
		}
	}
	var names []string
	for _, image := range docker {
		names = append(names, image.RepoTags...)
	}
	if docker == nil {
		for _, manifest := range oci.Manifests {
			names = append(names, manifest.Annotations["org.opencontainers.image.ref.name"])
		}
	}
	if len(names) == 0 {
		return nil, errors.New("no image in it has a name: write it with one, as docker-archive:FILE:localhost/NAME:TAG")
	}
	for _, image := range names {
		// Whatever is short is completed by each program in its own way.
		if !strings.HasPrefix(image, "localhost/") || !strings.Contains(image, ":") {
			return nil, fmt.Errorf("the image in it is called %q: write it as localhost/NAME:TAG", image)
		}
	}
	return names, nil
}

// writePauseImage makes an image of the one program pause, which lies beside this one.
func writePauseImage(file string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(filepath.Join(filepath.Dir(self), "pause"))
	if err != nil {
		return fmt.Errorf("the program of the pods' first container: %w", err)
	}
	files, err := pack(map[string][]byte{"pause": program})
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"os":           "linux",
		"architecture": runtime.GOARCH,
		"config":       map[string]any{"Entrypoint": []string{"/pause"}, "User": "65534:65534"},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(files))}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{
		{"Config": "config.json", "RepoTags": []string{pauseImage}, "Layers": []string{"layer.tar"}},
	})
	if err != nil {
		return err
	}
	archive, err := pack(map[string][]byte{"config.json": config, "layer.tar": files, "manifest.json": manifest})
	if err != nil {
		return err
	}
	return os.WriteFile(file, archive, 0o644)
}

// pack makes a tar of files that anybody may run.
func pack(files map[string][]byte) ([]byte, error) {
	var packed bytes.Buffer
	archive := tar.NewWriter(&packed)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		header := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(files[name])), Typeflag: tar.TypeReg}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(files[name]); err != nil {
			return nil, err
		}
	}
	err := archive.Close()
	return packed.Bytes(), err
}
