package virtrpc_test

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// proxy passes bytes on between its own TCP address and a server, until it is told to be in the way.
type proxy struct {
	listener net.Listener
	target   string

	mutex sync.Mutex
	ends  []net.Conn
	muted bool
	moved *sync.Cond
}

func newProxy(t *testing.T, address string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: strings.TrimPrefix(address, "unix://")}
	p.moved = sync.NewCond(&p.mutex)
	go p.serve()
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// mute holds back what the server says, without closing anything.
func (p *proxy) mute(muted bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.muted = muted
	p.moved.Broadcast()
}

// cut closes every connection, and whatever was held back is lost. New ones are taken.
func (p *proxy) cut() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for _, end := range p.ends {
		_ = end.Close()
	}
	p.ends, p.muted = nil, false
	p.moved.Broadcast()
}

func (p *proxy) serve() {
	for {
		caller, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.target)
		if err != nil {
			_ = caller.Close()
			continue
		}
		p.mutex.Lock()
		p.ends = append(p.ends, caller, server)
		p.mutex.Unlock()
		go p.pass(caller, server, func() {})
		go p.pass(server, caller, p.hold)
	}
}

func (p *proxy) hold() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for p.muted {
		p.moved.Wait()
	}
}

func (p *proxy) pass(from io.ReadCloser, to io.WriteCloser, hold func()) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 1<<16)
	for {
		count, err := from.Read(buffer)
		if err != nil {
			return
		}
		hold()
		if _, err := to.Write(buffer[:count]); err != nil {
			return
		}
	}
}
