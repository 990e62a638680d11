# Everything that a person or a machine runs here; `make` lists it.
# CLUSTER=current uses the cluster of kubectl's current context, with images from REGISTRY=<host>/<path>.

cluster := tests/cluster/cluster

.PHONY: help demo test bench soak generate images cluster-up cluster-down lint unit gitops charts manifests fuzz e2e upgrade clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## from nothing to a mail at a webhook, on a real Kubernetes
	@tests/demo

test: ## everything that has to pass
	@tests/all

bench: ## speed and memory, as ratios to peers measured in the same run; RECORD=yes writes BENCHMARKS.md
	@tests/bench/run

soak: ## what takes too long for every change: the daemon under stress (ONLY=<scenario>), 200 kills under load, faults of the disk, 20,000 routes, fuzzing and a killed operator for 10 minutes each
	@tests/soak

generate: ## write what is generated: deploy/crd/, deploy/namespaced/role/, files/ of the charts, the schemas in docs/ and tests/gitops/statuses.json
	cargo run --quiet --locked --package mail-laser-crds --bin crdgen deploy/crd
	cp deploy/crd/*.yaml deploy/helm/mail-laser-crds/files/
	sed -n '/^rules:/,/^---/{/^---/d;p}' deploy/rbac.yaml >deploy/helm/mail-laser-operator/files/rules.yaml
	sed '1,/^---/d;/^# For the whole cluster alone/,/^---/{/^---/!d};s/ClusterRole/Role/' deploy/rbac.yaml >deploy/namespaced/role/role.yaml
	UPDATE_EXPECT=1 cargo test --quiet --locked --workspace --test mails -- schema documentation >/dev/null
	UPDATE_EXPECT=1 cargo test --quiet --locked --package mail-laser-routes --test schema >/dev/null
	UPDATE_EXPECT=1 cargo test --quiet --locked --workspace --test gitops >/dev/null

images: ## build the images as OCI archives in target/images/
	@images/build

cluster-up: ## start the test cluster; prints its kubeconfig's path
	@$(cluster) up

cluster-down: ## stop the test cluster
	@$(cluster) down

lint: ## format, clippy and links between doc comments, warnings are errors
	cargo fmt --all --check
	cargo fmt --manifest-path daemon/fuzz/Cargo.toml --check
	cargo clippy --workspace --locked --all-targets -- --deny warnings
	cargo clippy --workspace --locked --test e2e --test rights --test upgrade -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --workspace --locked --no-deps --document-private-items

unit: ## all tests that need no cluster
	cargo test --workspace --locked

gitops: ## what Argo CD and Flux make of a MailLaser, by their own code
	@tests/gitops/run

charts: ## the Helm charts, by the real helm, against what kustomize makes of deploy/
	@tests/charts/run

manifests: ## what deploy/ and the charts render, by kubeconform and kube-score
	@tests/manifests/run

fuzz: ## what comes from the network, FUZZ_SECONDS=20 for each target; TARGET=<name> for one
	@tests/fuzz $(TARGET)

e2e: ## the end-to-end tests on the test cluster; TEST=<part of a name> for some
	@tests/end-to-end $(TEST)

upgrade: ## from PREVIOUS=<tag or commit> to this version while mail flows: no pod is restarted
	@PREVIOUS=$(PREVIOUS) tests/upgrade

clean: ## remove what was built here; the cluster's components stay
	cargo clean
