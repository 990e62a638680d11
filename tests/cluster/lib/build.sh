# Builds the components, each once for each state of its sources. Sourced, never run.

COMPONENTS=(kube containerd coredns pause)

declare -A TITLE=(
  [kube]="Kubernetes, etcd and kubectl"
  [containerd]="containerd, its shim and ctr"
  [coredns]="CoreDNS"
  [pause]="the pause process"
)

build_kube() {
  local version package=k8s.io/component-base/version
  cd "$RECIPE/kube"
  # A Go build of Kubernetes reports v0.0.0 unless it is told.
  version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
  CGO_ENABLED=0 go build -o "$BIN/kube" -ldflags="-s -w -X $package.gitVersion=$version \
    -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$version")" .
}

build_containerd() {
  local command
  cd "$RECIPE/containerd"
  for command in containerd containerd-shim-runc-v2 ctr; do
    CGO_ENABLED=0 go build -ldflags='-s -w' -o "$BIN/$command" "./cmd/$command"
  done
}

build_coredns() {
  cd "$RECIPE/coredns"
  CGO_ENABLED=0 go build -ldflags='-s -w' -o "$BIN/coredns" .
}

build_pause() {
  gcc -static -Os -s -o "$BIN/pause" "$RECIPE/pause.c"
}

sources_of() {
  if [ "$1" = pause ]; then
    cat "$RECIPE/pause.c"
  else
    (cd "$RECIPE/$1" && find . -type f | sort | xargs cat)
  fi | sha256sum | cut -d' ' -f1
}

require_go() {
  command -v go >/dev/null ||
    die "building the test cluster needs Go 1.26 or later: install it from https://go.dev/dl, or set CLUSTER=current to use the cluster of kubectl's current context"
}

build() {
  local component stamp sources number=0
  mkdir -p "$BIN" "$CACHE/log"
  for component in "${COMPONENTS[@]}"; do
    number=$((number + 1))
    stamp=$CACHE/$component.sources
    sources=$(sources_of "$component")
    [ "$(cat "$stamp" 2>/dev/null)" = "$sources" ] && [ -x "$BIN/$component" ] && continue
    [ "$component" = pause ] || require_go
    rm -f "$stamp"
    build_one "$component" "$number of ${#COMPONENTS[@]}"
    echo "$sources" >"$stamp"
  done
}

# Minutes of silence look like a hang: says how long it has been at it.
build_one() {
  local component=$1 started=$SECONDS said=0 log=$CACHE/log/build-$1.log pid status=0
  say "building ${TITLE[$component]} ($2); the first time takes minutes"
  (set -e; "build_$component") >"$log" 2>&1 </dev/null 9>&- &
  pid=$!
  while kill -0 $pid 2>/dev/null; do
    sleep 0.5
    if ((SECONDS - started - said >= 20)); then
      said=$((SECONDS - started))
      say "  building ${TITLE[$component]}: $said s"
    fi
    if ((SECONDS - started >= 3600)); then
      kill $pid
      die "building ${TITLE[$component]} took over an hour; what it said is in $log"
    fi
  done
  wait $pid || status=$?
  if ((status)); then
    tail -n 20 "$log" >&2
    die "${TITLE[$component]} does not build (component $component); all it said is in $log"
  fi
  say "built ${TITLE[$component]} in $((SECONDS - started)) s"
}
