package main

import (
	"bytes"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// front stands before the simulator: it holds calls that a test wants to be out, and mends answers.
type front struct {
	proxy    *httputil.ReverseProxy
	switches *switches
}

var (
	methodOf   = regexp.MustCompile(`<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)`)
	machineOf  = regexp.MustCompile(`<path[^>]*>([^<]*\.vmx)</path>`)
	snapshotOf = regexp.MustCompile(`<_this[^>]*type="VirtualMachineSnapshot"[^>]*>([^<]*)<`)
	taskOf     = regexp.MustCompile(`<returnval type="Task">([^<]*)<`)
)

func (f *front) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	switch {
	case err != nil: // the caller is gone
	case strings.HasPrefix(request.URL.Path, "/bed/"):
		f.switches.ServeHTTP(answer, request)
	case request.URL.Path == "/screen":
		answer.Header().Set("Content-Type", "image/png")
		_ = png.Encode(answer, image.NewGray(image.Rect(0, 0, 640, 480)))
	case request.Method == http.MethodGet && path.Ext(request.URL.Path) == ".vmx":
		said := f.pass(request, nil)
		write(answer, said, current(fileOf(request.URL), said.Body.Bytes()))
	default:
		said := f.call(request, body)
		write(answer, said, mend(said.Body.Bytes(), f.switches.mountPaths()))
	}
}

// call passes a SOAP call on, unless it is held, with what a real host does besides.
func (f *front) call(request *http.Request, body []byte) *httptest.ResponseRecorder {
	method := first(methodOf, body)
	f.switches.hold(request, method)
	defer f.switches.hold(request, "answer-"+method)
	if method == "RemoveSnapshot_Task" {
		passOn(first(snapshotOf, body))
	}
	if method != "RegisterVM_Task" {
		return f.pass(request, body)
	}
	definition := first(machineOf, body)
	addFiles(definition)
	said := f.pass(request, body)
	adopt(definition, first(taskOf, said.Body.Bytes()))
	return said
}

func (f *front) pass(request *http.Request, body []byte) *httptest.ResponseRecorder {
	request.Body = io.NopCloser(bytes.NewReader(body))
	said := httptest.NewRecorder()
	f.proxy.ServeHTTP(said, request)
	return said
}

func write(answer http.ResponseWriter, said *httptest.ResponseRecorder, body []byte) {
	for name, values := range said.Header() {
		if name != "Content-Length" {
			answer.Header()[name] = values
		}
	}
	answer.WriteHeader(said.Code)
	_, _ = answer.Write(body) // a caller that is gone wants no answer
}

// fileOf is a datastore file as the API writes it: [datastore] directory/file.
func fileOf(address *url.URL) string {
	return "[" + address.Query().Get("dsName") + "] " + strings.TrimPrefix(address.Path, "/folder/")
}

func first(pattern *regexp.Regexp, text []byte) string {
	if found := pattern.FindSubmatch(text); found != nil {
		return string(found[1])
	}
	return ""
}
