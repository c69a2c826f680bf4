package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"ironclad.dev/conformance/upstream"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The types below are the shape of resources.json.
type resourceTable struct {
	Groups []groupRow `json:"groups"`
	// Descriptions of columns, which the columns name by index.
	Descriptions []string `json:"descriptions"`
}

type groupRow struct {
	Name     string       `json:"name"`
	Versions []versionRow `json:"versions"`
}

type versionRow struct {
	Version   string        `json:"version"`
	Resources []resourceRow `json:"resources"`
}

type resourceRow struct {
	Name        string   `json:"name"`
	Kind        kindRow  `json:"kind"`
	Singular    string   `json:"singular"`
	Namespaced  bool     `json:"namespaced,omitempty"`
	Verbs       []string `json:"verbs"`
	ShortNames  []string `json:"shortNames,omitempty"`
	Categories  []string `json:"categories,omitempty"`
	StorageHash string   `json:"storageHash,omitempty"`
	Storage     *kindRow `json:"storage,omitempty"`
	List        string   `json:"list,omitempty"`
	// ReturnsDeleted is set when a deletion answers the object instead of a Status.
	ReturnsDeleted bool `json:"returnsDeleted,omitempty"`
	// Deprecation is the warning that every request gets.
	Deprecation  string           `json:"deprecation,omitempty"`
	Subresources []subresourceRow `json:"subresources,omitempty"`
	Columns      [][]any          `json:"columns,omitempty"`
}

type subresourceRow struct {
	Name    string    `json:"name"`
	Kind    kindRow   `json:"kind"`
	Verbs   []string  `json:"verbs"`
	Accepts []kindRow `json:"accepts,omitempty"`
	Columns [][]any   `json:"columns,omitempty"`
}

// kindRow is group, version, kind.
type kindRow [3]string

func rowOfKind(gvk metav1.GroupVersionKind) kindRow { return kindRow{gvk.Group, gvk.Version, gvk.Kind} }

type recorder struct {
	server *upstream.Server
	scheme *runtime.Scheme
	out    string
	// descriptions maps the text of a column's description to its index.
	descriptions map[string]int
	texts        []string
}

func record(out, bin string, s *runtime.Scheme) error {
	server, err := upstream.Start(context.Background(), bin)
	if err != nil {
		return err
	}
	defer server.Stop()
	r := &recorder{server: server, scheme: s, out: out, descriptions: map[string]int{}}
	table, err := r.resources()
	if err != nil {
		return err
	}
	if err := r.objects(table); err != nil {
		return err
	}
	if err := r.scaleColumns(table); err != nil {
		return err
	}
	table.Descriptions = r.texts
	return r.writeLines("resources.json", table)
}

func (r *recorder) get(path, accept string, into any) error {
	answer, err := r.server.Do(upstream.Request{Method: "GET", Path: path, Header: map[string]string{"Accept": accept}})
	if err != nil {
		return err
	}
	if answer.Status != 200 {
		return fmt.Errorf("GET %s: %d %s", path, answer.Status, answer.Body)
	}
	return json.Unmarshal(answer.Body, into)
}

const aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

func (r *recorder) resources() (*resourceTable, error) {
	table := &resourceTable{}
	for _, root := range []string{"/api", "/apis"} {
		var list apidiscoveryv2.APIGroupDiscoveryList
		if err := r.get(root, aggregated, &list); err != nil {
			return nil, err
		}
		for _, group := range list.Items {
			row := groupRow{Name: group.Name}
			for _, version := range group.Versions {
				versionRow, err := r.version(group.Name, version)
				if err != nil {
					return nil, err
				}
				row.Versions = append(row.Versions, versionRow)
			}
			table.Groups = append(table.Groups, row)
		}
	}
	return table, nil
}

func groupPath(group, version string) string {
	if group == "" {
		return "/api/" + version
	}
	return "/apis/" + group + "/" + version
}

func (r *recorder) version(group string, version apidiscoveryv2.APIVersionDiscovery) (versionRow, error) {
	row := versionRow{Version: version.Version}
	var legacy metav1.APIResourceList
	if err := r.get(groupPath(group, version.Version), "application/json", &legacy); err != nil {
		return row, err
	}
	returned, err := r.returnedKinds(group, version.Version)
	if err != nil {
		return row, err
	}
	hashes := map[string]string{}
	for _, resource := range legacy.APIResources {
		hashes[resource.Name] = resource.StorageVersionHash
	}
	for _, resource := range version.Resources {
		out := resourceRow{
			Name: resource.Resource, Kind: rowOfKind(*resource.ResponseKind), Singular: resource.SingularResource,
			Namespaced: resource.Scope == apidiscoveryv2.ScopeNamespace, Verbs: resource.Verbs,
			ShortNames: resource.ShortNames, Categories: resource.Categories, StorageHash: hashes[resource.Resource],
		}
		out.Storage = r.storage(out)
		out.ReturnsDeleted = returned[out.Kind[2]]
		listKind := schema.GroupVersionKind{Group: group, Version: version.Version, Kind: out.Kind[2] + "List"}
		if r.scheme.Recognizes(listKind) {
			out.List = listKind.Kind
		}
		for _, sub := range resource.Subresources {
			out.Subresources = append(out.Subresources, subresource(sub))
		}
		if has(out.Verbs, "list") {
			columns, err := r.columns(groupPath(group, version.Version) + "/" + out.Name)
			if err != nil {
				return row, err
			}
			out.Columns = columns
			if out.Deprecation, err = r.warning(groupPath(group, version.Version) + "/" + out.Name); err != nil {
				return row, err
			}
		}
		row.Resources = append(row.Resources, out)
	}
	return row, nil
}

// returnedKinds reads from the OpenAPI document which kinds a deletion answers.
func (r *recorder) returnedKinds(group, version string) (map[string]bool, error) {
	type operation struct {
		Action    string                  `json:"x-kubernetes-action"`
		Kind      metav1.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
		Responses map[string]struct {
			Content map[string]struct {
				Schema struct {
					Ref string `json:"$ref"`
				} `json:"schema"`
			} `json:"content"`
		} `json:"responses"`
	}
	var document struct {
		Paths map[string]struct {
			Delete operation `json:"delete"`
		} `json:"paths"`
	}
	if err := r.get("/openapi/v3"+groupPath(group, version), "application/json", &document); err != nil {
		return nil, err
	}
	returned := map[string]bool{}
	for _, path := range document.Paths {
		ref := path.Delete.Responses["200"].Content["application/json"].Schema.Ref
		if path.Delete.Action == "delete" && !strings.HasSuffix(ref, ".meta.v1.Status") {
			returned[path.Delete.Kind.Kind] = true
		}
	}
	return returned, nil
}

func subresource(sub apidiscoveryv2.APISubresourceDiscovery) subresourceRow {
	row := subresourceRow{Name: sub.Subresource, Verbs: sub.Verbs}
	if sub.ResponseKind != nil {
		row.Kind = rowOfKind(*sub.ResponseKind)
	}
	for _, accepted := range sub.AcceptedTypes {
		row.Accepts = append(row.Accepts, rowOfKind(accepted))
	}
	return row
}

// storage finds the version whose hash the server published; discovery names the hash only.
func (r *recorder) storage(row resourceRow) *kindRow {
	if row.StorageHash == "" {
		return nil
	}
	candidates := []kindRow{{"apiextensions.k8s.io", "v1beta1", row.Kind[2]}} // no longer a published Go type
	for gvk := range r.scheme.AllKnownTypes() {
		if gvk.Kind == row.Kind[2] {
			candidates = append(candidates, kindRow{gvk.Group, gvk.Version, gvk.Kind})
		}
	}
	for _, gvk := range candidates {
		sum := sha256.Sum256([]byte(strings.Join(gvk[:], "/")))
		if base64.StdEncoding.EncodeToString(sum[:8]) == row.StorageHash {
			return &gvk
		}
	}
	fmt.Fprintln(os.Stderr, "note: no version has the storage hash of", row.Name)
	return nil
}

func has(list []string, want string) bool {
	for _, item := range list {
		if item == want {
			return true
		}
	}
	return false
}

func (r *recorder) columns(path string) ([][]any, error) {
	var table metav1.Table
	if err := r.get(path, "application/json;as=Table;v=v1;g=meta.k8s.io", &table); err != nil {
		return nil, err
	}
	var columns [][]any
	for _, column := range table.ColumnDefinitions {
		columns = append(columns, []any{column.Name, column.Type, column.Format, column.Priority, r.description(column.Description)})
	}
	return columns, nil
}

// warning reads the text of the Warning header that a list carries.
func (r *recorder) warning(path string) (string, error) {
	answer, err := r.server.Do(upstream.Request{Method: "GET", Path: path})
	if err != nil {
		return "", err
	}
	header := answer.Header.Get("Warning")
	return strings.TrimSuffix(strings.TrimPrefix(header, `299 - "`), `"`), nil
}

func (r *recorder) description(text string) int {
	index, known := r.descriptions[text]
	if !known {
		index = len(r.texts)
		r.descriptions[text] = index
		r.texts = append(r.texts, text)
	}
	return index
}

// scaleColumns creates one workload, since a scale can be read only where one exists.
func (r *recorder) scaleColumns(table *resourceTable) error {
	body := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"probe"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","image":"a"}]}}}}`
	path := "/apis/apps/v1/namespaces/default/deployments"
	answer, err := r.server.Do(upstream.Request{Method: "POST", Path: path, Body: []byte(body), Header: map[string]string{"Content-Type": "application/json"}})
	if err != nil || answer.Status != 201 {
		return fmt.Errorf("create deployment: %v %v", err, answer)
	}
	columns, err := r.columns(path + "/probe/scale")
	if err != nil {
		return err
	}
	for _, group := range table.Groups {
		for _, version := range group.Versions {
			for _, resource := range version.Resources {
				for i := range resource.Subresources {
					if resource.Subresources[i].Name == "scale" {
						resource.Subresources[i].Columns = columns
					}
				}
			}
		}
	}
	return nil
}

// objects records what a fresh server holds, in three files.
func (r *recorder) objects(table *resourceTable) error {
	files := map[string][]any{}
	for _, group := range table.Groups {
		version := group.Versions[0]
		for _, resource := range version.Resources {
			if !has(resource.Verbs, "list") || resource.Name == "events" || resource.Name == "componentstatuses" {
				continue
			}
			items, err := r.items(group.Name, version.Version, resource)
			if err != nil {
				return err
			}
			file := fileOf(group.Name)
			files[file] = append(files[file], items...)
		}
	}
	for name, items := range files {
		if err := r.writeLines(name, items); err != nil {
			return err
		}
	}
	return nil
}

func fileOf(group string) string {
	switch group {
	case "rbac.authorization.k8s.io":
		return "rbac.json"
	case "flowcontrol.apiserver.k8s.io":
		return "flowcontrol.json"
	}
	return "bootstrap.json"
}

func (r *recorder) items(group, version string, resource resourceRow) ([]any, error) {
	var list struct {
		Items []map[string]any `json:"items"`
	}
	if err := r.get(groupPath(group, version)+"/"+resource.Name, "application/json", &list); err != nil {
		return nil, err
	}
	var items []any
	for _, item := range list.Items {
		metadata := item["metadata"].(map[string]any)
		if resource.Name == "leases" || resource.Name == "configmaps" {
			continue // they hold this server's own identity, certificates and start date
		}
		for _, volatile := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"} {
			delete(metadata, volatile)
		}
		item["kind"] = resource.Kind[2]
		item["apiVersion"] = strings.TrimPrefix(group+"/"+version, "/")
		stripTimes(item)
		if metadata["name"] == "kubernetes" && resource.Name == "services" {
			port := item["spec"].(map[string]any)["ports"].([]any)[0].(map[string]any)
			port["targetPort"] = 6443 // the recorded server's own port was a free one
		}
		items = append(items, item)
	}
	sort.SliceStable(items, func(a, b int) bool { return sortKey(items[a]) < sortKey(items[b]) })
	return items, nil
}

func stripTimes(value any) {
	switch value := value.(type) {
	case map[string]any:
		delete(value, "lastTransitionTime")
		for _, inner := range value {
			stripTimes(inner)
		}
	case []any:
		for _, inner := range value {
			stripTimes(inner)
		}
	}
}

func sortKey(item any) string {
	metadata := item.(map[string]any)["metadata"].(map[string]any)
	return fmt.Sprint(metadata["namespace"], "/", metadata["name"])
}

// writeLines writes JSON with one object or resource a line, which keeps the file small and its diffs readable.
func (r *recorder) writeLines(name string, value any) error {
	var text strings.Builder
	switch value := value.(type) {
	case []any:
		text.WriteString("[\n")
		for i, item := range value {
			text.WriteString(compactJSON(item))
			if i < len(value)-1 {
				text.WriteString(",")
			}
			text.WriteString("\n")
		}
		text.WriteString("]\n")
	case *resourceTable:
		lines := strings.ReplaceAll(compactJSON(value), `{"name":`, "\n{\"name\":")
		text.WriteString(strings.ReplaceAll(lines, `"descriptions":`, "\n\"descriptions\":") + "\n")
	}
	return os.WriteFile(filepath.Join(r.out, name), []byte(text.String()), 0o644)
}
