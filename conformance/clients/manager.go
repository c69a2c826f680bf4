package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	testEnvironment = "test-environment"
	managedObjects  = 20
	ownerIndex      = "owner"
	seenAnnotation  = "example.com/seen"
)

// manageInTestEnvironment starts our binary as controller-runtime's test environment starts a kube-apiserver, on an etcd, and
// runs a manager with a controller against it.
func manageInTestEnvironment(ctx context.Context, binary, etcd string) error {
	assets, err := os.MkdirTemp("", "envtest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(assets)
	for name, target := range map[string]string{"kube-apiserver": binary, "etcd": etcd} {
		absolute, err := filepath.Abs(target)
		if err != nil {
			return err
		}
		if err := os.Symlink(absolute, filepath.Join(assets, name)); err != nil {
			return err
		}
	}
	environment := &envtest.Environment{
		BinaryAssetsDirectory: assets, ControlPlaneStartTimeout: readyLimit, ControlPlaneStopTimeout: stopLimit,
	}
	config, err := environment.Start()
	if err != nil {
		return errors.Join(fmt.Errorf("start the test environment: %w", err), environment.Stop())
	}
	err = manage(ctx, config)
	if err == nil {
		err = restrictUser(ctx, environment)
	}
	return errors.Join(err, environment.Stop())
}

// restrictUser checks that a further user of the environment may do what a role allows, and nothing else.
func restrictUser(ctx context.Context, environment *envtest.Environment) error {
	user, err := environment.AddUser(envtest.User{Name: "jane", Groups: []string{"readers"}}, nil)
	if err != nil {
		return err
	}
	jane, err := client.New(user.Config(), client.Options{})
	if err != nil {
		return err
	}
	if err := jane.List(ctx, &corev1.SecretList{}); !apierrors.IsForbidden(err) {
		return fmt.Errorf("a user without roles read secrets: %w", err)
	}
	return nil
}

// manage runs a manager whose controller keeps a secret for each deployment, and checks what it makes.
func manage(ctx context.Context, config *rest.Config) error {
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Metrics:        metricsserver.Options{BindAddress: "0"},
		LeaderElection: true, LeaderElectionID: "clients", LeaderElectionNamespace: "default", LeaderElectionReleaseOnCancel: true,
		HealthProbeBindAddress: "127.0.0.1:0",
	})
	if err != nil {
		return err
	}
	if err := manager.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	index := func(object client.Object) []string {
		if owner := metav1.GetControllerOf(object); owner != nil {
			return []string{owner.Name}
		}
		return nil
	}
	if err := manager.GetFieldIndexer().IndexField(ctx, &corev1.Secret{}, ownerIndex, index); err != nil {
		return err
	}
	keeper := &keeper{Client: manager.GetClient()}
	if err := ctrl.NewControllerManagedBy(manager).For(&appsv1.Deployment{}).Owns(&corev1.Secret{}).Complete(keeper); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- manager.Start(running) }()
	err = exercise(ctx, manager.GetClient(), manager.GetAPIReader())
	stop()
	select {
	case stopped := <-ended:
		return errors.Join(err, stopped)
	case <-time.After(stopLimit):
		return errors.Join(err, errors.New("the manager does not stop"))
	}
}

// keeper keeps a secret for each deployment and notes in the deployment that it has seen it.
type keeper struct{ client.Client }

func (k *keeper) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var owner appsv1.Deployment
	if err := k.Get(ctx, request.NamespacedName, &owner); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: owner.Namespace, Name: owner.Name}}
	_, err := controllerutil.CreateOrPatch(ctx, k.Client, secret, func() error {
		secret.Data = map[string][]byte{"replicas": fmt.Append(nil, *owner.Spec.Replicas)}
		return controllerutil.SetControllerReference(&owner, secret, k.Scheme())
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	before := owner.DeepCopy()
	// Not the generation: a changed annotation gives a deployment a new one.
	metav1.SetMetaDataAnnotation(&owner.ObjectMeta, seenAnnotation, fmt.Sprint(*owner.Spec.Replicas))
	if err := k.Patch(ctx, &owner, client.MergeFrom(before)); err != nil {
		return ctrl.Result{}, err
	}
	before = owner.DeepCopy()
	owner.Status.ObservedGeneration = owner.Generation
	return ctrl.Result{}, k.Status().Patch(ctx, &owner, client.MergeFrom(before))
}

func exercise(ctx context.Context, cached client.Client, reader client.Reader) error {
	const namespace = "default"
	for index := range managedObjects {
		object := deployment(fmt.Sprintf("managed-%02d", index), 1)
		object.Namespace = namespace
		if err := cached.Create(ctx, object); err != nil {
			return err
		}
	}
	if err := waitFor(ctx, "every deployment is seen", func() (bool, error) { return allSeen(ctx, reader, "1") }); err != nil {
		return err
	}
	// The controller makes a secret again that somebody deletes, and follows a change.
	gone := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "managed-00"}}
	if err := cached.Delete(ctx, gone); err != nil {
		return err
	}
	var list appsv1.DeploymentList
	if err := reader.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return err
	}
	for _, object := range list.Items {
		patch := client.RawPatch(client.Merge.Type(), []byte(`{"spec":{"replicas":7}}`))
		if err := cached.Patch(ctx, &object, patch); err != nil {
			return err
		}
	}
	if err := waitFor(ctx, "every change is seen", func() (bool, error) { return allSeen(ctx, reader, "7") }); err != nil {
		return err
	}
	// Through the cache, by the index.
	return waitFor(ctx, "the cache holds the secret of one owner", func() (bool, error) {
		var secrets corev1.SecretList
		err := cached.List(ctx, &secrets, client.InNamespace(namespace), client.MatchingFields{ownerIndex: "managed-00"})
		return err == nil && len(secrets.Items) == 1 && string(secrets.Items[0].Data["replicas"]) == "7", err
	})
}

func allSeen(ctx context.Context, reader client.Reader, replicas string) (bool, error) {
	var deployments appsv1.DeploymentList
	var secrets corev1.SecretList
	if err := errors.Join(reader.List(ctx, &deployments), reader.List(ctx, &secrets)); err != nil {
		return false, err
	}
	kept := map[string]string{}
	for _, secret := range secrets.Items {
		kept[secret.Name] = string(secret.Data["replicas"])
	}
	for _, object := range deployments.Items {
		seen, observed := object.Annotations[seenAnnotation], object.Status.ObservedGeneration
		if seen != replicas || observed != object.Generation || kept[object.Name] != replicas {
			return false, fmt.Errorf("%s is seen with %q replicas at generation %d, its secret holds %q",
				object.Name, seen, observed, kept[object.Name])
		}
	}
	if len(deployments.Items) != managedObjects {
		return false, fmt.Errorf("%d deployments", len(deployments.Items))
	}
	return true, nil
}
