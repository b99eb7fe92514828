#!/usr/bin/env bash
# Shows tenantry at work: a real API server, the KubeSphere simulator, the operator, and the samples.
# Everything listens on loopback only. `make demo-down` (hack/demo-down.sh) stops it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

state=${TENANTRY_DEMO_DIR:-$PWD/target/demo}
namespace=demo
say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }
# Waits until a command succeeds, at most so many seconds.
until_ok() { local end=$((SECONDS + $1)); shift; until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done; }

./hack/demo-down.sh --quiet
mkdir -p "$state"

say "building (the first time takes some minutes)"
cargo build --quiet --bin tenantry --package tenantry
cargo build --quiet --package tenantry-simulator
bin=${CARGO_TARGET_DIR:-target}/debug
testcluster=$(tests/cluster/ensure.sh)

say "starting a Kubernetes API server, the KubeSphere simulator and the operator"
export KUBECONFIG
KUBECONFIG=$(tests/cluster/up.sh "$state/cluster")
kubectl() { if [ -x "${KUBEBUILDER_ASSETS:-}/kubectl" ]; then "$KUBEBUILDER_ASSETS/kubectl" "$@"; else "$testcluster" kubectl "$@"; fi; }

setsid "$bin/ks-simulator" --listen 127.0.0.1:0 --world demo --address-file "$state/simulator.json" \
    </dev/null >"$state/simulator.log" 2>&1 &
echo $! >"$state/simulator.pid"
until_ok 30 test -s "$state/simulator.json" || { cat "$state/simulator.log" >&2; fail "the simulator did not start"; }
gateway=$(sed -E 's/.*"(url|address)" *: *"([^"]+)".*/\2/' "$state/simulator.json" | head -n 1)
case $gateway in http*) ;; *) gateway=http://$gateway ;; esac

kubectl apply --server-side --filename crds/ >/dev/null
kubectl wait --for=condition=Established --timeout=60s --filename crds/ >/dev/null
setsid "$bin/tenantry" operator --kubeconfig "$KUBECONFIG" \
    --health-address 127.0.0.1:0 --metrics-address 127.0.0.1:0 --address-file "$state/operator.json" \
    </dev/null >"$state/operator.log" 2>&1 &
echo $! >"$state/operator.pid"
until_ok 30 test -s "$state/operator.json" || { cat "$state/operator.log" >&2; fail "the operator did not start"; }
echo "cluster:   $KUBECONFIG"
echo "simulator: $gateway"
echo "operator:  log in $state/operator.log"

say "kubectl apply: a connection, three builds, an ArtifactFetch (config/samples/)"
kubectl create namespace "$namespace" --dry-run=client --output yaml | kubectl apply --filename - >/dev/null
kubectl config set-context --current --namespace "$namespace" >/dev/null
kubectl kustomize config/samples | sed "s|http://127.0.0.1:30880|$gateway|" | kubectl apply --filename -

say "what happens while it happens (kubectl get breq --watch)"
kubectl get breq --watch --output-watch-events=false &
watch=$!
trap 'kill $watch 2>/dev/null || true' EXIT
wait_for() { kubectl wait "$1" --for="condition=$2" --timeout=120s >/dev/null || fail "$1 did not become $2: kubectl describe $1"; }
wait_for breq/shop-1.4.2 Ready
wait_for breq/web-login Ready
wait_for breq/broken Stalled
wait_for afetch/shop-package Ready
kill "$watch" 2>/dev/null || true
wait "$watch" 2>/dev/null || true
trap - EXIT

say "kubectl describe breq broken"
kubectl describe breq broken
say "the log of web-login: kubectl get configmap web-login-log"
kubectl get configmap web-login-log --output 'jsonpath={.data.log}' | tail -n 15
say "a file of shop-1.4.2: kubectl get configmap shop-1.4.2-artifacts"
kubectl get configmap shop-1.4.2-artifacts --output 'go-template={{range $name, $text := .data}}--- {{$name}}{{"\n"}}{{$text}}{{"\n"}}{{end}}' | head -n 30
say "kubectl get breq,afetch,tconn"
kubectl get breq,afetch,tconn

cat <<END

Try on:   export KUBECONFIG=$KUBECONFIG
          kubectl get breq --watch
          kubectl annotate breq shop-1.4.2 tenantry.dev/rerun-requested-at="\$(date)" --overwrite
(kubectl: any you have, or $testcluster kubectl)
Stop it:  make demo-down
END
