package main

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// discoverAll reads what the server serves, in the aggregated form and group by group, and the documents about it.
func discoverAll(_ context.Context, config *rest.Config) error {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	groups, aggregated, err := client.ServerGroupsAndResources()
	if err != nil {
		return err
	}
	legacy := discovery.NewDiscoveryClient(client.RESTClient())
	legacy.UseLegacyDiscovery = true
	legacyGroups, oneByOne, err := legacy.ServerGroupsAndResources()
	if err != nil {
		return err
	}
	if len(groups) != len(legacyGroups) || len(groups) < 15 {
		return fmt.Errorf("%d groups at once, %d one by one", len(groups), len(legacyGroups))
	}
	one, other := names(aggregated), names(oneByOne)
	if !slices.Equal(one, other) || len(one) < 60 {
		return fmt.Errorf("aggregated discovery names %d resources, the groups' own %d", len(one), len(other))
	}
	resources, err := restmapper.GetAPIGroupResources(client)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDiscoveryRESTMapper(resources)
	mapping, err := mapper.RESTMapping(schema.GroupKind{Group: "apps", Kind: "Deployment"})
	if err != nil || mapping.Resource.Resource != "deployments" || mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return fmt.Errorf("a deployment is %+v: %w", mapping, err)
	}
	paths, err := client.OpenAPIV3().Paths()
	if err != nil {
		return err
	}
	for _, path := range []string{"api/v1", "apis/apps/v1"} {
		document, ok := paths[path]
		if !ok {
			return fmt.Errorf("no description of %s", path)
		}
		if text, err := document.Schema("application/json"); err != nil || len(text) < 10_000 {
			return fmt.Errorf("the description of %s has %d bytes: %w", path, len(text), err)
		}
	}
	version, err := client.ServerVersion()
	if err != nil || version.Major != "1" {
		return fmt.Errorf("version %+v: %w", version, err)
	}
	return nil
}

func names(lists []*metav1.APIResourceList) []string {
	var all []string
	for _, list := range lists {
		for _, resource := range list.APIResources {
			all = append(all, list.GroupVersion+"/"+resource.Name+" "+resource.Kind)
		}
	}
	slices.Sort(all)
	return all
}

// useDynamic lists every resource that can be listed and works with objects of kinds that no Go type stands for.
func useDynamic(ctx context.Context, config *rest.Config) error {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := listEverything(ctx, config, client); err != nil {
		return err
	}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	namespace, err := newNamespace(ctx, typed)
	if err != nil {
		return err
	}
	jobs := client.Resource(schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "cronjobs"}).Namespace(namespace)
	made, err := jobs.Create(ctx, cronJob(), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	policy, _, _ := unstructured.NestedString(made.Object, "spec", "concurrencyPolicy")
	if made.GetUID() == "" || policy != "Allow" {
		return fmt.Errorf("created without uid or defaults: %v", made.Object)
	}
	made.SetAnnotations(map[string]string{"example.com/note": "ü"})
	if made, err = jobs.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		return err
	}
	patched, err := jobs.Patch(ctx, "tick", types.MergePatchType, []byte(`{"spec":{"suspend":true}}`), metav1.PatchOptions{})
	if err != nil {
		return err
	}
	suspended, _, _ := unstructured.NestedBool(patched.Object, "spec", "suspend")
	if !suspended || patched.GetAnnotations()["example.com/note"] != "ü" || patched.GetGeneration() != 2 {
		return fmt.Errorf("patched to %v", patched.Object)
	}
	return jobs.Delete(ctx, "tick", metav1.DeleteOptions{})
}

func cronJob() *unstructured.Unstructured {
	pod := map[string]any{
		"restartPolicy": "Never", "containers": []any{map[string]any{"name": "c", "image": "example/c:1"}},
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "batch/v1", "kind": "CronJob", "metadata": map[string]any{"name": "tick"},
		"spec": map[string]any{
			"schedule":    "*/5 * * * *",
			"jobTemplate": map[string]any{"spec": map[string]any{"template": map[string]any{"spec": pod}}},
		},
	}}
}

func listEverything(ctx context.Context, config *rest.Config, client dynamic.Interface) error {
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	lists, err := found.ServerPreferredResources()
	if err != nil {
		return err
	}
	listed := 0
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "get"}}, lists) {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return err
		}
		for _, resource := range list.APIResources {
			objects, err := client.Resource(version.WithResource(resource.Name)).List(ctx, metav1.ListOptions{Limit: 5})
			if err != nil {
				return fmt.Errorf("list %s/%s: %w", list.GroupVersion, resource.Name, err)
			}
			if objects.GetKind() != resource.Kind+"List" || objects.GetResourceVersion() == "" && resource.Name != "componentstatuses" {
				return fmt.Errorf("a list of %s is %s at %q", resource.Name, objects.GetKind(), objects.GetResourceVersion())
			}
			listed++
		}
	}
	if listed < 40 {
		return fmt.Errorf("only %d resources can be listed", listed)
	}
	return nil
}

// useMetadata works with objects of which only the metadata is asked for.
func useMetadata(ctx context.Context, config *rest.Config) error {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	namespace, err := newNamespace(ctx, typed)
	if err != nil {
		return err
	}
	deployments := client.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(namespace)
	changes, err := deployments.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	defer changes.Stop()
	if _, err := typed.AppsV1().Deployments(namespace).Create(ctx, deployment("partial", 1), metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := expect(ctx, changes, watch.Added, "partial"); err != nil {
		return err
	}
	list, err := deployments.List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Labels["app"] != "partial" {
		return fmt.Errorf("listed %+v: %w", list, err)
	}
	patched, err := deployments.Patch(ctx, "partial", types.MergePatchType, []byte(`{"metadata":{"finalizers":["example.com/hold"]}}`), metav1.PatchOptions{})
	if err != nil || len(patched.Finalizers) != 1 || patched.Generation != 1 {
		return fmt.Errorf("patched to %+v: %w", patched, err)
	}
	if err := expect(ctx, changes, watch.Modified, "partial"); err != nil {
		return err
	}
	// A finalizer holds it until somebody takes it away.
	if err := deployments.Delete(ctx, "partial", metav1.DeleteOptions{}); err != nil {
		return err
	}
	held, err := deployments.Get(ctx, "partial", metav1.GetOptions{})
	if err != nil || held.DeletionTimestamp == nil {
		return fmt.Errorf("deleted in spite of its finalizer, or not at all: %+v: %w", held, err)
	}
	if err := expect(ctx, changes, watch.Modified, "partial"); err != nil {
		return err
	}
	if _, err := deployments.Patch(ctx, "partial", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		return err
	}
	return expect(ctx, changes, watch.Deleted, "partial")
}

// expect takes the next event of a watch, which has to be of a type and about a name.
func expect(ctx context.Context, changes watch.Interface, kind watch.EventType, name string) error {
	select {
	case event, ok := <-changes.ResultChan():
		if !ok {
			return fmt.Errorf("the watch ended before %s of %s", kind, name)
		}
		object, err := meta.Accessor(event.Object)
		if err != nil || event.Type != kind || object.GetName() != name {
			return fmt.Errorf("%s instead of %s of %s: %+v", event.Type, kind, name, event.Object)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waited in vain for %s of %s", kind, name)
	}
}
