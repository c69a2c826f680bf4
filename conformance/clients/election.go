package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const candidates = 3

// ballot records who leads. Two at once are an error.
type ballot struct {
	mutex   sync.Mutex
	leader  string
	history []string
	wrong   error
}

func (b *ballot) take(name string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.leader != "" {
		b.wrong = errors.Join(b.wrong, fmt.Errorf("%s leads while %s does", name, b.leader))
	}
	b.leader = name
	b.history = append(b.history, name)
}

func (b *ballot) leave(name string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.leader == name {
		b.leader = ""
	}
}

func (b *ballot) now() (string, int) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.leader, len(b.history)
}

// elect lets three candidates stand for one lease and ends each leader in turn: there is never more than one, and the
// last one leads too.
func elect(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	namespace, err := newNamespace(ctx, client)
	if err != nil {
		return err
	}
	ballot := &ballot{}
	stops := map[string]context.CancelFunc{}
	var running sync.WaitGroup
	defer running.Wait()
	for index := range candidates {
		name := fmt.Sprintf("candidate-%d", index)
		own, stop := context.WithCancel(ctx)
		defer stop()
		stops[name] = stop
		running.Go(func() { stand(own, client, namespace, name, ballot) })
	}
	for term := 1; term <= candidates; term++ {
		var leader string
		err := waitFor(ctx, fmt.Sprintf("there is leader number %d", term), func() (bool, error) {
			name, terms := ballot.now()
			leader = name
			return name != "" && terms == term, nil
		})
		if err != nil {
			return err
		}
		lease, err := client.CoordinationV1().Leases(namespace).Get(ctx, "election", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if *lease.Spec.HolderIdentity != leader || *lease.Spec.LeaseTransitions < int32(term-1) {
			return fmt.Errorf("%s leads, and the lease says %+v", leader, lease.Spec)
		}
		// Its last breath is not a second leader's term: the lease is given back before the callback says so.
		ballot.leave(leader)
		stops[leader]()
	}
	ballot.mutex.Lock()
	defer ballot.mutex.Unlock()
	return ballot.wrong
}

func stand(ctx context.Context, client kubernetes.Interface, namespace, name string, ballot *ballot) {
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: "election"},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		},
		LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 200 * time.Millisecond,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				ballot.take(name)
				<-ctx.Done()
				ballot.leave(name)
			},
			OnStoppedLeading: func() { ballot.leave(name) },
		},
	})
}

// watchInitialEvents asks for a watch that begins with what there is: every object once, the bookmark that says so, and then
// what changes.
func watchInitialEvents(ctx context.Context, config *rest.Config) error {
	const objects = 200
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	namespace, err := newNamespace(ctx, client)
	if err != nil {
		return err
	}
	for index := range objects {
		if err := create(ctx, client, namespace, index); err != nil {
			return err
		}
	}
	yes, limit := true, int64(60)
	options := metav1.ListOptions{
		SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		AllowWatchBookmarks: true, TimeoutSeconds: &limit,
	}
	events, err := client.CoreV1().ConfigMaps(namespace).Watch(ctx, options)
	if err != nil {
		return err
	}
	defer events.Stop()
	names := map[string]bool{}
	for {
		event, ok := <-events.ResultChan()
		if !ok {
			return errors.New("the watch ended before its bookmark")
		}
		object, isMap := event.Object.(*corev1.ConfigMap)
		if isMap && event.Type == watch.Added {
			names[object.Name] = true
			continue
		}
		if !isMap || event.Type != watch.Bookmark || object.Annotations[metav1.InitialEventsAnnotationKey] != "true" {
			return fmt.Errorf("%s of %+v among the initial events", event.Type, event.Object)
		}
		if len(names) != objects || object.ResourceVersion == "" {
			return fmt.Errorf("%d objects before the bookmark at %q", len(names), object.ResourceVersion)
		}
		break
	}
	if err := create(ctx, client, namespace, objects); err != nil {
		return err
	}
	if err := expect(ctx, events, watch.Added, fmt.Sprintf("object-%04d", objects)); err != nil {
		return err
	}
	options.ResourceVersionMatch = ""
	if _, err = client.CoreV1().ConfigMaps(namespace).Watch(ctx, options); !apierrors.IsInvalid(err) {
		return fmt.Errorf("initial events without a match of versions: %w", err)
	}
	return nil
}
