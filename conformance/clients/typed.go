package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
)

const fieldManager = "clients"

// useTyped does with the generated clients what they can do, on objects of several kinds.
func useTyped(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	namespace, err := newNamespace(ctx, client)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		run  func(context.Context, kubernetes.Interface, string) error
	}{
		{"deployment", useDeployments}, {"pages", readPages}, {"errors", provokeErrors},
		{"conflict", retryConflicts}, {"service", useServices}, {"collection", deleteCollections},
	} {
		if err := part.run(ctx, client, namespace); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

func deployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "first", Image: "example/first:1", Env: []corev1.EnvVar{{Name: "A", Value: "1"}},
				}}},
			},
		},
	}
}

func useDeployments(ctx context.Context, client kubernetes.Interface, namespace string) error {
	deployments := client.AppsV1().Deployments(namespace)
	made, err := deployments.Create(ctx, deployment("web", 2), metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil {
		return err
	}
	if made.UID == "" || made.Generation != 1 || made.Spec.Strategy.RollingUpdate == nil {
		return fmt.Errorf("created without uid, generation or defaults: %+v", made)
	}
	// A strategic merge finds the container by its name and the variable by its own.
	patch := `{"spec":{"template":{"spec":{"containers":[{"name":"first","env":[{"name":"B","value":"2"}]}]}}}}`
	patched, err := deployments.Patch(ctx, "web", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return err
	}
	if got := len(patched.Spec.Template.Spec.Containers[0].Env); got != 2 || patched.Generation != 2 {
		return fmt.Errorf("%d variables and generation %d after a strategic merge", got, patched.Generation)
	}
	patched, err = deployments.Patch(ctx, "web", types.MergePatchType, []byte(`{"metadata":{"labels":{"app":null,"tier":"front"}}}`),
		metav1.PatchOptions{})
	if err != nil {
		return err
	}
	if _, has := patched.Labels["app"]; has || patched.Labels["tier"] != "front" || patched.Generation != 2 {
		return fmt.Errorf("labels %v and generation %d after a merge patch", patched.Labels, patched.Generation)
	}
	patched, err = deployments.Patch(ctx, "web", types.JSONPatchType,
		[]byte(`[{"op":"test","path":"/spec/replicas","value":2},{"op":"replace","path":"/spec/replicas","value":3}]`), metav1.PatchOptions{})
	if err != nil {
		return err
	}
	scale, err := deployments.GetScale(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if *patched.Spec.Replicas != 3 || scale.Spec.Replicas != 3 {
		return fmt.Errorf("%d replicas after a JSON patch, %d in its scale", *patched.Spec.Replicas, scale.Spec.Replicas)
	}
	scale.Spec.Replicas = 5
	if _, err := deployments.UpdateScale(ctx, "web", scale, metav1.UpdateOptions{}); err != nil {
		return err
	}
	current, err := deployments.Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	// What is written through the status subresource changes the status and nothing else.
	current.Spec.Replicas = new(int32)
	current.Status.ObservedGeneration = current.Generation
	current.Status.Replicas = 4
	updated, err := deployments.UpdateStatus(ctx, current, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	if *updated.Spec.Replicas != 5 || updated.Status.Replicas != 4 || updated.Generation != current.Generation {
		return fmt.Errorf("a status update left %d replicas, status %+v", *updated.Spec.Replicas, updated.Status)
	}
	dry, err := deployments.Create(ctx, deployment("dry", 1), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return err
	}
	if _, err := deployments.Get(ctx, "dry", metav1.GetOptions{}); dry.UID == "" || !apierrors.IsNotFound(err) {
		return fmt.Errorf("a dry run left something: %w", err)
	}
	background := metav1.DeletePropagationBackground
	return deployments.Delete(ctx, "web", metav1.DeleteOptions{
		PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &updated.UID},
	})
}

func readPages(ctx context.Context, client kubernetes.Interface, namespace string) error {
	secrets := client.CoreV1().Secrets(namespace)
	for index := range 25 {
		object := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("page-%02d", index), Labels: map[string]string{"page": "yes", "even": fmt.Sprint(index%2 == 0)}},
			Data:       map[string][]byte{"key": {0, 1, 2, 255}},
			StringData: map[string]string{"text": "written as text"},
		}
		if _, err := secrets.Create(ctx, object, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	var names []string
	options := metav1.ListOptions{Limit: 10, LabelSelector: "page in (yes),!absent"}
	for {
		page, err := secrets.List(ctx, options)
		if err != nil {
			return err
		}
		for _, object := range page.Items {
			if string(object.Data["key"]) != "\x00\x01\x02\xff" || string(object.Data["text"]) != "written as text" {
				return fmt.Errorf("data came back as %q", object.Data)
			}
			names = append(names, object.Name)
		}
		if len(names) == 10 && (page.RemainingItemCount != nil || page.Continue == "") {
			return errors.New("a page chosen by labels tells how many remain, or has no way on")
		}
		if options.Continue = page.Continue; options.Continue == "" {
			break
		}
	}
	if len(names) != 25 || names[24] != "page-24" {
		return fmt.Errorf("pages held %d names: %v", len(names), names)
	}
	even, err := secrets.List(ctx, metav1.ListOptions{LabelSelector: "even=true", FieldSelector: "metadata.name!=page-00"})
	if err != nil || len(even.Items) != 12 {
		return fmt.Errorf("%d objects by selectors: %w", len(even.Items), err)
	}
	return nil
}

func provokeErrors(ctx context.Context, client kubernetes.Interface, namespace string) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "errors"}}
	if _, err := maps.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err := maps.Create(ctx, object, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("created twice: %w", err)
	}
	_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "Not a Name"}}, metav1.CreateOptions{})
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details.Causes[0].Field != "metadata.name" {
		return fmt.Errorf("created under a name that is none: %w", err)
	}
	if _, err = maps.Get(ctx, "absent", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("read what does not exist: %w", err)
	}
	wrong := types.UID("wrong")
	err = maps.Delete(ctx, "errors", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &wrong}})
	if !apierrors.IsConflict(err) {
		return fmt.Errorf("deleted under a wrong uid: %w", err)
	}
	_, err = maps.List(ctx, metav1.ListOptions{Continue: "nonsense"})
	if !apierrors.IsBadRequest(err) {
		return fmt.Errorf("went on with nonsense: %w", err)
	}
	_, err = client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "empty"}}, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		return fmt.Errorf("created a pod without containers: %w", err)
	}
	return nil
}

// retryConflicts counts in one object from several goroutines at once: no increment may be lost.
func retryConflicts(ctx context.Context, client kubernetes.Interface, namespace string) error {
	const counters, increments = 5, 10
	maps := client.CoreV1().ConfigMaps(namespace)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "counter"}, Data: map[string]string{"count": "0"}}
	if _, err := maps.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return err
	}
	increment := func() error {
		object, err := maps.Get(ctx, "counter", metav1.GetOptions{})
		if err != nil {
			return err
		}
		var count int
		if err := json.Unmarshal([]byte(object.Data["count"]), &count); err != nil {
			return err
		}
		object.Data["count"] = fmt.Sprint(count + 1)
		_, err = maps.Update(ctx, object, metav1.UpdateOptions{})
		return err
	}
	backoff := retry.DefaultBackoff
	backoff.Steps = 100
	backoff.Factor = 1
	failures := make(chan error, counters)
	for range counters {
		go func() {
			var err error
			for index := 0; index < increments && err == nil; index++ {
				err = retry.RetryOnConflict(backoff, increment)
			}
			failures <- err
		}()
	}
	var all error
	for range counters {
		all = errors.Join(all, <-failures)
	}
	if all != nil {
		return all
	}
	counted, err := maps.Get(ctx, "counter", metav1.GetOptions{})
	if err != nil || counted.Data["count"] != fmt.Sprint(counters*increments) {
		return fmt.Errorf("counted %v: %w", counted.Data, err)
	}
	return nil
}

func useServices(ctx context.Context, client kubernetes.Interface, namespace string) error {
	services := client.CoreV1().Services(namespace)
	made, err := services.Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "svc-"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if made.Spec.ClusterIP == "" || made.Spec.Ports[0].NodePort == 0 || !strings.HasPrefix(made.Name, "svc-") {
		return fmt.Errorf("a service without address, port or name: %+v", made.Spec)
	}
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: "event-", Namespace: namespace},
		InvolvedObject: corev1.ObjectReference{Kind: "Service", Namespace: namespace, Name: made.Name, UID: made.UID},
		Reason:         "Made", Type: corev1.EventTypeNormal,
	}
	if _, err := client.CoreV1().Events(namespace).CreateWithEventNamespaceWithContext(ctx, event); err != nil {
		return err
	}
	found, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(made.UID)})
	if err != nil || len(found.Items) != 1 {
		return fmt.Errorf("%d events about the service: %w", len(found.Items), err)
	}
	return services.Delete(ctx, made.Name, metav1.DeleteOptions{})
}

func deleteCollections(ctx context.Context, client kubernetes.Interface, namespace string) error {
	secrets := client.CoreV1().Secrets(namespace)
	if err := secrets.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "even=false"}); err != nil {
		return err
	}
	left, err := secrets.List(ctx, metav1.ListOptions{LabelSelector: "page"})
	if err != nil || len(left.Items) != 13 {
		return fmt.Errorf("%d objects are left: %w", len(left.Items), err)
	}
	return nil
}
