package manifests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

type schema = map[string]any

// schemas writes the schemas of Kubernetes, as it is in the test cluster, and of ours to a folder, one file for each kind.
// kubeconform would fetch the former from GitHub; they are in the sources of Kubernetes, too.
func schemas(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	var specification struct{ Definitions map[string]schema }
	read(t, filepath.Join(kubernetes(t), "api", "openapi-spec", "swagger.json"), json.Unmarshal, &specification)
	for name, definition := range specification.Definitions {
		specification.Definitions[name] = readable(name, definition)
	}
	for name, definition := range specification.Definitions {
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 {
			continue
		}
		needed := map[string]schema{}
		collect(definition, specification.Definitions, needed)
		needed[name] = definition
		kind := kinds[0].(schema)
		save(t, folder, kind["group"], kind["version"], kind["kind"], schema{"$ref": "#/definitions/" + name, "definitions": needed})
	}
	definitions, err := filepath.Glob(filepath.Join(deploy, "crd", "*.yaml"))
	if err != nil || len(definitions) != 2 {
		t.Fatal(definitions, err)
	}
	for _, definition := range definitions {
		var ours struct {
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct{ OpenAPIV3Schema schema }
				}
			}
		}
		read(t, definition, func(text []byte, to any) error { return yaml.Unmarshal(text, to) }, &ours)
		root := strict(ours.Spec.Versions[0].Schema.OpenAPIV3Schema).(schema)
		for _, every := range []string{"apiVersion", "kind", "metadata"} {
			root["properties"].(schema)[every] = schema{}
		}
		save(t, folder, ours.Spec.Group, ours.Spec.Versions[0].Name, ours.Spec.Names.Kind, root)
	}
	return folder
}

func save(t *testing.T, folder string, group, version, kind any, content schema) {
	t.Helper()
	// As kubeconform calls the group that has no name.
	if group == "" {
		group = version
	}
	text, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.ToLower(fmt.Sprintf("%s_%s_%s.json", group, version, kind))
	write(t, filepath.Join(folder, name), text)
}

// kubernetes is where Go keeps the sources that the test cluster is built from.
func kubernetes(t *testing.T) string {
	t.Helper()
	command := exec.Command("go", "mod", "download", "-json", "k8s.io/kubernetes")
	command.Dir = "../cluster/kube"
	output, err := command.Output()
	if err != nil {
		t.Fatalf("the sources of Kubernetes: %v", err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(output, &module); err != nil {
		t.Fatal(err)
	}
	return module.Dir
}

// readable is a definition as validators understand it: the specification says of what is a number or a string that it is
// a string.
func readable(name string, definition schema) schema {
	if strings.HasSuffix(name, ".intstr.IntOrString") || strings.HasSuffix(name, ".resource.Quantity") {
		return schema{"type": []string{"string", "number"}}
	}
	return strict(definition).(schema)
}

// strict lets nothing pass that a schema does not know. Below "properties" are fields, whatever they are called.
func strict(node any) any {
	switch node := node.(type) {
	case schema:
		fields, _ := node["properties"].(schema)
		for name, field := range fields {
			fields[name] = strict(field)
		}
		for _, inner := range []string{"items", "additionalProperties"} {
			if node[inner] != nil {
				node[inner] = strict(node[inner])
			}
		}
		if fields != nil && node["additionalProperties"] == nil {
			node["additionalProperties"] = false
		}
	}
	return node
}

// collect finds the definitions that one refers to, and those that they refer to.
func collect(node any, all, needed map[string]schema) {
	switch node := node.(type) {
	case schema:
		if reference, is := node["$ref"].(string); is {
			name := strings.TrimPrefix(reference, "#/definitions/")
			if needed[name] == nil {
				needed[name] = all[name]
				collect(all[name], all, needed)
			}
		}
		for _, inner := range node {
			collect(inner, all, needed)
		}
	case []any:
		for _, inner := range node {
			collect(inner, all, needed)
		}
	}
}

func read(t *testing.T, path string, parse func([]byte, any) error, to any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = parse(text, to)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
