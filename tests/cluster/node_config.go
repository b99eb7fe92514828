package main

import "fmt"

// cniConfig is enough to make containerd call its network ready. Pods use the host's.
const cniConfig = `{"cniVersion": "0.4.0", "name": "loopback", "plugins": [{"type": "loopback"}]}
`

// containerdConfig keeps all that containerd writes in the node's directory, and all it listens on on loopback.
func (l nodeLayout) containerdConfig() []byte {
	return fmt.Appendf(nil, `version = 2
root = %q
state = %q
temp = %q
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = %q
[debug]
  level = "info"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  # A process without CAP_SYS_RESOURCE may not lower its score.
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true
  # A profile would stay in the kernel.
  disable_apparmor = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = %q
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`, l.path("containerd"), l.path("containerd-run"), l.path("containerd-tmp"), l.socket(), pauseImage, cniDir(), l.path("cni"), l.snapshotter())
}

// kubeletConfig listens on loopback alone and leaves the machine's settings as they are.
func (l nodeLayout) kubeletConfig(cgroup string, port int) []byte {
	return fmt.Appendf(nil, `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: %d
readOnlyPort: 0
healthzPort: 0
tlsCertFile: %q
tlsPrivateKeyFile: %q
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %q}
authorization: {mode: Webhook}
containerRuntimeEndpoint: %q
resolvConf: %q
podLogsDir: %q
volumePluginDir: %q
# Both versions of control groups will do, and no systemd is needed.
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /%s
enforceNodeAllocatable: []
failSwapOn: false
oomScoreAdj: 0
# A machine under test may have a full disk: nothing is evicted, no image is cleared away.
evictionHard: {}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
# A test reads a log whole.
containerLogMaxSize: 1Gi
makeIPTablesUtilChains: false
kubeAPIQPS: 100
kubeAPIBurst: 200
`, port, l.path("kubelet-server.crt"), l.path("kubelet-server.key"), l.path("ca.crt"), "unix://"+l.socket(),
		l.path("resolv.conf"), l.path("pod-logs"), l.path("kubelet-plugins"), cgroup)
}
