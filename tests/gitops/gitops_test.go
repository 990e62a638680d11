// Package gitops tests what Argo CD and Flux make of the statuses that the operator writes, with their own code.
//
// The statuses are in statuses.json, which the operator's own tests write: `make generate`.
package gitops

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/health"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const (
	statuses   = "statuses.json"
	patch      = "../../deploy/argocd/argocd-cm.yaml"
	fluxChecks = "../../deploy/flux/health-checks.yaml"
	keys       = "resource.customizations.health.mail-laser.dev_"
)

// What a tool shows, and a part of the text that it shows with it.
type verdict struct {
	flux   status.Status
	argoCD health.HealthStatusCode
	text   string
}

func broken(text string) verdict {
	return verdict{status.FailedStatus, health.HealthStatusDegraded, text}
}

func onItsWay(text string) verdict {
	return verdict{status.InProgressStatus, health.HealthStatusProgressing, text}
}

func well(text string) verdict {
	return verdict{status.CurrentStatus, health.HealthStatusHealthy, text}
}

// Flux has no word for what is suspended: it says how the pods are.
func suspended(flux status.Status, text string) verdict {
	return verdict{flux, health.HealthStatusSuspended, text}
}

var expected = map[string]verdict{
	"never seen":          onItsWay("not seen this version"),
	"ready, then changed": onItsWay("not seen this version"),

	"ready":             well("2 of 2 replicas are ready"),
	"scaled to zero":    well("no mail is accepted"),
	"dead letters kept": well("dead letters are left"),

	"without recipients": well("all mail is refused with 550"),

	"just made":                     onItsWay("there are no pods yet"),
	"rolling out":                   onItsWay("1 of 2 replicas run what the resource says"),
	"scaling down to zero":          onItsWay("still there"),
	"changing its mode":             onItsWay("mode of delivery before"),
	"some replicas ready":           onItsWay("1 of 2 replicas are ready"),
	"no replica ready":              onItsWay("0 of 2 replicas are ready"),
	"draining":                      onItsWay("draining spool-support-2"),
	"draining before it scales up":  onItsWay("draining spool-support-2"),
	"a claim grows":                 onItsWay("Growing"),
	"waiting for a deletion":        onItsWay("WaitingForDeletion"),
	"the API server fails":          onItsWay("RequestFailed"),
	"the API server fails at first": onItsWay("RequestFailed"),

	// What may come by itself is waited for, because it may be in the same sync; but not for ever.
	"no Secret":                      onItsWay("SecretNotFound"),
	"no Secret any more":             onItsWay("SecretNotFound"),
	"no ConfigMap":                   onItsWay("ConfigMapNotFound"),
	"no Service":                     onItsWay("ServiceNotFound"),
	"no volume":                      onItsWay("ClaimPending"),
	"no right":                       onItsWay("Forbidden"),
	"no Secret for an hour":          broken("SecretNotFound"),
	"no Secret any more for an hour": broken("SecretNotFound"),
	"no ConfigMap for an hour":       broken("ConfigMapNotFound"),
	"no Service for an hour":         broken("ServiceNotFound"),
	"no volume for an hour":          broken("ClaimPending"),
	"no right for an hour":           broken("Forbidden"),

	"a claim cannot grow":                  broken("ClaimCannotGrow"),
	"a name is taken":                      broken("NameConflict"),
	"the daemon refuses its configuration": broken("InvalidConfiguration"),
	"pods do not start in time":            broken("ProgressDeadlineExceeded"),
	"an object is refused":                 broken("Refused"),
	"the resource contradicts itself":      broken("InvalidSpec"),
	"a Secret of the wrong type":           broken("WrongSecretType"),

	"route that nobody has seen":            onItsWay("not seen this version"),
	"route in force":                        well("in order"),
	"route partly in force":                 well("in order"),
	"route in conflict":                     broken("Conflict"),
	"route of no gateway":                   broken("NoMatchingParent"),
	"route without its Secret":              broken("SecretNotFound"),
	"route on its way":                      onItsWay("Pending"),
	"route in force at one of two gateways": broken("Conflict"),

	"suspended":              suspended(status.CurrentStatus, "spec.suspend is true"),
	"suspended without pods": suspended(status.InProgressStatus, "there are no pods yet"),
}

func TestBothToolsSeeEveryStatusAsItIs(t *testing.T) {
	checks := map[string]luaCheck{"MailLaser": healthCheck(t, "MailLaser"), "MailRoute": healthCheck(t, "MailRoute")}
	seen := map[string]bool{}
	for _, one := range resources(t) {
		seen[one.Name] = true
		t.Run(one.Name, func(t *testing.T) {
			want, known := expected[one.Name]
			if !known {
				t.Fatal("nothing is expected of it")
			}
			flux, err := fluxStatus(t, one.Resource)
			if err != nil {
				t.Fatal(err)
			}
			if flux.Status != want.flux {
				t.Errorf("Flux: %s (%s), not %s", flux.Status, flux.Message, want.flux)
			}
			argoCD, err := health.GetResourceHealth(one.Resource, checks[one.Resource.GetKind()])
			if err != nil {
				t.Fatal(err)
			}
			if argoCD.Status != want.argoCD || !strings.Contains(argoCD.Message, want.text) {
				t.Errorf("Argo CD: %s (%s), not %s (%s)", argoCD.Status, argoCD.Message, want.argoCD, want.text)
			}
		})
	}
	for name := range expected {
		if !seen[name] {
			t.Errorf("%q is not in %s", name, statuses)
		}
	}
}

// What Flux makes of a resource: by the expressions for its kind, or else by kstatus.
func fluxStatus(t *testing.T, resource *unstructured.Unstructured) (*status.Result, error) {
	t.Helper()
	checks := healthChecks(t)
	for _, check := range checks {
		if check.APIVersion == resource.GetAPIVersion() && check.Kind == resource.GetKind() {
			evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
			if err != nil {
				t.Fatal(err)
			}
			return evaluator.Evaluate(t.Context(), resource)
		}
	}
	return status.Compute(resource)
}

// The expressions that users take over into their Kustomizations.
func healthChecks(t *testing.T) []kustomize.CustomHealthCheck {
	t.Helper()
	text, err := os.ReadFile(fluxChecks)
	if err != nil {
		t.Fatal(err)
	}
	var kustomization struct {
		Spec struct {
			HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &kustomization); err != nil {
		t.Fatal(err)
	}
	if len(kustomization.Spec.HealthCheckExprs) != 1 {
		t.Fatalf("%s has to hold the expressions for routes, and nothing else", fluxChecks)
	}
	return kustomization.Spec.HealthCheckExprs
}

// What another controller says of a route is not the operator's, and neither well nor broken.
func TestEntriesOfOthersDoNotCount(t *testing.T) {
	for text, want := range map[string]status.Status{
		`[]`: status.InProgressStatus,
		`[{"controllerName": "example.com/other", "conditions": [
			{"type": "Accepted", "status": "False", "observedGeneration": 1}]}]`: status.InProgressStatus,
		`[{"controllerName": "mail-laser.dev/operator", "conditions": [
			{"type": "Accepted", "status": "True", "observedGeneration": 1},
			{"type": "ResolvedRefs", "status": "True", "observedGeneration": 1},
			{"type": "Programmed", "status": "True", "observedGeneration": 1}]},
		  {"controllerName": "example.com/other", "conditions": [
			{"type": "Accepted", "status": "False", "observedGeneration": 0}]}]`: status.CurrentStatus,
	} {
		var route unstructured.Unstructured
		resource := `{"apiVersion": "mail-laser.dev/v1alpha1", "kind": "MailRoute", "metadata": {"generation": 1}, "status": {"parents": ` + text + `}}`
		if err := json.Unmarshal([]byte(resource), &route); err != nil {
			t.Fatal(err)
		}
		got, err := fluxStatus(t, &route)
		if err != nil || got.Status != want {
			t.Errorf("%s: %v, %v, not %s", text, got, err, want)
		}
	}
}

// Not a status of the operator's, but nothing that may break the check.
func TestWhatIsNoStatusIsNotHealthy(t *testing.T) {
	check := healthCheck(t, "MailLaser")
	for _, text := range []string{
		`{"metadata": {"generation": 1}}`,
		`{"metadata": {"generation": 1}, "status": {}}`,
		`{"metadata": {"generation": 1}, "status": {"observedGeneration": 1}}`,
		`{"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "conditions": []}}`,
		`{"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "conditions": [
			{"type": "Ready", "status": "True", "reason": "Available", "message": "x"}]}}`,
	} {
		var resource unstructured.Unstructured
		if err := json.Unmarshal([]byte(`{"apiVersion": "mail-laser.dev/v1alpha1", "kind": "MailLaser", `+text[1:]), &resource); err != nil {
			t.Fatal(err)
		}
		got, err := health.GetResourceHealth(&resource, check)
		if err != nil || got.Status != health.HealthStatusProgressing {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

type named struct {
	Name     string                     `json:"name"`
	Resource *unstructured.Unstructured `json:"resource"`
}

func resources(t *testing.T) []named {
	t.Helper()
	text, err := os.ReadFile(statuses)
	if err != nil {
		t.Fatal(err)
	}
	var all []named
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// The script for a kind, as it is in the ConfigMap that users patch theirs with.
func healthCheck(t *testing.T, kind string) luaCheck {
	t.Helper()
	text, err := os.ReadFile(patch)
	if err != nil {
		t.Fatal(err)
	}
	var configMap struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Metadata   map[string]any    `json:"metadata"`
		Data       map[string]string `json:"data"`
	}
	if err := yaml.UnmarshalStrict(text, &configMap); err != nil {
		t.Fatal(err)
	}
	script := configMap.Data[keys+kind]
	if script == "" || len(configMap.Data) != 2 {
		t.Fatalf("%s has to hold a script for each of two kinds, and nothing else", patch)
	}
	return luaCheck{script}
}
