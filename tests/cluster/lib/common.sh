# Paths, messages and bounded waits. Sourced, never run.

RECIPE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${CLUSTER_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/mail-laser-cluster}
BIN=$CACHE/bin
STATE=$CACHE/state
KUBECONFIG_FILE=$STATE/admin.kubeconfig

NETNS=mail-laser-node
LINK=mail-laser0
# TEST-NET-2: 192.0.2.0/24 may be the network of the machine itself.
HOST_IP=198.51.100.1
NODE_IP=198.51.100.10
POD_RANGE=10.244.0.0/16
SERVICE_RANGE=10.96.0.0/16
DNS_IP=10.96.0.10

say() { printf 'cluster: %s\n' "$*" >&2; }

die() {
  say "$*"
  exit 1
}

# wait_for WHAT SECONDS COMMAND... : polls until the command succeeds.
wait_for() {
  local what=$1 seconds=$2 started=$SECONDS
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS - started >= seconds)); then
      die "no $what after $seconds s; the components' logs are in $STATE/log"
    fi
    sleep 0.2
  done
}

kubectl() { "$BIN/kube" kubectl --kubeconfig "$KUBECONFIG_FILE" "$@"; }

# Every call on a machine with cgroup v1 says that v1 is deprecated.
ctr() {
  "$BIN/ctr" --address "$STATE/run/containerd.sock" --namespace k8s.io "$@" 2> >(grep -v 'cgroup v1 is deprecated' >&2)
}

# Two commands at once would race for the namespace and the state directory.
# The descriptor is closed again in every process that outlives the command.
exclusively() {
  mkdir -p "$CACHE"
  exec 9>"$CACHE/lock"
  if ! flock --nonblock 9; then
    say "another cluster command is running; waiting for it"
    flock --timeout 3600 9 || die "it still runs after an hour; end it and try again"
  fi
}
