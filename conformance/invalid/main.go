// Command invalid records what upstream's kube-apiserver answers to malformed and invalid requests.
//
// The requests stand in cases.go and are sent in order to one fresh server; recorded.json holds each with its
// answer, for a test that sends the same requests to another server. Identifiers that differ from run to run
// (uids, resource versions in messages) are replaced by a word in angle brackets.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"

	"ironclad.dev/conformance/upstream"
)

// step is one request with its answer, as recorded.json has it.
type step struct {
	Name        string `json:"name"`
	Method      string `json:"method"`
	Path        string `json:"path"`
	ContentType string `json:"contentType,omitempty"`
	Accept      string `json:"accept,omitempty"`
	// User is empty for the administrator, "jane" for one without rights, else a token.
	User string `json:"user,omitempty"`
	// Impersonate is sent as Impersonate-User.
	Impersonate string `json:"impersonate,omitempty"`
	Body        string `json:"body,omitempty"`
	// Padding is the number of spaces that follow the body.
	Padding int `json:"padding,omitempty"`
	// Setup marks a request that only prepares the ones after it.
	Setup  bool    `json:"setup,omitempty"`
	Expect *expect `json:"expect,omitempty"`
}

type expect struct {
	Code     int             `json:"code"`
	Reason   string          `json:"reason,omitempty"`
	Message  string          `json:"message,omitempty"`
	Details  json.RawMessage `json:"details,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
	// Text is the body when it is no Status.
	Text string `json:"text,omitempty"`
}

var volatile = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uid>"},
	{regexp.MustCompile(`current: \d+`), "current: <revision>"},
	{regexp.MustCompile(`in record \(\d+\)`), "in record (<revision>)"},
	{regexp.MustCompile(`20[1-9]\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "<time>"},
	{regexp.MustCompile(`Invalid value: \\"\{\\\\\\"apiVersion.*?\}\\": `), "Invalid value: <object>: "},
	{regexp.MustCompile(`in scheme \\"[^"]*\\"`), "in scheme <place>"},
	{regexp.MustCompile(`"A b[a-z0-9]{5}"`), `"A b<suffix>"`},
	{regexp.MustCompile(`\\"A b[a-z0-9]{5}\\"`), `\"A b<suffix>\"`},
	{regexp.MustCompile(`default-token-[a-z0-9]+|kube-api-access-[a-z0-9]+`), "<token volume>"},
}

func main() {
	bin := flag.String("bin", "", "directory with kube-apiserver and etcd; built when empty")
	out := flag.String("out", "invalid/recorded.json", "file of the result")
	flag.Parse()
	if err := run(*bin, *out); err != nil {
		fmt.Fprintln(os.Stderr, "invalid:", err)
		os.Exit(1)
	}
}

func run(bin, out string) error {
	server, err := upstream.Start(context.Background(), bin)
	if err != nil {
		return err
	}
	defer server.Stop()
	var text strings.Builder
	text.WriteString("[\n")
	steps := steps()
	for i, one := range steps {
		if err := send(server, &one); err != nil {
			return fmt.Errorf("%s: %w", one.Name, err)
		}
		if one.Setup && one.Expect.Code >= 300 {
			return fmt.Errorf("setup %s: %+v", one.Name, one.Expect)
		}
		text.WriteString(encode(one))
		if i < len(steps)-1 {
			text.WriteString(",")
		}
		text.WriteString("\n")
	}
	text.WriteString("]\n")
	return os.WriteFile(out, []byte(text.String()), 0o644)
}

func encode(value any) string {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return strings.TrimSpace(buffer.String())
}

func send(server *upstream.Server, one *step) error {
	header := map[string]string{}
	for name, value := range map[string]string{
		"Content-Type": one.ContentType, "Accept": one.Accept, "Impersonate-User": one.Impersonate,
	} {
		if value != "" {
			header[name] = value
		}
	}
	answer, err := server.Do(upstream.Request{
		Method: one.Method, Path: one.Path, User: one.User, Header: header,
		Body: []byte(one.Body + strings.Repeat(" ", one.Padding)),
	})
	if err != nil {
		return err
	}
	one.Expect = read(answer)
	return nil
}

func read(answer *upstream.Answer) *expect {
	out := &expect{Code: answer.Status, Warnings: answer.Header.Values("Warning")}
	var status struct {
		Kind, Reason, Message string
		Details               json.RawMessage
	}
	body := string(answer.Body)
	for _, one := range volatile {
		body = one.pattern.ReplaceAllString(body, one.word)
	}
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		out.Text = body
		return out
	}
	if status.Kind == "Status" && answer.Status >= 300 {
		out.Reason, out.Message, out.Details = status.Reason, status.Message, status.Details
	}
	return out
}
