// Package manifests tests what deploy/ and the charts render with kubeconform and kube-score.
package manifests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const deploy = "../../deploy"

// exceptions are the checks of kube-score that do not hold for the operator, and why they need not.
var exceptions = map[string]string{
	"container-resources":                           "no limit of CPU: it is idle but for moments, and to be throttled in these is to lose the Lease",
	"container-ephemeral-storage-request-and-limit": "it writes no file: its root file system is read-only, and it has no volume",
	"container-image-pull-policy":                   "a version's image does not change; the values of the chart can say Always",
	"pod-networkpolicy":                             "whom it may talk to, the API server and Prometheus, has other addresses in each cluster",
}

// renderings are all that is installed, in each way.
func renderings(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"kustomize": ofCharts(t, "kustomize", "build", deploy)}
	for _, chart := range []string{"mail-laser-crds", "mail-laser-operator"} {
		all[chart] = ofCharts(t, "helm", "template", chart, filepath.Join(deploy, "helm", chart), "--namespace", "mail-laser-system")
	}
	return all
}

func TestAllFitsTheSchemas(t *testing.T) {
	schemas := schemas(t)
	files := t.TempDir()
	for name, text := range renderings(t) {
		write(t, filepath.Join(files, name+".yaml"), []byte(text))
	}
	said, err := conform(schemas, files, filepath.Join(deploy, "samples", "valid"))
	if err != nil {
		t.Errorf("%v:\n%s", err, said)
	}
	if strings.Contains(said, "Valid: 0") || !strings.Contains(said, "Skipped: 0") {
		t.Errorf("not all was looked at: %s", said)
	}
}

func TestWhatDoesNotFitIsFound(t *testing.T) {
	schemas := schemas(t)
	for _, text := range []string{
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replica: 1, selector: {}, template: {}}\n",
		"apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: a}\nspec: {maxUnavailable: [1]}\n",
		"apiVersion: mail-laser.dev/v1alpha1\nkind: MailLaser\nmetadata: {name: a}\nspec: {replicas: 1001}\n",
		"apiVersion: mail-laser.dev/v1alpha1\nkind: MailLaser\nmetadata: {name: a}\nspec: {replica: 1}\n",
	} {
		file := filepath.Join(t.TempDir(), "a.yaml")
		write(t, file, []byte(text))
		if said, err := conform(schemas, file); err == nil {
			t.Errorf("%s is taken: %s", text, said)
		}
	}
}

func TestKubeScoreFindsNothingThatIsNotExplained(t *testing.T) {
	needed := map[string]bool{}
	for name, text := range renderings(t) {
		for _, found := range score(t, text) {
			if exceptions[found.check] == "" {
				t.Errorf("%s: %s: %s", name, found.check, found.what)
			}
			needed[found.check] = true
		}
	}
	for check := range exceptions {
		if !needed[check] {
			t.Errorf("%s holds by now: no exception is needed", check)
		}
	}
}

type finding struct{ check, what string }

// score is what kube-score thinks could be better.
func score(t *testing.T, text string) []finding {
	t.Helper()
	command := exec.Command("go", "tool", "kube-score", "score", "--output-format", "json", "--kubernetes-version", "v1.31", "-")
	command.Stdin = strings.NewReader(text)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	// It ends with 1 when there is something to say.
	output, _ := command.Output()
	var objects []struct {
		ObjectName string `json:"object_name"`
		Checks     []struct {
			Check    struct{ ID string }
			Grade    int
			Skipped  bool
			Comments []struct{ Path, Summary string }
		}
	}
	// Of a definition alone it has nothing to say.
	if err := json.Unmarshal(output, &objects); err != nil {
		t.Fatalf("kube-score says nothing: %v, %s%s", err, output, complaints.String())
	}
	var findings []finding
	for _, object := range objects {
		for _, check := range object.Checks {
			const allWell = 10
			if check.Grade < allWell && !check.Skipped {
				findings = append(findings, finding{check.Check.ID, fmt.Sprint(object.ObjectName, check.Comments)})
			}
		}
	}
	return findings
}

func conform(schemas string, paths ...string) (string, error) {
	location := filepath.Join(schemas, "{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json")
	arguments := append([]string{"tool", "kubeconform", "-strict", "-summary", "-schema-location", location}, paths...)
	output, err := exec.Command("go", arguments...).CombinedOutput()
	return string(output), err
}

// ofCharts runs a tool of the module that has helm and kustomize, which lies beside this one.
func ofCharts(t *testing.T, arguments ...string) string {
	t.Helper()
	command := exec.Command("go", append([]string{"tool"}, arguments...)...)
	command.Dir = "../charts"
	var complaints bytes.Buffer
	command.Stderr = &complaints
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(arguments, " "), err, complaints.String())
	}
	return string(output)
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
