# OCI archives into the node, or into a registry. Sourced, never run.

# archive_field FILE name|digest
archive_field() {
  tar --extract --to-stdout --file "$1" index.json | python3 -c '
import json, sys
manifest = json.load(sys.stdin)["manifests"][0]
print(manifest["digest"] if sys.argv[1] == "digest" else manifest["annotations"]["io.containerd.image.name"])
' "$2"
}

load() {
  local archive
  for archive in "$@"; do
    [ -e "$archive" ] || die "no archive $archive: \`make images\` writes those of the project"
    load_one "$archive"
  done
}

load_one() {
  local name digest loaded
  name=$(archive_field "$1" name)
  digest=$(archive_field "$1" digest)
  loaded=$(ctr images ls "name==$name" | awk -v name="$name" '$1 == name { print $3 }')
  [ "$loaded" != "$digest" ] || return 0
  say "loading $name"
  ctr images import "$1" >/dev/null
  forget_untagged
}

# An image that a newer one of its name replaced stays known by its number, and on the disk.
forget_untagged() {
  local all digest
  all=$(ctr images ls | awk 'NR > 1 { print $1, $3 }')
  awk '$1 ~ /^sha256:/' <<<"$all" | while read -r id digest; do
    awk -v digest="$digest" '$1 !~ /^sha256:/ && $2 == digest { found = 1 } END { exit !found }' <<<"$all" ||
      ctr images rm "$id" >/dev/null 2>&1 || true
  done
}

# The process of a container, as the host numbers it: what a test kills.
container_pid() {
  local id
  id=$(kubectl -n "$1" get pod "$2" -o 'jsonpath={.status.containerStatuses[0].containerID}')
  [ -n "$id" ] || die "the pod $1/$2 has no running container"
  ctr tasks ls | awk -v id="${id#containerd://}" '$1 == id { print $2; found = 1 } END { exit !found }' ||
    die "the container of $1/$2 has no process"
}
