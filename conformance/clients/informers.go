package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	followedObjects = 1000
	followedCuts    = 6
	writers         = 8
	// cutPause lets an informer come back and get some way before the next cut.
	cutPause = 300 * time.Millisecond
)

// plainListWatch is a source that an informer lists and watches, instead of asking for a watch with initial events.
type plainListWatch struct{ *cache.ListWatch }

// IsWatchListSemanticsUnSupported is how a source says so to the library.
func (plainListWatch) IsWatchListSemanticsUnSupported() bool { return true }

// seen is what an informer's handlers were told.
type seen struct {
	mutex    sync.Mutex
	versions map[string]string
	wrong    []error
	added    atomic.Int64
	updated  atomic.Int64
	deleted  atomic.Int64
}

// followThroughCuts keeps an informer on 1,000 objects that writers change while the informer's connections are cut again
// and again; at the end it holds what the server holds, and its handlers were told no lie on the way.
func followThroughCuts(watchList bool) func(context.Context, *rest.Config) error {
	return func(ctx context.Context, config *rest.Config) error {
		direct, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		namespace, err := newNamespace(ctx, direct)
		if err != nil {
			return err
		}
		parsed, err := url.Parse(config.Host)
		if err != nil {
			return err
		}
		proxy, err := startProxy(parsed.Host)
		if err != nil {
			return err
		}
		defer proxy.stop()
		through := rest.CopyConfig(config)
		through.Host = proxy.url()
		// A dialer of its own keeps the library from sharing the transport with others.
		informed, err := kubernetes.NewForConfig(through)
		if err != nil {
			return err
		}
		if err := write(ctx, direct, namespace, create); err != nil {
			return err
		}
		informer, told := follow(informed, namespace, watchList)
		stop, cancel := context.WithCancel(ctx)
		defer cancel()
		go informer.RunWithContext(stop)
		if err := waitFor(ctx, "the informer is synced", func() (bool, error) { return informer.HasSynced(), nil }); err != nil {
			return err
		}
		cutting, done := context.WithCancel(ctx)
		defer done()
		cut := make(chan int, 1)
		go func() { cut <- cutRepeatedly(cutting, proxy) }()
		err = errors.Join(write(ctx, direct, namespace, update), write(ctx, direct, namespace, removeOdd))
		count := 0
		for count == 0 && err == nil {
			// A watch that is cut without an event is not opened again at once: there is something to hear until the last cut.
			select {
			case count = <-cut:
			case <-time.After(poll):
				err = update(ctx, direct, namespace, 0)
			}
		}
		if err == nil && count < followedCuts {
			err = fmt.Errorf("%d connections were cut, fewer than %d", count, followedCuts)
		}
		if err != nil {
			return err
		}
		return compare(ctx, direct, namespace, informer, told)
	}
}

func follow(client kubernetes.Interface, namespace string, watchList bool) (cache.SharedIndexInformer, *seen) {
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return client.CoreV1().ConfigMaps(namespace).List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return client.CoreV1().ConfigMaps(namespace).Watch(ctx, options)
		},
	}
	var from cache.ListerWatcher = source
	if !watchList {
		from = plainListWatch{source}
	}
	informer := cache.NewSharedIndexInformer(from, &corev1.ConfigMap{}, 0, cache.Indexers{})
	told := &seen{versions: map[string]string{}}
	_, _ = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { told.added.Add(1); told.note(nil, object.(*corev1.ConfigMap)) },
		UpdateFunc: func(old, object any) {
			told.updated.Add(1)
			told.note(old.(*corev1.ConfigMap), object.(*corev1.ConfigMap))
		},
		DeleteFunc: func(object any) { told.deleted.Add(1); told.forget(object) },
	})
	return informer, told
}

// note takes an addition (without an old object) or a change, which never goes back in time.
func (s *seen) note(old, object *corev1.ConfigMap) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	known, isKnown := s.versions[object.Name]
	switch {
	case old == nil && isKnown:
		s.wrong = append(s.wrong, fmt.Errorf("%s was added twice", object.Name))
	case old != nil && known != old.ResourceVersion:
		s.wrong = append(s.wrong, fmt.Errorf("%s changed from version %s, known was %q", object.Name, old.ResourceVersion, known))
	case old != nil && number(object.ResourceVersion) < number(known):
		s.wrong = append(s.wrong, fmt.Errorf("%s went back from version %s to %s", object.Name, known, object.ResourceVersion))
	}
	s.versions[object.Name] = object.ResourceVersion
}

func (s *seen) forget(object any) {
	if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.versions, object.(*corev1.ConfigMap).Name)
}

func number(version string) uint64 {
	parsed, _ := strconv.ParseUint(version, 10, 64)
	return parsed
}

// cutRepeatedly cuts what is open some time after it was opened.
func cutRepeatedly(ctx context.Context, proxy *proxy) int {
	count := 0
	for count < followedCuts && ctx.Err() == nil {
		if waitFor(ctx, "the informer is back", func() (bool, error) { return proxy.count() > 0, nil }) != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(cutPause):
			count += proxy.cut()
		}
	}
	return count
}

type step func(ctx context.Context, client kubernetes.Interface, namespace string, index int) error

func create(ctx context.Context, client kubernetes.Interface, namespace string, index int) error {
	object := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("object-%04d", index)},
		Data:       map[string]string{"generation": "1"},
	}
	_, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, object, metav1.CreateOptions{})
	return err
}

func update(ctx context.Context, client kubernetes.Interface, namespace string, index int) error {
	objects := client.CoreV1().ConfigMaps(namespace)
	for generation := 2; generation <= 3; generation++ {
		object, err := objects.Get(ctx, fmt.Sprintf("object-%04d", index), metav1.GetOptions{})
		if err != nil {
			return err
		}
		object.Data["generation"] = strconv.Itoa(generation)
		if _, err := objects.Update(ctx, object, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func removeOdd(ctx context.Context, client kubernetes.Interface, namespace string, index int) error {
	if index%2 == 0 {
		return nil
	}
	return client.CoreV1().ConfigMaps(namespace).Delete(ctx, fmt.Sprintf("object-%04d", index), metav1.DeleteOptions{})
}

// write takes a step for every object, some at once.
func write(ctx context.Context, client kubernetes.Interface, namespace string, take step) error {
	failures := make(chan error, writers)
	for writer := range writers {
		go func() {
			var err error
			for index := writer; index < followedObjects && err == nil; index += writers {
				err = take(ctx, client, namespace, index)
			}
			failures <- err
		}()
	}
	var all error
	for range writers {
		all = errors.Join(all, <-failures)
	}
	return all
}

func compare(ctx context.Context, client kubernetes.Interface, namespace string, informer cache.SharedIndexInformer, told *seen) error {
	list, err := client.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	want := map[string]string{}
	for _, object := range list.Items {
		want[object.Name] = object.ResourceVersion
	}
	if len(want) != followedObjects/2 {
		return fmt.Errorf("the server holds %d objects, not %d", len(want), followedObjects/2)
	}
	err = waitFor(ctx, "the informer holds what the server holds", func() (bool, error) {
		held := map[string]string{}
		for _, object := range informer.GetStore().List() {
			held[object.(*corev1.ConfigMap).Name] = object.(*corev1.ConfigMap).ResourceVersion
		}
		if !maps.Equal(held, want) {
			return false, fmt.Errorf("it holds %d objects, the server %d", len(held), len(want))
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	err = waitFor(ctx, "the handlers know what the informer holds", func() (bool, error) {
		told.mutex.Lock()
		defer told.mutex.Unlock()
		return maps.Equal(told.versions, want), nil
	})
	told.mutex.Lock()
	defer told.mutex.Unlock()
	if added, deleted := told.added.Load(), told.deleted.Load(); err == nil && added-deleted != int64(len(want)) {
		err = fmt.Errorf("the handlers saw %d additions and %d deletions", added, deleted)
	}
	return errors.Join(err, errors.Join(told.wrong...))
}
