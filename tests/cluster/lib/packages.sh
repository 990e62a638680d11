# What the cluster needs of the machine. Sourced, never run.

require_this_machine() {
  local otherwise="or set CLUSTER=current to use the cluster of kubectl's current context"
  [ "$(uname -s)" = Linux ] || die "the test cluster needs Linux (network namespaces, cgroups): run this on Linux, $otherwise"
  [ "$(id -u)" = 0 ] || die "the test cluster needs root (network namespaces, mounts): run this as root, $otherwise"
}

# package:what proves that it is there
PACKAGES=(
  ca-certificates:/etc/ssl/certs/ca-certificates.crt
  conntrack:conntrack
  containernetworking-plugins:/usr/lib/cni/bridge
  e2fsprogs:/usr/sbin/mkfs.ext4
  g++:g++
  gcc:gcc
  git:git
  iproute2:ip
  libc6-dev:/usr/include/stdlib.h
  libnet-ssleay-perl:/usr/share/doc/libnet-ssleay-perl/copyright
  mount:losetup
  nftables:nft
  openssl:openssl
  python3:python3
  runc:runc
  swaks:swaks
  util-linux:nsenter
)

install_packages() {
  local entry proof missing=()
  for entry in "${PACKAGES[@]}"; do
    proof=${entry#*:}
    [ -e "$proof" ] || command -v "$proof" >/dev/null || missing+=("${entry%%:*}")
  done
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null ||
    die "missing: ${missing[*]} (Debian's names). Install them, or set CLUSTER=current to use the cluster of kubectl's current context"
  say "installing ${missing[*]}"
  local log=$CACHE/apt.log
  mkdir -p "$CACHE"
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null 9>&-; then
    tail -n 20 "$log" >&2
    die "apt-get could not install ${missing[*]}; all it said is in $log"
  fi
}
