// Command schema writes the schema table of api/data: the facts of one Kubernetes release that the wire needs.
//
// Types are read by reflection from the published Go types and their OpenAPI definitions. What only a running
// server knows (short names, categories, columns, discovery order, default policy objects) is recorded from
// upstream's kube-apiserver, started on 127.0.0.1 with a directory of its own.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

const typesHeader = `# Types of Kubernetes %s, one line each; regenerate with conformance/schema/regenerate.
# T id goType group/version/kind,... [mt=map type] [un=unions] [nopb] [noapi]
# F jsonName type flags protobufPath+wire [lt= list type] [lk= list map keys] [ps= patch strategy] [pk= merge key]
#   [mt= map type] [df= default] [id= item default] [en= enum] [ie= item enum] [go= Go type] [in= Go names of inlined structs around it]
# flags: r required, p pointer, o omitempty, z omitzero, h not in the OpenAPI document, d zero default, e zero item default
# types: []x list, [m]x list that is a message in protobuf, {}x map, @id reference
`

func main() {
	out := flag.String("out", "../api/data", "directory of the result")
	bin := flag.String("bin", "", "directory with kube-apiserver and etcd; built when empty")
	release := flag.String("release", "v1.37", "release written into headers")
	typesOnly := flag.Bool("types-only", false, "skip what needs a running server")
	flag.Parse()
	if err := run(*out, *bin, *release, *typesOnly); err != nil {
		fmt.Fprintln(os.Stderr, "schema:", err)
		os.Exit(1)
	}
}

func run(out, bin, release string, typesOnly bool) error {
	s := builtinScheme()
	table := collectTypes(s)
	for _, problem := range table.problems {
		fmt.Fprintln(os.Stderr, "note:", problem)
	}
	if err := writeTypes(filepath.Join(out, "types.tsv"), release, table); err != nil {
		return err
	}
	if typesOnly {
		return nil
	}
	return record(out, bin, s)
}

func writeTypes(path, release string, table *typeTable) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	w := bufio.NewWriter(file)
	fmt.Fprintf(w, typesHeader, release)
	table.write(w)
	return w.Flush()
}
