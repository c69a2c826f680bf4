package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"sort"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	admissionv1beta1 "k8s.io/api/admission/v1beta1"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apidiscoveryv2beta1 "k8s.io/api/apidiscovery/v2beta1"
	imagepolicyv1alpha1 "k8s.io/api/imagepolicy/v1alpha1"
	lifecyclev1alpha1 "k8s.io/api/lifecycle/v1alpha1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

// special names the Go types that write their own JSON; everything else follows its Go kind.
var special = map[reflect.Type]string{
	reflect.TypeOf(resource.Quantity{}):                            "quantity",
	reflect.TypeOf(intstr.IntOrString{}):                           "intorstring",
	reflect.TypeOf(metav1.Time{}):                                  "time",
	reflect.TypeOf(metav1.MicroTime{}):                             "microtime",
	reflect.TypeOf(metav1.Duration{}):                              "duration",
	reflect.TypeOf(metav1.FieldsV1{}):                              "fieldsv1",
	reflect.TypeOf(runtime.RawExtension{}):                         "raw",
	reflect.TypeOf(apiextensionsv1.JSON{}):                         "json",
	reflect.TypeOf(apiextensionsv1.JSONSchemaPropsOrArray{}):       "propsorarray",
	reflect.TypeOf(apiextensionsv1.JSONSchemaPropsOrBool{}):        "propsorbool",
	reflect.TypeOf(apiextensionsv1.JSONSchemaPropsOrStringArray{}): "propsorstrings",
}

type marshaler interface{ Marshal() ([]byte, error) }

var (
	jsonMarshalerType = reflect.TypeOf((*json.Marshaler)(nil)).Elem()
	pbMarshalerType   = reflect.TypeOf((*marshaler)(nil)).Elem()
)

// typeTable collects every type that a kind reaches.
type typeTable struct {
	out         map[string]*typeEntry
	definitions map[string]common.OpenAPIDefinition
	problems    []string
}

type typeEntry struct {
	id     string
	goName string
	attrs  []string
	kinds  []string
	fields []string
}

func builtinScheme() *runtime.Scheme {
	for _, add := range []func(*runtime.Scheme) error{
		apiextensionsv1.AddToScheme, apiregistrationv1.AddToScheme,
		admissionv1.AddToScheme, admissionv1beta1.AddToScheme,
		apidiscoveryv2.AddToScheme, apidiscoveryv2beta1.AddToScheme,
		imagepolicyv1alpha1.AddToScheme, lifecyclev1alpha1.AddToScheme,
		metav1.AddMetaToScheme,
	} {
		if err := add(scheme.Scheme); err != nil {
			panic(err)
		}
	}
	return scheme.Scheme
}

// collectTypes walks every external kind of the scheme.
func collectTypes(s *runtime.Scheme) *typeTable {
	table := &typeTable{out: map[string]*typeEntry{}}
	table.definitions = openapi.GetOpenAPIDefinitions(func(name string) spec.Ref {
		return spec.MustCreateRef(name)
	})
	for gvk, t := range s.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal {
			continue
		}
		meta := strings.HasSuffix(t.PkgPath(), "apis/meta/v1")
		entry := table.add(t)
		if entry != nil && (!meta || gvk.Group == "meta.k8s.io" || gvk.Group == "") {
			entry.kinds = append(entry.kinds, gvkText(gvk))
		}
	}
	return table
}

func gvkText(gvk schema.GroupVersionKind) string {
	return gvk.Group + "/" + gvk.Version + "/" + gvk.Kind
}

// modelName is the name that the OpenAPI document gives to a type, without its common "io.k8s." start.
func modelName(t reflect.Type) string {
	if named, ok := reflect.New(t).Interface().(interface{ OpenAPIModelName() string }); ok {
		return named.OpenAPIModelName()
	}
	return "go." + strings.ReplaceAll(t.PkgPath(), "/", ".") + "." + t.Name()
}

func shortID(model string) string { return strings.TrimPrefix(model, "io.k8s.") }

func (table *typeTable) problem(format string, args ...any) {
	table.problems = append(table.problems, fmt.Sprintf(format, args...))
}

func (table *typeTable) add(t reflect.Type) *typeEntry {
	model := modelName(t)
	id := shortID(model)
	if entry, ok := table.out[id]; ok {
		return entry
	}
	entry := &typeEntry{id: id, goName: t.String()}
	table.out[id] = entry
	definition, ok := table.definitions[model]
	if !ok {
		entry.attrs = append(entry.attrs, "noapi")
	}
	schema := definition.Schema
	for name, value := range schema.Extensions {
		switch name {
		case "x-kubernetes-map-type":
			entry.attrs = append(entry.attrs, "mt="+value.(string))
		case "x-kubernetes-unions":
			entry.attrs = append(entry.attrs, "un="+compactJSON(value))
		default:
			table.problem("type %s: unknown extension %s", id, name)
		}
	}
	sort.Strings(entry.attrs)
	if !reflect.PointerTo(t).Implements(pbMarshalerType) {
		entry.attrs = append(entry.attrs, "nopb")
	}
	if reflect.PointerTo(t).Implements(jsonMarshalerType) {
		table.problem("type %s writes its own JSON", id)
	}
	required := map[string]bool{}
	for _, name := range schema.Required {
		required[name] = true
	}
	table.addFields(entry, t, schema, required, "", "")
	return entry
}

// addFields flattens inlined structs; `via` is the protobuf path that leads to them.
func (table *typeTable) addFields(entry *typeEntry, t reflect.Type, schema spec.Schema, required map[string]bool, via, inside string) {
	for i := range t.NumField() {
		field := t.Field(i)
		if !field.IsExported() {
			continue
		}
		jsonTag := strings.Split(field.Tag.Get("json"), ",")
		name, options := jsonTag[0], jsonTag[1:]
		if name == "-" {
			continue
		}
		number, wire := protobufTag(field)
		if name == "" {
			inner := field.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() != reflect.Struct || !(field.Anonymous || contains(options, "inline")) {
				table.problem("%s.%s: field without a JSON name", entry.id, field.Name)
				continue
			}
			path := via
			if number != "" {
				path = via + number + "."
			}
			table.addFields(entry, inner, schema, required, path, inside+field.Name+".")
			continue
		}
		row := table.field(entry, field, name, options, schema, required, pbPath(via, number, wire))
		if inside != "" {
			row += "\tin=" + strings.TrimSuffix(inside, ".")
		}
		entry.fields = append(entry.fields, row)
	}
}

func pbPath(via, number, wire string) string {
	if number == "" {
		return ""
	}
	return via + number + wire
}

func protobufTag(field reflect.StructField) (number, wire string) {
	parts := strings.Split(field.Tag.Get("protobuf"), ",")
	if len(parts) < 2 {
		return "", ""
	}
	wires := map[string]string{"bytes": "b", "varint": "v", "fixed64": "d", "fixed32": "f"}
	code, ok := wires[parts[0]]
	if !ok {
		panic("unknown wire type " + parts[0] + " of " + field.Name)
	}
	return parts[1], code
}

func contains(list []string, want string) bool {
	for _, item := range list {
		if item == want {
			return true
		}
	}
	return false
}

func (table *typeTable) field(entry *typeEntry, field reflect.StructField, name string, options []string, schema spec.Schema, required map[string]bool, pb string) string {
	flags := ""
	add := func(on bool, letter string) {
		if on {
			flags += letter
		}
	}
	property, inDocument := schema.Properties[name]
	pointer := field.Type.Kind() == reflect.Pointer
	add(required[name], "r")
	add(pointer, "p")
	add(contains(options, "omitempty"), "o")
	add(contains(options, "omitzero"), "z")
	add(!inDocument && len(schema.Properties) > 0, "h")
	expression, derived := table.expression(field.Type)
	extras := table.extras(entry, name, field, property)
	if isZeroDefault(property.Default) {
		flags += "d"
	}
	if items := itemSchema(property); items != nil && isZeroDefault(items.Default) {
		flags += "e"
	}
	if goType := strings.TrimPrefix(field.Type.String(), "*"); goType != derived {
		extras = append(extras, "go="+goType)
	}
	columns := append([]string{"F", name, expression, flags, pb}, extras...)
	return strings.TrimRight(strings.Join(columns, "\t"), "\t")
}

func itemSchema(property spec.Schema) *spec.Schema {
	if property.Items != nil {
		return property.Items.Schema
	}
	if property.AdditionalProperties != nil {
		return property.AdditionalProperties.Schema
	}
	return nil
}

func isZeroDefault(value any) bool {
	switch compactJSON(value) {
	case "{}", `""`, "0", "false":
		return true
	}
	return false
}

func (table *typeTable) extras(entry *typeEntry, name string, field reflect.StructField, property spec.Schema) []string {
	var extras []string
	extension := map[string]string{
		"x-kubernetes-list-type": "lt", "x-kubernetes-map-type": "mt", "x-kubernetes-list-map-keys": "lk",
		"x-kubernetes-patch-strategy": "ps", "x-kubernetes-patch-merge-key": "pk",
	}
	for key, value := range property.Extensions {
		short, ok := extension[key]
		if !ok {
			table.problem("%s.%s: unknown extension %s", entry.id, name, key)
			continue
		}
		extras = append(extras, short+"="+extensionText(value))
	}
	if strategy := field.Tag.Get("patchStrategy"); strategy != "" && len(property.Type) == 0 && property.Ref.String() == "" && len(property.AllOf) == 0 {
		extras = append(extras, "ps="+strategy)
		if key := field.Tag.Get("patchMergeKey"); key != "" {
			extras = append(extras, "pk="+key)
		}
	}
	if property.Default != nil && !isZeroDefault(property.Default) {
		extras = append(extras, "df="+compactJSON(property.Default))
	}
	if len(property.Enum) > 0 {
		extras = append(extras, "en="+enumText(property.Enum))
	}
	if items := itemSchema(property); items != nil {
		if len(items.Enum) > 0 {
			extras = append(extras, "ie="+enumText(items.Enum))
		}
		if items.Default != nil && !isZeroDefault(items.Default) {
			extras = append(extras, "id="+compactJSON(items.Default))
		}
	}
	sort.Strings(extras)
	return extras
}

func enumText(values []any) string {
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = fmt.Sprint(value)
		if strings.ContainsAny(texts[i], "|\t\n") {
			panic("enum value with a separator: " + texts[i])
		}
	}
	return strings.Join(texts, "|")
}

func extensionText(value any) string {
	if list, ok := value.([]any); ok {
		texts := make([]string, len(list))
		for i, item := range list {
			texts[i] = item.(string)
		}
		return strings.Join(texts, ",")
	}
	return value.(string)
}

func compactJSON(value any) string {
	if value == nil {
		return ""
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return strings.TrimSpace(buffer.String())
}

// expression returns the table's word for a Go type, and the Go spelling a reader derives from that word.
func (table *typeTable) expression(t reflect.Type) (word, goType string) {
	if t.Kind() == reflect.Pointer {
		return table.expression(t.Elem())
	}
	if word, ok := special[t]; ok {
		return word, t.String()
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int32, reflect.Int64, reflect.Float64, reflect.Float32, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Int:
		return t.Kind().String(), t.Kind().String()
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes", "[]uint8"
		}
		word, goType := table.expression(t.Elem())
		if t.Elem().Kind() == reflect.Pointer {
			goType = "*" + goType
		}
		mark := "[]"
		if t.Name() != "" && reflect.PointerTo(t).Implements(pbMarshalerType) {
			mark = "[m]" // protobuf wraps this list in a message of its own
		}
		return mark + word, "[]" + goType
	case reflect.Map:
		word, goType := table.expression(t.Elem())
		if t.Elem().Kind() == reflect.Pointer {
			goType = "*" + goType
		}
		if t.Key().Kind() != reflect.String {
			table.problem("map with key %s", t.Key())
		}
		return "{}" + word, "map[string]" + goType
	case reflect.Struct:
		return "@" + table.add(t).id, t.String()
	case reflect.Interface:
		return "json", t.String()
	}
	table.problem("no word for %s", t)
	return "json", t.String()
}

func (table *typeTable) write(w io.Writer) {
	ids := make([]string, 0, len(table.out))
	for id := range table.out {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	for _, id := range ids {
		entry := table.out[id]
		sort.Strings(entry.kinds)
		fmt.Fprintf(w, "T\t%s\t%s\t%s", entry.id, entry.goName, strings.Join(entry.kinds, ","))
		for _, attr := range entry.attrs {
			fmt.Fprintf(w, "\t%s", attr)
		}
		fmt.Fprintln(w)
		for _, field := range entry.fields {
			fmt.Fprintln(w, field)
		}
	}
}
