# The cluster's certificates and kubeconfigs. Sourced, never run.

# certificate NAME SUBJECT [EXTENSION] : without any extension openssl writes X.509 v1, which rustls refuses.
certificate() {
  openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
    -extfile <(printf 'basicConstraints=CA:FALSE\n%s\n' "${3:-}")
}

write_certificates() {
  cd "$STATE/pki"
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=test-ca -days 30
  openssl genrsa -out sa.key 2048
  openssl rsa -in sa.key -pubout -out sa.pub
  certificate apiserver /CN=kube-apiserver \
    "subjectAltName=IP:$NODE_IP,IP:127.0.0.1,IP:10.96.0.1,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  certificate admin /O=system:masters/CN=admin
  certificate kubelet /O=system:nodes/CN=system:node:node
  certificate controller-manager /CN=system:kube-controller-manager
  certificate scheduler /CN=system:kube-scheduler
  certificate proxy /CN=system:kube-proxy
}

pki_up() {
  local user
  # In the background, because errexit does not hold on the left of ||.
  (write_certificates) >"$STATE/log/openssl.log" 2>&1 &
  wait $! || die "openssl made no certificates; see $STATE/log/openssl.log"
  for user in admin kubelet controller-manager scheduler proxy; do
    render kubeconfig.yaml "$STATE/$user.kubeconfig" USER="$user"
  done
}

# A cluster that was left running for weeks must not fail on its certificates.
pki_is_valid() {
  openssl x509 -checkend 86400 -noout -in "$STATE/pki/ca.crt" >/dev/null 2>&1
}
