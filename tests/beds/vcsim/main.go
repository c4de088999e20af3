// Command vcsim serves govmomi's simulated ESX host or vCenter as libvirt's esx driver wants to see it.
//
// It prints its address, listens on 127.0.0.1 with TLS, and ends when its standard input closes.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"

	"github.com/vmware/govmomi/simulator"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where to listen; port 0 is any that is free")
	kind := flag.String("model", "esx", "esx: one host; vpx: a vCenter with one host, DC0/DC0_H0")
	flag.Parse()
	model := simulator.ESX()
	if *kind == "vpx" {
		model = simulator.VPX()
		model.Cluster = 0
	}
	model.Host, model.Machine = 1, 1
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	completeHost()
	for _, machine := range machines() {
		runTools(machine)
	}
	serve(model, *listen)
	_, _ = io.Copy(io.Discard, os.Stdin)
	model.Remove()
}

// serve starts the simulator on plain HTTP, so that what stands before it can read along.
func serve(model *simulator.Model, address string) {
	inner := model.Service.NewServer()
	silent := log.New(io.Discard, "", 0) // a client that is killed breaks its connections
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: inner.URL.Scheme, Host: inner.URL.Host})
	proxy.ErrorLog = silent
	outer := httptest.NewUnstartedServer(&front{proxy, newSwitches()})
	_ = outer.Listener.Close()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	outer.Listener = listener
	outer.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	outer.Config.ErrorLog = silent
	outer.StartTLS()
	fmt.Println(outer.Listener.Addr())
}
