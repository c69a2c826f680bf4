package main

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	applyapps "k8s.io/client-go/applyconfigurations/apps/v1"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// useApply applies configurations, typed and untyped, as several managers.
func useApply(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	namespace, err := newNamespace(ctx, client)
	if err != nil {
		return err
	}
	if err := applyDeployments(ctx, client, namespace); err != nil {
		return err
	}
	untyped, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	jobs := untyped.Resource(schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "cronjobs"}).Namespace(namespace)
	if _, err := jobs.Create(ctx, cronJob(), metav1.CreateOptions{}); err != nil {
		return err
	}
	applied, err := jobs.Apply(ctx, "tick", &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "batch/v1", "kind": "CronJob", "metadata": map[string]any{"name": "tick", "labels": map[string]any{"by": "apply"}},
	}}, metav1.ApplyOptions{FieldManager: fieldManager})
	if err != nil || applied.GetLabels()["by"] != "apply" {
		return fmt.Errorf("applied to %v: %w", applied, err)
	}
	return nil
}

func applyDeployments(ctx context.Context, client kubernetes.Interface, namespace string) error {
	deployments := client.AppsV1().Deployments(namespace)
	wanted := func(replicas int32) *applyapps.DeploymentApplyConfiguration {
		labels := map[string]string{"app": "applied"}
		return applyapps.Deployment("applied", namespace).WithSpec(applyapps.DeploymentSpec().
			WithReplicas(replicas).
			WithSelector(applymeta.LabelSelector().WithMatchLabels(labels)).
			WithTemplate(applycore.PodTemplateSpec().WithLabels(labels).WithSpec(applycore.PodSpec().
				WithContainers(applycore.Container().WithName("first").WithImage("example/first:1")))))
	}
	made, err := deployments.Apply(ctx, wanted(1), metav1.ApplyOptions{FieldManager: "one"})
	if err != nil {
		return err
	}
	if len(made.ManagedFields) != 1 || made.ManagedFields[0].Operation != metav1.ManagedFieldsOperationApply {
		return fmt.Errorf("applied, and managed by %+v", made.ManagedFields)
	}
	_, err = deployments.Apply(ctx, wanted(2), metav1.ApplyOptions{FieldManager: "two"})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "one": .spec.replicas`) {
		return fmt.Errorf("a second manager's change came to: %w", err)
	}
	forced, err := deployments.Apply(ctx, wanted(2), metav1.ApplyOptions{FieldManager: "two", Force: true})
	if err != nil {
		return err
	}
	// What a manager took out of a live object and applies again changes nothing.
	extracted, err := applyapps.ExtractDeployment(forced, "two")
	if err != nil {
		return err
	}
	again, err := deployments.Apply(ctx, extracted, metav1.ApplyOptions{FieldManager: "two"})
	if err != nil {
		return err
	}
	if again.ResourceVersion != forced.ResourceVersion || *again.Spec.Replicas != 2 {
		return fmt.Errorf("applying the same again wrote version %s after %s", again.ResourceVersion, forced.ResourceVersion)
	}
	return nil
}
