# The processes of the node: how each is started, whether it lives, how it ends. Sourced, never run.

# In the order of starting.
PROCESSES=(etcd apiserver containerd controller-manager scheduler kubelet proxy)

# render TEMPLATE TARGET [NAME=VALUE...] : fills in @NAME@.
render() {
  local template=$1 target=$2 pair script=
  shift 2
  for pair in STATE="$STATE" BIN="$BIN" NODE_IP="$NODE_IP" POD_RANGE="$POD_RANGE" "$@"; do
    script+="s|@${pair%%=*}@|${pair#*=}|g;"
  done
  sed "$script" "$RECIPE/config/$template" >"$target"
}

configs_up() {
  render containerd.toml "$STATE/containerd.toml"
  render bridge.conflist "$STATE/cni/conf/10-bridge.conflist"
  render kubelet.yaml "$STATE/kubelet.yaml"
  render kube-proxy.yaml "$STATE/proxy.yaml"
  render audit.yaml "$STATE/audit.yaml"
}

command_of() {
  case $1 in
    etcd)
      echo "$BIN/kube" etcd "$STATE/etcd" http://127.0.0.1:2379
      ;;
    apiserver)
      echo "$BIN/kube" kube-apiserver \
        --etcd-servers=http://127.0.0.1:2379 \
        --service-cluster-ip-range="$SERVICE_RANGE" \
        --advertise-address="$NODE_IP" \
        --client-ca-file=pki/ca.crt \
        --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key \
        --service-account-issuer=https://kubernetes.default.svc \
        --service-account-key-file=pki/sa.pub --service-account-signing-key-file=pki/sa.key \
        --kubelet-client-certificate=pki/admin.crt --kubelet-client-key=pki/admin.key \
        --kubelet-preferred-address-types=InternalIP \
        --authorization-mode=Node,RBAC \
        --enable-admission-plugins=NodeRestriction \
        --allow-privileged=true \
        --audit-policy-file=audit.yaml --audit-log-path=log/audit.log \
        --audit-log-maxsize=500 --audit-log-maxbackup=1
      ;;
    containerd)
      echo env PATH="$BIN:$PATH" "$BIN/containerd" --config "$STATE/containerd.toml"
      ;;
    controller-manager)
      echo "$BIN/kube" kube-controller-manager \
        --kubeconfig=controller-manager.kubeconfig \
        --service-account-private-key-file=pki/sa.key --root-ca-file=pki/ca.crt \
        --cluster-signing-cert-file=pki/ca.crt --cluster-signing-key-file=pki/ca.key \
        --use-service-account-credentials \
        --allocate-node-cidrs --cluster-cidr="$POD_RANGE" \
        --leader-elect=false
      ;;
    scheduler)
      echo "$BIN/kube" kube-scheduler \
        --kubeconfig=scheduler.kubeconfig \
        --authentication-kubeconfig=scheduler.kubeconfig --authorization-kubeconfig=scheduler.kubeconfig \
        --leader-elect=false
      ;;
    kubelet)
      echo "$BIN/kube" kubelet \
        --config=kubelet.yaml --kubeconfig=kubelet.kubeconfig \
        --root-dir="$STATE/kubelet" --cert-dir="$STATE/kubelet/pki" \
        --hostname-override=node --node-ip="$NODE_IP"
      ;;
    proxy)
      echo "$BIN/kube" kube-proxy --config=proxy.yaml
      ;;
    *)
      die "no component $1; there are: ${PROCESSES[*]}"
      ;;
  esac
}

is_ready() {
  case $1 in
    etcd) on_node bash -c '</dev/tcp/127.0.0.1/2379' ;;
    apiserver) kubectl get --raw /readyz ;;
    containerd) ctr version ;;
    # Their work shows: the service accounts, the pods, the node, the Services.
    *) return 0 ;;
  esac
}

# A process is the one that we started if its number and its start time are. Empty for a dead one, reaped or not.
start_time_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

pid_of() {
  local pid started
  [ -e "$STATE/run/$1.pid" ] || return 1
  read -r pid started <"$STATE/run/$1.pid"
  [ -n "$started" ] && [ "$(start_time_of "$pid")" = "$started" ] || return 1
  echo "$pid"
}

start_component() {
  local name=$1 command pid
  pid_of "$name" >/dev/null && return 0
  command=$(command_of "$name")
  # Unquoted on purpose: no path or flag of ours holds a space, require_plain_paths saw to it.
  (cd "$STATE" && exec setsid nsenter --net="/run/netns/$NETNS" $command >>"$STATE/log/$name.log" 2>&1 </dev/null 9>&-) &
  pid=$!
  echo "$pid $(start_time_of $pid)" >"$STATE/run/$name.pid"
  wait_for "$name" 120 is_ready "$name"
  pid_of "$name" >/dev/null || die "$name ended at once; see $STATE/log/$name.log"
}

# Waits for the end: a process that lives on keeps the namespace and its routes alive.
stop_component() {
  local name=$1 signal=${2:-TERM} pid n=0
  [[ " ${PROCESSES[*]} " == *" $name "* ]] || die "no component $name; there are: ${PROCESSES[*]}"
  pid=$(pid_of "$name") || return 0
  kill -s "$signal" "$pid" 2>/dev/null || return 0
  while pid_of "$name" >/dev/null; do
    n=$((n + 1))
    # Five seconds: the API server alone would wait a minute for its watches.
    ((n != 50)) || kill -9 "$pid" 2>/dev/null || true
    ((n < 150)) || die "$name (process $pid) does not end, not even by kill -9"
    sleep 0.1
  done
  rm -f "$STATE/run/$name.pid"
}

require_plain_paths() {
  [[ $STATE =~ ^[A-Za-z0-9/._-]+$ ]] || die "the path $STATE holds a special character: set CLUSTER_DIR to a plain one"
}
