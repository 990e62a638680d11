# CLUSTER=current: the cluster of kubectl's current context instead of ours. Sourced, never run.

# Tests delete namespaces and restart things: nobody's cluster is touched without a yes.
confirm_current() {
  local context answer
  type -P kubectl >/dev/null || die "CLUSTER=current needs kubectl: install it from https://kubernetes.io/docs/tasks/tools"
  context=$(command kubectl config current-context 2>/dev/null) ||
    die "CLUSTER=current, but kubectl has no current context: set one with kubectl config use-context"
  [ "${CLUSTER_CONFIRM:-}" != "$context" ] || return 0
  if [ -t 0 ]; then
    printf 'This installs MailLaser into the cluster of the context %s, and makes and deletes namespaces there. Go on? (y/N) ' "$context" >&2
    read -r answer
    [[ $answer != [yY]* ]] || return 0
    die "not touched"
  fi
  die "CLUSTER=current without a terminal: set CLUSTER_CONFIRM=$context to agree to changes in that cluster"
}

current() {
  local command=${1:-}
  shift || true
  case $command in
    up)
      confirm_current
      command kubectl get --raw /readyz >/dev/null || die "the cluster of the current context does not answer"
      ;;
    down) ;;
    load)
      confirm_current
      push "$@"
      ;;
    kubectl)
      confirm_current
      exec kubectl "$@"
      ;;
    *) die "CLUSTER=current has no \`$command\`: it is for the test cluster alone" ;;
  esac
}

# Pushes archives to REGISTRY under their own names.
push() {
  local archive name
  [ -n "${REGISTRY:-}" ] || die "CLUSTER=current takes its images from a registry: set REGISTRY=<host>/<path>"
  for archive in "$@"; do
    name=$REGISTRY/$(archive_field "$archive" name | sed 's|^localhost/||')
    say "pushing $name"
    if command -v skopeo >/dev/null; then
      skopeo copy --quiet "oci-archive:$archive" "docker://$name"
    elif command -v podman >/dev/null; then
      podman load --quiet --input "$archive" >/dev/null
      podman push --quiet "$(archive_field "$archive" name)" "$name"
    elif command -v docker >/dev/null; then
      docker load --quiet --input "$archive" >/dev/null
      docker tag "$(archive_field "$archive" name)" "$name"
      docker push --quiet "$name"
    else
      die "pushing to $REGISTRY needs skopeo, podman or docker: install one of them"
    fi
  done
}
