package main

import (
	"io"
	"net"
	"sync"
)

// proxy passes connections on to a server and can cut them all, as a network does that fails.
type proxy struct {
	listener net.Listener
	target   string
	mutex    sync.Mutex
	open     map[net.Conn]struct{}
}

func startProxy(target string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, target: target, open: map[net.Conn]struct{}{}}
	go p.accept()
	return p, nil
}

func (p *proxy) url() string { return "https://" + p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.keep(client, server)
		go p.copy(client, server)
		go p.copy(server, client)
	}
}

func (p *proxy) keep(connections ...net.Conn) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for _, connection := range connections {
		p.open[connection] = struct{}{}
	}
}

func (p *proxy) copy(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	to.Close()
	from.Close()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	delete(p.open, to)
	delete(p.open, from)
}

// count is how many connections are open.
func (p *proxy) count() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return len(p.open) / 2
}

// cut ends every connection, without a word to either side, and says how many there were.
func (p *proxy) cut() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	count := len(p.open) / 2
	for connection := range p.open {
		if tcp, ok := connection.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		connection.Close()
	}
	p.open = map[net.Conn]struct{}{}
	return count
}

func (p *proxy) stop() {
	p.listener.Close()
	p.cut()
}
