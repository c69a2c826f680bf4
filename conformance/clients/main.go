// Command clients runs programs as users write them, with upstream's client libraries, against a server, and checks what they
// come to. Each program is a function of its own and works in a namespace of its own.
//
// Without -url it starts the given binary itself: as it is for all programs but one, and as controller-runtime's
// test environment starts a kube-apiserver for that one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// programLimit ends a program that waits for something that does not come.
const programLimit = 2 * time.Minute

// program is one client: it works with the server of a configuration and says what was not as it should be.
type program struct {
	name string
	run  func(ctx context.Context, config *rest.Config) error
}

var programs = []program{
	{"discovery", discoverAll},
	{"openapi-v2", readOldSchema},
	{"typed-json", withContentType(typeJSON, useTyped)},
	{"typed-protobuf", withContentType(typeProtobuf, useTyped)},
	{"apply-json", withContentType(typeJSON, useApply)},
	{"apply-protobuf", withContentType(typeProtobuf, useApply)},
	{"dynamic", useDynamic},
	{"metadata-json", withContentType(typeJSON, useMetadata)},
	{"metadata-protobuf", withContentType(typeProtobuf, useMetadata)},
	{"watchlist", watchInitialEvents},
	{"informers-watchlist", withContentType(typeProtobuf, followThroughCuts(true))},
	{"informers-list", withContentType(typeJSON, followThroughCuts(false))},
	{"leader-election", elect},
}

type options struct {
	binary, etcd   string
	url, token, ca string
	verbose        bool
	names          []string
	outcome        map[string]error
	passed         int
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "", "the ironclad binary")
	flag.StringVar(&o.etcd, "etcd", "", "the etcd binary; the test environment needs it")
	flag.StringVar(&o.url, "url", "", "a running server, instead of one of the binary's")
	flag.StringVar(&o.token, "token", "", "the token of its administrator")
	flag.StringVar(&o.ca, "ca", "", "the file with its authority")
	flag.BoolVar(&o.verbose, "v", false, "show what the libraries log")
	flag.Parse()
	o.names = flag.Args()
	if !o.verbose {
		klog.SetLogger(logr.Discard())
		log.SetLogger(logr.Discard())
	} else {
		log.SetLogger(klog.Background())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.runAll(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		os.Exit(1)
	}
}

func (o *options) runAll(ctx context.Context) error {
	known := []string{testEnvironment}
	for _, p := range programs {
		known = append(known, p.name)
	}
	for _, name := range o.names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("no program is called %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	if slices.ContainsFunc(programs, func(p program) bool { return o.isWanted(p.name) }) {
		if err := o.runOnServer(ctx); err != nil {
			return err
		}
	}
	if o.isWanted(testEnvironment) && o.url == "" {
		o.runOne(ctx, testEnvironment, func(ctx context.Context) error { return manageInTestEnvironment(ctx, o.binary, o.etcd) })
	}
	fmt.Printf("%d passed, %d failed\n", o.passed, len(o.outcome))
	if len(o.outcome) > 0 {
		return errors.New("some programs failed")
	}
	return nil
}

func (o *options) runOnServer(ctx context.Context) error {
	config := &rest.Config{Host: o.url, BearerToken: o.token, TLSClientConfig: rest.TLSClientConfig{CAFile: o.ca}}
	if o.url == "" {
		server, err := startServer(ctx, o.binary)
		if err != nil {
			return err
		}
		defer server.stop()
		config = server.config
	}
	config.QPS, config.Burst = 2000, 4000
	config.UserAgent = "clients/1.0"
	for _, p := range programs {
		if o.isWanted(p.name) {
			o.runOne(ctx, p.name, func(ctx context.Context) error { return p.run(ctx, rest.CopyConfig(config)) })
		}
	}
	return nil
}

func (o *options) isWanted(name string) bool {
	return len(o.names) == 0 || slices.Contains(o.names, name)
}

func (o *options) runOne(ctx context.Context, name string, run func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, programLimit)
	defer cancel()
	started := time.Now()
	err := run(ctx)
	took := time.Since(started).Seconds()
	if err != nil {
		fmt.Printf("FAIL %s (%.1f s): %v\n", name, took, err)
		if o.outcome == nil {
			o.outcome = map[string]error{}
		}
		o.outcome[name] = err
		return
	}
	fmt.Printf("ok   %s (%.1f s)\n", name, took)
	o.passed++
}
