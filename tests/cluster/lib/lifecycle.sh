# up, down and status of the whole node. Sourced, never run.

up() {
  require_this_machine
  require_plain_paths
  install_packages
  exclusively
  require_own_network
  build
  # A changed recipe, a reboot or old certificates: what is left is not worth repairing.
  if [ "$(cat "$STATE/recipe" 2>/dev/null)" != "$(recipe)" ] || ! network_is_up || ! pki_is_valid; then
    [ ! -e "$STATE" ] || say "clearing what an earlier cluster left"
    tear_down
    set_up
  fi
  start_all
  echo "$KUBECONFIG_FILE"
}

# What a running cluster must have been started from.
recipe() {
  {
    (cd "$RECIPE" && cat config/* manifests/* lib/components.sh lib/network.sh lib/pki.sh)
    cat "$CACHE"/*.sources
  } | sha256sum | cut -d' ' -f1
}

set_up() {
  say "setting up the node"
  mkdir -p "$STATE"/{pki,log,run,etcd,kubelet,cni/conf,images}
  chmod 700 "$STATE"
  network_up
  pki_up
  configs_up
  recipe >"$STATE/recipe"
}

start_all() {
  local started=$SECONDS name missing=
  for name in "${PROCESSES[@]}"; do
    pid_of "$name" >/dev/null || missing+=" $name"
  done
  if [ -n "$missing" ]; then
    say "starting$missing"
    start_component etcd
    start_component apiserver
    start_component containerd
    start_component controller-manager
    start_component scheduler
    load_own_images
    start_component kubelet
    start_component proxy
  fi
  wait_for "answer from the API server" 60 is_ready apiserver
  wait_for "service account" 60 kubectl get serviceaccount default
  kubectl apply -f "$RECIPE/manifests/" >/dev/null
  wait_for "node" 60 kubectl get node node
  kubectl wait --for=condition=Ready node/node --timeout=60s >/dev/null || die "the node is not Ready; see $STATE/log/kubelet.log"
  kubectl -n kube-system rollout status deployment/coredns --timeout=90s >/dev/null || die "CoreDNS does not start; see cluster kubectl -n kube-system describe pods"
  wait_for "Service that answers on this machine" 60 timeout 1 bash -c '</dev/tcp/10.96.0.1/443'
  [ -z "$missing" ] || say "up after $((SECONDS - started)) s"
}

load_own_images() {
  local image
  for image in pause coredns; do
    "$RECIPE/../../images/oci-image" --output "$STATE/images/$image.tar" --name "localhost/$image:1" \
      --entrypoint "/$image" --file "$BIN/$image:/$image"
    load_one "$STATE/images/$image.tar"
  done
}

down() {
  require_this_machine
  exclusively
  require_own_network
  [ -e "$STATE" ] || network_is_up || return 0
  say "stopping"
  tear_down
}

tear_down() {
  local name
  # First who would start them again, then the pods, then who runs them. KILL: no state of theirs is kept.
  stop_component kubelet KILL
  stop_component proxy KILL
  remove_containers
  for name in containerd scheduler controller-manager apiserver etcd; do
    stop_component "$name" KILL
  done
  end_shims
  unmount_state
  network_down
  remove_cgroups
  rm -rf "$STATE"
}

remove_containers() {
  local id
  [ -S "$STATE/run/containerd.sock" ] && pid_of containerd >/dev/null || return 0
  for id in $(ctr tasks ls -q 2>/dev/null); do
    ctr tasks rm -f "$id" >/dev/null 2>&1 || true
  done
  for id in $(ctr containers ls -q 2>/dev/null); do
    ctr containers rm "$id" >/dev/null 2>&1 || true
  done
}

# A shim outlives a containerd that was killed, and its container with it.
end_shims() {
  local proc
  for proc in /proc/[0-9]*; do
    [ "$(readlink "$proc/exe" 2>/dev/null)" = "$BIN/containerd-shim-runc-v2" ] || continue
    pkill -9 -P "${proc#/proc/}" 2>/dev/null || true
    kill -9 "${proc#/proc/}" 2>/dev/null || true
  done
}

unmount_state() {
  local mount
  for mount in $(awk -v state="$STATE/" 'index($2, state) == 1 { print $2 }' /proc/mounts | sort -r); do
    umount -l "$mount" || true
  done
}

remove_cgroups() {
  find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null || true
}

status() {
  local name pid
  for name in "${PROCESSES[@]}"; do
    if pid=$(pid_of "$name"); then
      printf '%-20s running, process %s\n' "$name" "$pid"
    else
      printf '%-20s not running\n' "$name"
    fi
  done
  if is_ready apiserver >/dev/null 2>&1; then
    kubectl get nodes
    kubectl get pods --all-namespaces
  fi
}

# Whether somebody has it running, for a command that ends by restoring what it found.
is_up() {
  pid_of kubelet >/dev/null && is_ready apiserver >/dev/null 2>&1
}
