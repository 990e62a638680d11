# The node's network namespace, and the way into it from the host. Sourced, never run.

# nsenter, not `ip netns exec`: the latter remounts /sys, which hides the cgroups from the kubelet.
on_node() { nsenter --net="/run/netns/$NETNS" "$@"; }

network_is_up() {
  [ -e "/run/netns/$NETNS" ] && ip link show "$LINK" >/dev/null 2>&1
}

# There is one node on a machine; that of another CLUSTER_DIR is not ours to take down.
require_own_network() {
  local owner
  owner=$(cat "/sys/class/net/$LINK/ifalias" 2>/dev/null) || return 0
  [ -z "$owner" ] || [ "$owner" = "$STATE" ] ||
    die "the cluster of $owner runs on this machine: end it first, by \`cluster down\` with CLUSTER_DIR=${owner%/state}"
}

network_up() {
  local range
  ip netns add "$NETNS"
  ip link add "$LINK" type veth peer name eth0 netns "$NETNS"
  ip link set "$LINK" alias "$STATE"
  ip addr add "$HOST_IP/24" dev "$LINK"
  ip link set "$LINK" up
  on_node ip link set lo up
  on_node ip addr add "$NODE_IP/24" dev eth0
  on_node ip link set eth0 up
  on_node ip route add default via "$HOST_IP"
  on_node sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
  # Services and pods answer on the host as they do in the cluster.
  for range in "$POD_RANGE" "$SERVICE_RANGE"; do
    ip route add "$range" via "$NODE_IP" dev "$LINK" ||
      die "this machine already routes $range elsewhere (ip route): free it, or set CLUSTER=current"
  done
}

# Deleting the pair takes its addresses and routes along.
network_down() {
  ip netns del "$NETNS" 2>/dev/null || true
  ip link del "$LINK" 2>/dev/null || true
}
