# What the scripts of this folder share. Sourced, never run.

cluster=tests/cluster/cluster
images=target/images

minutes() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

# step TITLE COMMAND... : a heading before, the time after. Not `COMMAND || ...`: that would switch errexit off in it.
step() {
  local started=$SECONDS
  current_step=$1
  shift
  printf '\n== %s\n' "$current_step"
  "$@"
  printf '== %s: %s\n' "$current_step" "$(minutes $((SECONDS - started)))"
  current_step=
}

# A script's EXIT trap; `clean_up` is the script's own.
current_step=
on_exit() {
  local status=$?
  [ -z "$current_step" ] || printf '\n== FAILED: %s\n' "$current_step" >&2
  clean_up
  exit $status
}

# Asks once, for all that a script does in somebody else's cluster.
confirm_cluster() {
  [ "${CLUSTER:-}" = current ] || return 0
  "$cluster" up
  CLUSTER_CONFIRM=$(command kubectl config current-context)
  export CLUSTER_CONFIRM
}

kubectl() { "$cluster" kubectl "$@"; }

# Loads the images and installs deploy/, as a user would by `kubectl apply -k deploy/`.
install_operator() {
  local digest applied
  "$cluster" load "$images"/{mail-laser,mail-laser-operator,mail-laser-webhook-receiver}.tar
  applied=$(kubectl kustomize deploy/ | from_registry | kubectl apply -f -)
  grep -v ' unchanged$' <<<"$applied" || true
  kubectl wait --for=condition=Established customresourcedefinition/maillasers.mail-laser.dev --timeout=30s >/dev/null
  # The tag stays while its content changes: the digest in the pod's annotations makes a new image a rollout.
  digest=$(sha256sum "$images/mail-laser-operator.tar" | cut -d' ' -f1)
  kubectl -n mail-laser-system patch deployment mail-laser-operator --type=merge --patch \
    "{\"spec\":{\"template\":{\"metadata\":{\"annotations\":{\"mail-laser.dev/image\":\"$digest\"}}}}}" >/dev/null
  kubectl -n mail-laser-system rollout status deployment/mail-laser-operator --timeout=120s
}

# Local names are for the test cluster; any other pulls from REGISTRY.
from_registry() {
  if [ -n "${REGISTRY:-}" ]; then
    sed "s|localhost/|$REGISTRY/|g"
  else
    cat
  fi
}
