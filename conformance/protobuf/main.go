// Command protobuf asks a running API server everything twice, once as a client that speaks only JSON and once as one
// that speaks only protobuf, and says where the two differ. It writes through protobuf too, and watches.
//
//	go run ./protobuf -kubeconfig FILE
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	protobuf  = "application/vnd.kubernetes.protobuf"
	namespace = "protobuf-check"
	patience  = 30 * time.Second
)

var failures int

func fail(format string, args ...any) {
	failures++
	fmt.Printf("FAIL "+format+"\n", args...)
}

func must(what string, err error) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func main() {
	kubeconfig := flag.String("kubeconfig", os.Getenv("KUBECONFIG"), "the cluster to ask")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	config.QPS, config.Burst = 500, 500
	asJSON, asProtobuf := rest.CopyConfig(config), rest.CopyConfig(config)
	asJSON.ContentType, asJSON.AcceptContentTypes = "application/json", "application/json"
	asProtobuf.ContentType, asProtobuf.AcceptContentTypes = protobuf, protobuf

	ctx := context.Background()
	client := kubernetes.NewForConfigOrDie(asProtobuf)
	writes(ctx, client)
	reads(ctx, asJSON, asProtobuf)
	watches(ctx, client, metadata.NewForConfigOrDie(asProtobuf))
	must("delete namespace", client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}))
	if failures > 0 {
		fmt.Printf("%d failures\n", failures)
		os.Exit(1)
	}
	fmt.Println("ok")
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "nothing"}}}
}

func writes(ctx context.Context, client kubernetes.Interface) {
	_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	must("create namespace", err)
	waitFor("the default service account", func() bool {
		_, err := client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})
	maps := client.CoreV1().ConfigMaps(namespace)
	made, err := maps.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"x": "y"}},
		Data:       map[string]string{"b": "ü", "a": ""}, BinaryData: map[string][]byte{"raw": {0, 255, 1}},
	}, metav1.CreateOptions{})
	must("create config map", err)
	if err == nil && (made.Data["b"] != "ü" || len(made.BinaryData["raw"]) != 3 || made.UID == "") {
		fail("created config map: %+v", made)
	}
	made.Data["c"] = "d"
	_, err = maps.Update(ctx, made, metav1.UpdateOptions{})
	must("update config map", err)
	_, err = maps.Update(ctx, made, metav1.UpdateOptions{})
	if !apierrors.IsConflict(err) {
		fail("stale update: %v", err)
	}
	_, err = maps.Patch(ctx, "a", types.MergePatchType, []byte(`{"data":{"c":null}}`), metav1.PatchOptions{})
	must("patch config map", err)
	_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "No"}}, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "metadata.name: Invalid value") {
		fail("invalid config map: %v", err)
	}
	workloads(ctx, client)
	reviews(ctx, client)
	must("delete config map", maps.Delete(ctx, "a", *metav1.NewDeleteOptions(0)))
	must("delete config maps", maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "x=z"}))
}

func workloads(ctx context.Context, client kubernetes.Interface) {
	labels := map[string]string{"app": "web"}
	replicas := int32(2)
	_, err := client.AppsV1().Deployments(namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec()},
		},
	}, metav1.CreateOptions{})
	must("create deployment", err)
	scale := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: 1}}
	scaled, err := client.AppsV1().Deployments(namespace).UpdateScale(ctx, "web", scale, metav1.UpdateOptions{})
	must("scale", err)
	if err == nil && scaled.Spec.Replicas != 1 {
		fail("scaled: %+v", scaled)
	}
	_, err = client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Spec: podSpec()}, metav1.CreateOptions{})
	must("create pod", err)
	must("evict", client.PolicyV1().Evictions(namespace).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "one", Namespace: namespace}}))
	parked := podSpec()
	parked.SchedulerName = "nobody"
	_, err = client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "two"}, Spec: parked}, metav1.CreateOptions{})
	must("create parked pod", err)
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	must("list nodes", err)
	if err == nil && len(nodes.Items) > 0 {
		binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "two"}, Target: corev1.ObjectReference{Kind: "Node", Name: nodes.Items[0].Name}}
		must("bind", client.CoreV1().Pods(namespace).Bind(ctx, binding, metav1.CreateOptions{}))
	}
}

func reviews(ctx context.Context, client kubernetes.Interface) {
	seconds := int64(600)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	token, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, "default", request, metav1.CreateOptions{})
	must("token", err)
	if err == nil {
		review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token.Status.Token}}
		reviewed, err := client.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
		must("token review", err)
		if err == nil && (!reviewed.Status.Authenticated || len(reviewed.Status.User.Extra) == 0) {
			fail("token review: %+v", reviewed.Status)
		}
	}
	attributes := &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "get", Resource: "pods"}
	allowed, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes},
	}, metav1.CreateOptions{})
	must("access review", err)
	if err == nil && !allowed.Status.Allowed {
		fail("access review: %+v", allowed.Status)
	}
	rules, err := client.AuthorizationV1().SelfSubjectRulesReviews().Create(ctx, &authorizationv1.SelfSubjectRulesReview{
		Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace},
	}, metav1.CreateOptions{})
	must("rules review", err)
	if err == nil && len(rules.Status.ResourceRules) == 0 {
		fail("rules review: %+v", rules.Status)
	}
}

// reads lists every built-in resource in both forms.
func reads(ctx context.Context, asJSON, asProtobuf *rest.Config) {
	groups, lists, err := kubernetes.NewForConfigOrDie(asJSON).Discovery().ServerGroupsAndResources()
	must("discovery", err)
	fmt.Printf("%d groups\n", len(groups))
	compared := 0
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		must("version", err)
		for _, resource := range list.APIResources {
			kind := version.WithKind(resource.Kind + "List")
			if strings.Contains(resource.Name, "/") || !strings.Contains(strings.Join(resource.Verbs, ","), "list") || !scheme.Scheme.Recognizes(kind) {
				continue
			}
			compared += compare(ctx, kind, resource.Name, asJSON, asProtobuf)
		}
	}
	fmt.Printf("%d objects are the same in both forms\n", compared)
}

func list(ctx context.Context, config *rest.Config, kind schema.GroupVersionKind, resource string) (runtime.Object, error) {
	config = rest.CopyConfig(config)
	version := kind.GroupVersion()
	config.GroupVersion, config.NegotiatedSerializer, config.APIPath = &version, scheme.Codecs.WithoutConversion(), "/apis"
	if kind.Group == "" {
		config.APIPath = "/api"
	}
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	into, err := scheme.Scheme.New(kind)
	if err != nil {
		return nil, err
	}
	return into, client.Get().Resource(resource).Do(ctx).Into(into)
}

func compare(ctx context.Context, kind schema.GroupVersionKind, resource string, asJSON, asProtobuf *rest.Config) int {
	for range 20 {
		one, err := list(ctx, asJSON, kind, resource)
		must("list in JSON "+resource, err)
		other, errOther := list(ctx, asProtobuf, kind, resource)
		must("list in protobuf "+resource, errOther)
		if err != nil || errOther != nil {
			return 0
		}
		if !equality.Semantic.DeepEqual(versions(one), versions(other)) {
			continue // something changed between the two
		}
		a, _ := meta.ExtractList(one)
		b, _ := meta.ExtractList(other)
		for i := range a {
			if !equality.Semantic.DeepEqual(untyped(a[i]), untyped(b[i])) {
				fail("%s: %+v\n%+v", resource, a[i], b[i])
			}
		}
		return len(a)
	}
	fail("%s: changes all the time", resource)
	return 0
}

func untyped(object runtime.Object) runtime.Object {
	object.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return object
}

func versions(list runtime.Object) (found []string) {
	items, _ := meta.ExtractList(list)
	for _, item := range items {
		accessor, err := meta.Accessor(item)
		must("item", err)
		found = append(found, accessor.GetName()+"/"+accessor.GetResourceVersion())
	}
	return found
}

func waitFor(what string, is func() bool) {
	err := wait.PollUntilContextTimeout(context.Background(), 50*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		return is(), nil
	})
	must("waiting for "+what, err)
}

// watches follows objects with informers, whole ones and their metadata alone.
func watches(ctx context.Context, client kubernetes.Interface, metadataClient metadata.Interface) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	maps, pods := factory.Core().V1().ConfigMaps(), factory.Core().V1().Pods()
	maps.Informer()
	pods.Informer()
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			fail("no sync of %v", kind)
		}
	}
	resource := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	partial := metadatainformer.NewFilteredSharedInformerFactory(metadataClient, 0, namespace, nil)
	partialMaps := partial.ForResource(resource)
	partialMaps.Informer()
	partial.Start(ctx.Done())
	if !partial.WaitForCacheSync(ctx.Done())[resource] {
		fail("no sync of metadata")
	}
	_, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "seen"}, Data: map[string]string{"a": "b"}}, metav1.CreateOptions{})
	must("create watched config map", err)
	waitFor("an added config map", func() bool {
		found, err := maps.Lister().ConfigMaps(namespace).Get("seen")
		return err == nil && found.Data["a"] == "b"
	})
	waitFor("its metadata", func() bool {
		_, err := partialMaps.Lister().ByNamespace(namespace).Get("seen")
		return err == nil
	})
	must("delete watched config map", client.CoreV1().ConfigMaps(namespace).Delete(ctx, "seen", metav1.DeleteOptions{}))
	waitFor("a deleted config map", func() bool {
		_, err := maps.Lister().ConfigMaps(namespace).Get("seen")
		return apierrors.IsNotFound(err)
	})
}
