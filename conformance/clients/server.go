package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	readyLimit   = 60 * time.Second
	stopLimit    = 20 * time.Second
	poll         = 20 * time.Millisecond
	adminToken   = "clients-admin"
	typeJSON     = "application/json"
	typeProtobuf = "application/vnd.kubernetes.protobuf"
)

// server is an API server on 127.0.0.1 whose state is gone when it stops.
type server struct {
	config  *rest.Config
	dir     string
	command *exec.Cmd
	log     bytes.Buffer
	ended   chan struct{}
}

func startServer(ctx context.Context, binary string) (*server, error) {
	dir, err := os.MkdirTemp("", "clients-")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, ended: make(chan struct{})}
	if err := s.start(ctx, binary); err != nil {
		s.stop()
		return nil, fmt.Errorf("start %s: %w\n%s", binary, err, s.log.Bytes())
	}
	return s, nil
}

func (s *server) start(ctx context.Context, binary string) error {
	tokens := filepath.Join(s.dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(adminToken+",admin,1,\"system:masters\"\n"), 0o600); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	certs := filepath.Join(s.dir, "certs")
	s.command = exec.Command(binary, "apiserver", "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--cert-dir="+certs, "--data-dir="+filepath.Join(s.dir, "store"), "--token-auth-file="+tokens)
	s.command.Stdout, s.command.Stderr = &s.log, &s.log
	if err := s.command.Start(); err != nil {
		return err
	}
	go func() { _ = s.command.Wait(); close(s.ended) }()
	s.config = &rest.Config{
		Host:            fmt.Sprintf("https://127.0.0.1:%d", port),
		BearerToken:     adminToken,
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(certs, "apiserver.crt")},
	}
	return s.waitReady(ctx)
}

func (s *server) waitReady(ctx context.Context) error {
	deadline := time.Now().Add(readyLimit)
	err := fmt.Errorf("nothing was tried")
	for err != nil && time.Now().Before(deadline) && ctx.Err() == nil {
		select {
		case <-s.ended:
			return fmt.Errorf("it ended: %s", s.command.ProcessState)
		case <-time.After(poll):
		}
		var client *kubernetes.Clientset
		if client, err = kubernetes.NewForConfig(s.config); err == nil {
			err = client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		}
	}
	return err
}

func (s *server) stop() {
	if s.command != nil && s.command.Process != nil {
		_ = s.command.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.ended:
		case <-time.After(stopLimit):
			fmt.Fprintln(os.Stderr, "clients: the server did not stop by itself")
			_ = s.command.Process.Kill()
			<-s.ended
		}
	}
	_ = os.RemoveAll(s.dir)
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// withContentType runs a program with one encoding in both directions.
func withContentType(contentType string, run func(context.Context, *rest.Config) error) func(context.Context, *rest.Config) error {
	return func(ctx context.Context, config *rest.Config) error {
		config.ContentType, config.AcceptContentTypes = contentType, contentType
		if contentType == typeProtobuf {
			// What is not known in protobuf comes as JSON.
			config.AcceptContentTypes += "," + typeJSON
		}
		return run(ctx, config)
	}
}

// newNamespace makes a namespace that no other program uses.
func newNamespace(ctx context.Context, client kubernetes.Interface) (string, error) {
	made, err := client.CoreV1().Namespaces().Create(ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "clients-"}}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("create a namespace: %w", err)
	}
	return made.Name, nil
}

// waitFor asks until the condition holds or the context ends.
func waitFor(ctx context.Context, what string, holds func() (bool, error)) error {
	var last error
	for {
		ok, err := holds()
		if ok && err == nil {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if last != nil {
				return fmt.Errorf("waited in vain until %s: %w", what, last)
			}
			return fmt.Errorf("waited in vain until %s", what)
		case <-time.After(poll):
		}
	}
}
