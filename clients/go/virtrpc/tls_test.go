package virtrpc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"virtrpc.dev/go/virtrpc"
	"virtrpc.dev/go/virtrpcv1"
)

const operator = "spiffe://example.org/operator"

// authority signs certificates, and writes all that it makes as PEM files to a directory.
type authority struct {
	directory   string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{directory: t.TempDir()}
	a.certificate, a.key = &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, newKey()
	a.sign("ca", a.certificate, a.key)
	return a
}

// issue makes a certificate that ends in a while.
func (a *authority) issue(name string, ends time.Duration, change func(*x509.Certificate)) virtrpc.TLSFiles {
	key := newKey()
	template := &x509.Certificate{NotAfter: time.Now().Add(ends), KeyUsage: x509.KeyUsageDigitalSignature}
	change(template)
	a.sign(name, template, key)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	a.write(name+".key", "PRIVATE KEY", private)
	return virtrpc.TLSFiles{CA: a.directory + "/ca.pem", Certificate: a.directory + "/" + name + ".pem", Key: a.directory + "/" + name + ".key"}
}

func (a *authority) client(name string, ends time.Duration) virtrpc.TLSFiles {
	return a.issue(name, ends, func(template *x509.Certificate) {
		identity, err := url.Parse(operator)
		must(err)
		template.URIs, template.ExtKeyUsage = []*url.URL{identity}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
}

func (a *authority) sign(name string, template *x509.Certificate, key *ecdsa.PrivateKey) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(err)
	template.SerialNumber, template.Subject.CommonName, template.NotBefore = serial, name, time.Now().Add(-48*time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	must(err)
	a.write(name+".pem", "CERTIFICATE", signed)
}

func (a *authority) write(name, kind string, content []byte) {
	must(os.WriteFile(a.directory+"/"+name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600))
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return key
}

func (a *authority) server() virtrpc.TLSFiles {
	return a.issue("server", time.Hour, func(template *x509.Certificate) {
		template.DNSNames, template.ExtKeyUsage = []string{"virt.example"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
}

// encrypted is the TCP address of a server that takes clients with certificates of this authority.
func encrypted(t *testing.T, a *authority) string {
	own := a.server()
	rules := filepath.Join(t.TempDir(), "policy.cedar")
	if err := os.WriteFile(rules, []byte("permit(principal, action, resource);"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(quick, slow)
	s.options = append(s.options, "--listen", "127.0.0.1:0", "--policy", rules)
	s.options = append(s.options, "--tls-certificate", own.Certificate, "--tls-key", own.Key, "--tls-client-ca", own.CA)
	s.start()
	t.Cleanup(s.remove)
	return s.tcp()
}

// TestMutualTLS does the main job as whoever the certificate says, and no certificate but a valid one of the right authority comes through.
func TestMutualTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	address := encrypted(t, ours)
	valid, expired := ours.client("valid", time.Hour), ours.client("expired", -time.Hour)
	valid.ServerName, expired.ServerName = "virt.example", "virt.example"
	mainJob(t, address, "guest-1", virtrpc.WithTLS(valid))

	t.Run("owner", func(t *testing.T) {
		job := start(t, connect(t, address, virtrpc.WithTLS(valid)), save("quick/guest-2"))
		if done, err := job.Wait(within(t)); err != nil || done.GetOwner() != operator {
			t.Error(done, err)
		}
	})

	t.Run("as the environment says", func(t *testing.T) {
		t.Setenv("VIRTRPC_CA", valid.CA)
		t.Setenv("VIRTRPC_CERTIFICATE", valid.Certificate)
		t.Setenv("VIRTRPC_KEY", valid.Key)
		t.Setenv("VIRTRPC_SERVER_NAME", valid.ServerName)
		domain(t, connect(t, address), "quick/guest-1")
	})

	t.Run("by a config", func(t *testing.T) {
		pair, err := tls.LoadX509KeyPair(valid.Certificate, valid.Key)
		must(err)
		text, err := os.ReadFile(valid.CA)
		must(err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(text)
		config := &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: valid.ServerName}
		domain(t, connect(t, address, virtrpc.WithTLSConfig(config)), "quick/guest-1")
	})

	foreign := others.client("foreign", time.Hour)
	for name, files := range map[string]virtrpc.TLSFiles{
		"no certificate":   {CA: valid.CA, ServerName: valid.ServerName},
		"expired":          expired,
		"other authority":  {CA: valid.CA, Certificate: foreign.Certificate, Key: foreign.Key, ServerName: valid.ServerName},
		"other server":     {CA: foreign.CA, Certificate: valid.Certificate, Key: valid.Key, ServerName: valid.ServerName},
		"other name of it": {CA: valid.CA, Certificate: valid.Certificate, Key: valid.Key, ServerName: "elsewhere.example"},
	} {
		t.Run(name, func(t *testing.T) { isKeptOut(t, connect(t, address, virtrpc.WithTLS(files))) })
	}
	t.Run("in the clear", func(t *testing.T) { isKeptOut(t, connect(t, address)) })

	t.Run("renewed", func(t *testing.T) {
		client := connect(t, address, virtrpc.WithTLS(expired))
		isKeptOut(t, client)
		ours.client("expired", time.Hour)
		must(poll(func() error {
			_, err := client.Query.ListHosts(within(t), &virtrpcv1.ListHostsRequest{})
			return err
		}))
	})
}

func isKeptOut(t *testing.T, client *virtrpc.Client) {
	t.Helper()
	if _, err := client.Query.ListHosts(within(t), &virtrpcv1.ListHostsRequest{}); !errors.Is(err, virtrpc.ErrServerUnavailable) {
		t.Error(err)
	}
}

// TestFilesAreLookedAtFirst gives the error of a file when the client is made.
func TestFilesAreLookedAtFirst(t *testing.T) {
	a := newAuthority(t)
	good := a.client("good", time.Hour)
	for _, files := range []virtrpc.TLSFiles{
		{CA: "/nonexistent"}, {CA: good.Key}, {Certificate: good.Certificate}, {Certificate: good.Key, Key: good.Key},
	} {
		if _, err := virtrpc.NewClient("virt.example:50051", virtrpc.WithTLS(files)); err == nil {
			t.Errorf("%+v was taken", files)
		}
	}
	if _, err := virtrpc.NewClient("unix:///run/v.sock", virtrpc.WithTLS(good)); err == nil {
		t.Error("TLS over a Unix socket")
	}
	if _, err := virtrpc.NewClient("unix:///run/v.sock", virtrpc.WithTLSConfig(&tls.Config{})); err == nil {
		t.Error("TLS over a Unix socket, by a config")
	}
}
