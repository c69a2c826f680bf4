// Command serve runs upstream's kube-apiserver until it is interrupted, for looking at its answers by hand.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"ironclad.dev/conformance/upstream"
)

func main() {
	bin := flag.String("bin", "", "directory with kube-apiserver and etcd; built when empty")
	flag.Parse()
	server, err := upstream.Start(context.Background(), *bin, flag.Args()...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
	defer server.Stop()
	fmt.Printf("url %s\ntoken %s\nca %s\n", server.URL, upstream.AdminToken, server.CertificatePath())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
}
