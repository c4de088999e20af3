package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// switches are what a test can turn while the simulator runs: PUT and DELETE of /bed/NAME.
type switches struct {
	lock    sync.Mutex
	on      map[string]chan struct{}
	waiting map[string]int
}

func newSwitches() *switches {
	return &switches{on: map[string]chan struct{}{}, waiting: map[string]int{}}
}

// ServeHTTP turns a switch: PUT on, DELETE off; GET says how many calls it holds.
func (s *switches) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	s.lock.Lock()
	defer s.lock.Unlock()
	name := strings.TrimPrefix(request.URL.Path, "/bed/")
	held, isOn := s.on[name]
	switch {
	case request.Method == http.MethodPut && !isOn:
		s.on[name] = make(chan struct{})
	case request.Method == http.MethodDelete && isOn:
		close(held)
		delete(s.on, name)
	case request.Method == http.MethodGet:
		fmt.Fprintln(answer, s.waiting[name])
	}
}

// mountPaths is off while "no-mount-paths" is on.
func (s *switches) mountPaths() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	_, isOn := s.on["no-mount-paths"]
	return !isOn
}

// hold returns at once unless "hold-METHOD" is on; then when it is turned off, or the caller is gone.
func (s *switches) hold(request *http.Request, method string) {
	name := "hold-" + method
	s.lock.Lock()
	released, isOn := s.on[name]
	if isOn {
		s.waiting[name]++
	}
	s.lock.Unlock()
	if !isOn {
		return
	}
	select {
	case <-released:
	case <-request.Context().Done():
	}
	s.lock.Lock()
	s.waiting[name]--
	s.lock.Unlock()
}
