// Package upstream runs Kubernetes' own kube-apiserver with an etcd beside it, for recording what it answers.
//
// Both processes listen on 127.0.0.1 only, keep their state in one temporary directory and end with [Server.Stop].
package upstream

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	startLimit = 120 * time.Second
	stopLimit  = 20 * time.Second
	// AdminToken belongs to a user of the group system:masters.
	AdminToken = "recorder-admin"
	userToken  = "recorder-user"
)

// Server is a running kube-apiserver.
type Server struct {
	URL    string
	dir    string
	client *http.Client
	procs  []*exec.Cmd
}

// Start builds the two programs when `bin` is empty, starts them and waits for /readyz.
func Start(ctx context.Context, bin string, flags ...string) (*Server, error) {
	dir, err := os.MkdirTemp("", "upstream-")
	if err != nil {
		return nil, err
	}
	server := &Server{dir: dir}
	if err := server.start(ctx, bin, flags); err != nil {
		log := server.logTail()
		server.Stop()
		return nil, fmt.Errorf("start upstream: %w\n%s", err, log)
	}
	return server, nil
}

func (s *Server) start(ctx context.Context, bin string, flags []string) error {
	if bin == "" {
		bin = filepath.Join(s.dir, "bin")
		if err := build(ctx, bin); err != nil {
			return err
		}
	}
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	if err := s.writeFiles(); err != nil {
		return err
	}
	etcd := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	peer := fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	err = s.run(filepath.Join(bin, "etcd"), "--data-dir="+s.path("etcd"), "--listen-client-urls="+etcd,
		"--advertise-client-urls="+etcd, "--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer,
		"--initial-cluster=default="+peer, "--unsafe-no-fsync=true", "--logger=zap", "--log-level=warn")
	if err != nil {
		return err
	}
	args := append([]string{
		"--etcd-servers=" + etcd, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", ports[2]), "--cert-dir=" + s.path("certs"),
		"--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=Node,RBAC",
		"--token-auth-file=" + s.path("tokens.csv"), "--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + s.path("sa.key"), "--service-account-signing-key-file=" + s.path("sa.key"),
		"--endpoint-reconciler-type=none",
	}, flags...)
	if err := s.run(filepath.Join(bin, "kube-apiserver"), args...); err != nil {
		return err
	}
	s.URL = fmt.Sprintf("https://127.0.0.1:%d", ports[2])
	return s.waitReady(ctx)
}

func build(ctx context.Context, bin string) error {
	for name, pkg := range map[string]string{
		"etcd": "go.etcd.io/etcd/server/v3", "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
	} {
		command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(bin, name), pkg)
		command.Stderr = os.Stderr
		if err := command.Run(); err != nil {
			return fmt.Errorf("build %s: %w", pkg, err)
		}
	}
	return nil
}

func freePorts(count int) ([]int, error) {
	ports := make([]int, count)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		ports[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) writeFiles() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(s.path("sa.key"), block, 0o600); err != nil {
		return err
	}
	tokens := AdminToken + ",admin,1,\"system:masters\"\n" + userToken + ",jane,2,\"readers\"\n"
	return os.WriteFile(s.path("tokens.csv"), []byte(tokens), 0o600)
}

func (s *Server) run(program string, args ...string) error {
	log, err := os.Create(s.path(filepath.Base(program) + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(program, args...)
	command.Stdout, command.Stderr = log, log
	command.Dir = s.dir
	if err := command.Start(); err != nil {
		return err
	}
	s.procs = append(s.procs, command)
	return nil
}

func (s *Server) waitReady(ctx context.Context) error {
	deadline := time.Now().Add(startLimit)
	var last error
	for time.Now().Before(deadline) && ctx.Err() == nil {
		if last = s.ready(); last == nil {
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return fmt.Errorf("not ready: %w", last)
}

func (s *Server) ready() error {
	if s.client == nil {
		ca, err := os.ReadFile(s.path("certs/apiserver.crt"))
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableCompression: true}
		s.client = &http.Client{Transport: transport, Timeout: 60 * time.Second}
	}
	answer, err := s.Do(Request{Method: "GET", Path: "/readyz"})
	if err != nil {
		return err
	}
	if answer.Status != http.StatusOK {
		return fmt.Errorf("/readyz answered %d", answer.Status)
	}
	return nil
}

// CertificatePath is the file with the server's own certificate, which signs itself.
func (s *Server) CertificatePath() string { return s.path("certs/apiserver.crt") }

// Request is one HTTP request; an empty User means the administrator, "jane" one without rights, and any other
// text is sent as the token.
type Request struct {
	Method, Path, User string
	Header             map[string]string
	Body               []byte
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends one request.
func (s *Server) Do(request Request) (*Answer, error) {
	httpRequest, err := http.NewRequest(request.Method, s.URL+request.Path, bytes.NewReader(request.Body))
	if err != nil {
		return nil, err
	}
	token := request.User
	switch request.User {
	case "":
		token = AdminToken
	case "jane":
		token = userToken
	}
	httpRequest.Header.Set("Authorization", "Bearer "+token)
	httpRequest.Header.Set("User-Agent", "recorder/1.0")
	for name, value := range request.Header {
		httpRequest.Header.Set(name, value)
	}
	response, err := s.client.Do(httpRequest)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return &Answer{Status: response.StatusCode, Header: response.Header, Body: body}, err
}

func (s *Server) logTail() string {
	log, err := os.ReadFile(s.path("kube-apiserver.log"))
	if err != nil {
		return ""
	}
	lines := strings.Split(string(log), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// Stop ends both processes, the last one first, and removes their directory.
func (s *Server) Stop() {
	for i := len(s.procs) - 1; i >= 0; i-- {
		process := s.procs[i]
		ended := make(chan struct{})
		go func() { process.Wait(); close(ended) }()
		process.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(stopLimit):
			process.Process.Kill()
			<-ended
		}
	}
	os.RemoveAll(s.dir)
}
