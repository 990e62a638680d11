// Package charts tests deploy/helm with the real helm, against what the real kustomize makes of deploy/.
package charts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

const (
	deploy    = "../../deploy"
	operator  = "mail-laser-operator"
	crds      = "mail-laser-crds"
	namespace = "mail-laser-system"
)

var charts = []string{crds, operator}

type object = map[string]any

func TestChartsInstallWhatKustomizeInstalls(t *testing.T) {
	for folder, values := range map[string][]string{
		deploy:          nil,
		"../namespaced": flags(`watchNamespaces=["helpdesk","sales"]`),
	} {
		want := objects(t, tool(t, "kustomize", "build", folder))
		// Helm makes the namespace by itself, if it is told to.
		delete(want, "Namespace/"+namespace)
		got := map[string]object{}
		for chart, arguments := range map[string][]string{crds: {"--set", "keep=false"}, operator: values} {
			for key, one := range objects(t, template(t, chart, arguments...)) {
				got[key] = one
			}
		}
		for key := range want {
			if !reflect.DeepEqual(got[key], want[key]) {
				t.Errorf("%s: %s differs:\nhelm      %s\nkustomize %s", folder, key, asJSON(got[key]), asJSON(want[key]))
			}
		}
		for key := range got {
			if want[key] == nil {
				t.Errorf("%s: only the charts have %s", folder, key)
			}
		}
	}
}

func TestAListOfNamespacesTakesNoRightForTheCluster(t *testing.T) {
	for key := range objects(t, template(t, operator, flags(`watchNamespaces=["helpdesk"]`)...)) {
		if strings.HasPrefix(key, "Cluster") {
			t.Errorf("there is %s", key)
		}
	}
}

// The overlay that docs/install.md shows: every image comes from the registry.
func TestTheOverlayOfTheDocumentationTakesAllImagesFromARegistry(t *testing.T) {
	_, rest, _ := strings.Cut(read(t, "../../docs/install.md"), "```yaml\napiVersion: kustomize.config.k8s.io")
	overlay, _, found := strings.Cut("apiVersion: kustomize.config.k8s.io"+rest, "```")
	if !found {
		t.Fatal("docs/install.md shows no overlay")
	}
	folder := t.TempDir()
	absolute, err := filepath.Abs(deploy)
	if err == nil {
		err = os.Symlink(absolute, filepath.Join(folder, "deploy"))
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(folder, "overlay"), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "overlay", "kustomization.yaml"), []byte(overlay), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	built := tool(t, "kustomize", "build", filepath.Join(folder, "overlay"))
	if strings.Contains(built, "localhost/") || strings.Count(built, "registry.example.com/") != 2 {
		t.Errorf("not two images of the registry in:\n%s", built)
	}
}

func TestAnUninstallKeepsTheDefinition(t *testing.T) {
	bare := objects(t, template(t, crds, "--set", "keep=false"))
	kept := objects(t, template(t, crds))
	for _, key := range []string{"CustomResourceDefinition/maillasers.mail-laser.dev", "CustomResourceDefinition/mailroutes.mail-laser.dev"} {
		metadata := kept[key]["metadata"].(object)
		if policy := metadata["annotations"].(object)["helm.sh/resource-policy"]; policy != "keep" {
			t.Errorf("resource-policy of %s is %v", key, policy)
		}
		delete(metadata, "annotations")
		if !reflect.DeepEqual(kept[key], bare[key]) {
			t.Errorf("more of %s differs than the annotation", key)
		}
	}
}

func TestGeneratedFilesAreUpToDate(t *testing.T) {
	for _, name := range []string{"mail-laser.dev_maillasers.yaml", "mail-laser.dev_mailroutes.yaml"} {
		if read(t, deploy, "helm", crds, "files", name) != read(t, deploy, "crd", name) {
			t.Errorf("%s of %s is stale: run `make generate`", name, crds)
		}
	}
	_, rules, _ := strings.Cut(read(t, deploy, "rbac.yaml"), "\nrules:\n")
	rules, _, _ = strings.Cut("rules:\n"+rules, "---\n")
	if read(t, deploy, "helm", operator, "files", "rules.yaml") != rules {
		t.Errorf("rules.yaml of %s is stale: run `make generate`", operator)
	}
	_, role, _ := strings.Cut(read(t, deploy, "rbac.yaml"), "\n---\n")
	role = regexp.MustCompile(`(?s)# For the whole cluster alone.*?\n---`).ReplaceAllString(role, "---")
	if read(t, deploy, "namespaced", "role", "role.yaml") != strings.ReplaceAll(role, "ClusterRole", "Role") {
		t.Error("role.yaml of deploy/namespaced is stale: run `make generate`")
	}
}

func TestChartsHaveTheVersionOfTheProject(t *testing.T) {
	version := regexp.MustCompile(`(?m)^version = "(.*)"$`).FindStringSubmatch(read(t, "../../Cargo.toml"))[1]
	for _, chart := range charts {
		var about struct{ Version, AppVersion string }
		parse(t, read(t, deploy, "helm", chart, "Chart.yaml"), &about)
		if about.Version != version || about.AppVersion != version {
			t.Errorf("%s is %s of %s, not %s", chart, about.Version, about.AppVersion, version)
		}
	}
}

func TestChartsAreWithoutReproach(t *testing.T) {
	for _, chart := range charts {
		tool(t, "helm", "lint", "--strict", filepath.Join(deploy, "helm", chart))
	}
}

// The README's table, values.yaml and the schema name the same values, with the same defaults and explanations.
func TestEveryValueIsDocumented(t *testing.T) {
	for _, chart := range charts {
		var values, schema object
		parse(t, read(t, deploy, "helm", chart, "values.yaml"), &values)
		parse(t, read(t, deploy, "helm", chart, "values.schema.json"), &schema)
		var want []string
		rows(t, "", values, schema, &want)
		var got []string
		for _, line := range strings.Split(read(t, deploy, "helm", chart, "README.md"), "\n") {
			if strings.HasPrefix(line, "| `") {
				got = append(got, line)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Errorf("the table of %s has to have these rows:\n%s", chart, strings.Join(want, "\n"))
		}
	}
}

// rows are those of a README's table, for the values that a schema describes.
func rows(t *testing.T, prefix string, values, schema object, all *[]string) {
	t.Helper()
	properties := schema["properties"].(object)
	for name := range values {
		if properties[name] == nil {
			t.Errorf("%s%s is not in the schema", prefix, name)
		}
	}
	for name, property := range properties {
		property := property.(object)
		value, known := values[name]
		switch {
		// Helm's own: what a chart above this one says to all.
		case prefix == "" && name == "global":
		case !known:
			t.Errorf("%s%s is not in values.yaml", prefix, name)
		case property["properties"] != nil:
			rows(t, prefix+name+".", value.(object), property, all)
		default:
			text := asJSON(value)
			if said, ok := value.(string); ok && said != "" {
				text = said
			}
			*all = append(*all, fmt.Sprintf("| `%s%s` | `%s` | %s |", prefix, name, text, property["description"]))
		}
	}
}

// everything has another value for each, and where it has to end up.
var everything = []struct {
	set  string
	path string
	want string
}{
	{`image.repository=r.example.com/operator`, "containers.0.image", `"r.example.com/operator:dev"`},
	{`image.tag=1.2.3`, "containers.0.image", `"localhost/mail-laser-operator:1.2.3"`},
	{`image.pullPolicy=Always`, "containers.0.imagePullPolicy", `"Always"`},
	{`imagePullSecrets=[{"name":"a"}]`, "imagePullSecrets", `[{"name":"a"}]`},
	{`daemonImage=r.example.com/daemon:1`, "containers.0.env", `[{"name":"MAIL_LASER_IMAGE","value":"r.example.com/daemon:1"}]`},
	{`watchNamespaces=["a","b"]`, "containers.0.env.1", `{"name":"MAIL_LASER_OPERATOR_NAMESPACES","value":"a,b"}`},
	{`watchSelector="team in (a, b)"`, "containers.0.env.1", `{"name":"MAIL_LASER_OPERATOR_SELECTOR","value":"team in (a, b)"}`},
	{`logFormat=json`, "containers.0.env.1", `{"name":"LOG_FORMAT","value":"json"}`},
	{`logLevel=debug`, "containers.0.env.1", `{"name":"RUST_LOG","value":"debug"}`},
	{`resources={"limits":{"memory":"1Gi"}}`, "containers.0.resources.limits", `{"memory":"1Gi"}`},
	{`podLabels={"a":"b"}`, "metadata.labels", `{"a":"b","app.kubernetes.io/name":"mail-laser-operator"}`},
	{`podAnnotations={"a":"b"}`, "metadata.annotations", `{"a":"b"}`},
	{`nodeSelector={"a":"b"}`, "nodeSelector", `{"a":"b"}`},
	{`tolerations=[{"key":"a","operator":"Exists"}]`, "tolerations", `[{"key":"a","operator":"Exists"}]`},
	{`affinity={"nodeAffinity":{}}`, "affinity", `{"nodeAffinity":{}}`},
	{`priorityClassName=high`, "priorityClassName", `"high"`},
}

func TestEveryValueGoesWhereItBelongs(t *testing.T) {
	var all []string
	for _, one := range everything {
		all = append(all, flags(one.set)...)
		found := at(pod(t, flags(one.set)...), one.path)
		if asJSON(found) != one.want {
			t.Errorf("%s: %s is %s, not %s", one.set, one.path, asJSON(found), one.want)
		}
	}
	pod(t, all...)
	readme := read(t, deploy, "helm", operator, "README.md")
	if strings.Count(readme, "\n| `") != len(everything) {
		t.Error("a value of the README is not tried here")
	}
}

func TestTheSchemaRefusesWhatCannotWork(t *testing.T) {
	for _, set := range []string{
		"replicas=2",
		"image.name=x",
		"image.tag=",
		"image.tag=a b",
		"image.repository=",
		"image.pullPolicy=Sometimes",
		"imagePullSecrets=[\"a\"]",
		"daemonImage=",
		"daemonImage=1",
		`watchNamespaces="a"`,
		`watchNamespaces=["A"]`,
		`watchNamespaces=["a","a"]`,
		"logFormat=xml",
		`podLabels={"app.kubernetes.io/name":"x"}`,
		`podAnnotations={"a":1}`,
	} {
		arguments := append([]string{"tool", "helm", "template", "x", filepath.Join(deploy, "helm", operator)}, flags(set)...)
		output, err := exec.Command("go", arguments...).CombinedOutput()
		if err == nil || !bytes.Contains(output, []byte("values don't meet the specifications")) {
			t.Errorf("%s: %v, %s", set, err, output)
		}
	}
}

func flags(set string) []string {
	name, value, _ := strings.Cut(set, "=")
	if json.Valid([]byte(value)) {
		return []string{"--set-json", name + "=" + value}
	}
	return []string{"--set-string", name + "=" + value}
}

// pod is the template of the operator's pods: its spec, and its metadata beside it.
func pod(t *testing.T, arguments ...string) object {
	t.Helper()
	deployment := objects(t, template(t, operator, arguments...))["Deployment/"+operator]
	if err := yaml.UnmarshalStrict([]byte(asJSON(deployment)), &appsv1.Deployment{}); err != nil {
		t.Fatal(err)
	}
	all := at(deployment, "spec.template").(object)
	result := all["spec"].(object)
	result["metadata"] = all["metadata"]
	return result
}

// at follows a path of keys and numbers; nil where it leads nowhere.
func at(from any, path string) any {
	for _, step := range strings.Split(path, ".") {
		switch inner := from.(type) {
		case object:
			from = inner[step]
		case []any:
			var number int
			if _, err := fmt.Sscan(step, &number); err != nil || number >= len(inner) {
				return nil
			}
			from = inner[number]
		}
	}
	return from
}

func template(t *testing.T, chart string, arguments ...string) string {
	t.Helper()
	all := []string{"template", chart, filepath.Join(deploy, "helm", chart), "--namespace", namespace}
	return tool(t, "helm", append(all, arguments...)...)
}

// tool runs one of the tools of go.mod, which Go builds when it is missing.
func tool(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	command := exec.Command("go", append([]string{"tool", name}, arguments...)...)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(arguments, " "), err, output, complaints.String())
	}
	return string(output)
}

// objects of a stream of YAML, by kind and name, and by namespace where that is not the operator's.
func objects(t *testing.T, text string) map[string]object {
	t.Helper()
	all := map[string]object{}
	for _, document := range regexp.MustCompile(`(?m)^---.*$`).Split(text, -1) {
		var one object
		parse(t, document, &one)
		if one == nil {
			continue
		}
		metadata := one["metadata"].(object)
		key := fmt.Sprintf("%s/%s", one["kind"], metadata["name"])
		if in := metadata["namespace"]; in != nil && in != namespace {
			key = fmt.Sprintf("%s/%s/%s", one["kind"], in, metadata["name"])
		}
		if all[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		all[key] = one
	}
	return all
}

func parse(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func asJSON(value any) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(text.String())
}
