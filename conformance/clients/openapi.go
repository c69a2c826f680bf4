package main

import (
	"bytes"
	"context"
	"fmt"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

// readOldSchema reads OpenAPI v2 as clients before v3 do, and compares its two forms: the protobuf that the server sends must
// be, byte for byte, what upstream's library makes of the JSON that the server sends.
func readOldSchema(ctx context.Context, config *rest.Config) error {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	document, err := client.OpenAPISchema()
	if err != nil {
		return fmt.Errorf("read the schema: %w", err)
	}
	if err := holdsPodSpec(document); err != nil {
		return err
	}
	get := func(mediaType string) ([]byte, error) {
		return client.RESTClient().Get().AbsPath("/openapi/v2").SetHeader("Accept", mediaType).Do(ctx).Raw()
	}
	asJSON, err := get(typeJSON)
	if err != nil {
		return fmt.Errorf("read the schema as JSON: %w", err)
	}
	parsed, err := openapi_v2.ParseDocument(asJSON)
	if err != nil {
		return fmt.Errorf("parse the schema's JSON: %w", err)
	}
	expected, err := proto.MarshalOptions{Deterministic: true}.Marshal(parsed)
	if err != nil {
		return err
	}
	for _, mediaType := range []string{
		"application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
		"application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
	} {
		got, err := get(mediaType)
		if err != nil {
			return fmt.Errorf("read the schema as %s: %w", mediaType, err)
		}
		if !bytes.Equal(got, expected) {
			return fmt.Errorf("%s differs from what the JSON gives: %s", mediaType, firstDifference(got, expected))
		}
	}
	return nil
}

func holdsPodSpec(document *openapi_v2.Document) error {
	for _, definition := range document.GetDefinitions().GetAdditionalProperties() {
		if definition.Name != "io.k8s.api.core.v1.PodSpec" {
			continue
		}
		for _, property := range definition.Value.GetProperties().GetAdditionalProperties() {
			if property.Name == "containers" && property.Value.GetType().GetValue()[0] == "array" {
				return nil
			}
		}
	}
	return fmt.Errorf("no list of containers among %d definitions", len(document.GetDefinitions().GetAdditionalProperties()))
}

func firstDifference(got, expected []byte) string {
	at := 0
	for at < len(got) && at < len(expected) && got[at] == expected[at] {
		at++
	}
	around := func(data []byte) []byte { return data[max(0, at-80):min(len(data), at+80)] }
	return fmt.Sprintf("%d and %d bytes, at %d %q instead of %q", len(got), len(expected), at, around(got), around(expected))
}
