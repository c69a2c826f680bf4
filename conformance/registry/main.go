// Command registry sends the steps of steps.json to upstream's kube-apiserver, in order, and writes its answers beside
// them for the registry's replay test. Run it from conformance/: go run ./registry [-bin DIR]; with -managed, answers
// keep their managed fields (apply.json is recorded so).
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"

	"ironclad.dev/conformance/upstream"
)

type step struct {
	Verb    string            `json:"verb"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    json.RawMessage   `json:"body,omitempty"`
	Text    string            `json:"text,omitempty"`
	Code    int               `json:"code"`
	Answer  json.RawMessage   `json:"answer"`
	Warning []string          `json:"warning,omitempty"`
}

var keepManaged bool

var methods = map[string]string{
	"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE",
	"deletecollection": "DELETE",
}

func main() {
	bin := flag.String("bin", "", "directory with kube-apiserver and etcd; built when empty")
	in := flag.String("steps", "registry/steps.json", "what to send")
	out := flag.String("out", "../apiserver/src/registry/tests/recorded.json", "where the answers go")
	flag.BoolVar(&keepManaged, "managed", false, "keep metadata.managedFields in the answers")
	flag.Parse()
	if err := record(*bin, *in, *out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func record(bin, in, out string) error {
	text, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	var steps []step
	if err := json.Unmarshal(text, &steps); err != nil {
		return fmt.Errorf("read %s: %w", in, err)
	}
	server, err := upstream.Start(context.Background(), bin, "--disable-admission-plugins=ServiceAccount,Priority,DefaultTolerationSeconds,StorageObjectInUseProtection,TaintNodesByCondition,DefaultStorageClass,DefaultIngressClass")
	if err != nil {
		return err
	}
	defer server.Stop()
	for i := range steps {
		if err := send(server, &steps[i]); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	lines := make([]string, 0, len(steps))
	for _, one := range steps {
		line, err := json.Marshal(one)
		if err != nil {
			return err
		}
		lines = append(lines, string(line))
	}
	return os.WriteFile(out, []byte("[\n"+strings.Join(lines, ",\n")+"\n]\n"), 0o644)
}

func send(server *upstream.Server, one *step) error {
	body := one.Text
	if len(one.Body) > 0 {
		body = string(one.Body)
	}
	answer, err := server.Do(upstream.Request{
		Method: methods[one.Verb], Path: one.Path, Header: one.Headers, Body: []byte(body),
	})
	if err != nil {
		return err
	}
	one.Code = answer.Status
	one.Warning = answer.Header.Values("Warning")
	one.Answer = slim(answer.Body)
	if !json.Valid(answer.Body) {
		one.Answer, err = json.Marshal(string(answer.Body))
	}
	return err
}

// slim leaves out what the replay does not compare: the prose of table columns, and mostly who manages which field.
func slim(text []byte) []byte {
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return text
	}
	drop(tree)
	short, err := json.Marshal(tree)
	if err != nil {
		return text
	}
	return short
}

func drop(value any) {
	switch value := value.(type) {
	case map[string]any:
		if !keepManaged {
			delete(value, "managedFields")
		}
		if _, isColumn := value["priority"]; isColumn {
			delete(value, "description")
		}
		for _, inner := range value {
			drop(inner)
		}
	case []any:
		for _, inner := range value {
			drop(inner)
		}
	}
}
