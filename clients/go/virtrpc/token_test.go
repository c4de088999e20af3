package virtrpc_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"virtrpc.dev/go/virtrpc"
	"virtrpc.dev/go/virtrpcv1"
)

const issuer = "https://idp.example.org"

// provider vouches for alice with a key that servers find in a file.
type provider struct {
	key  *ecdsa.PrivateKey
	keys string
}

func newProvider(t *testing.T) *provider {
	p := &provider{key: newKey(), keys: t.TempDir() + "/jwks.json"}
	point, err := p.key.PublicKey.Bytes() // 4, x, y
	must(err)
	key := map[string]string{"kty": "EC", "crv": "P-256", "kid": "1", "use": "sig", "x": base64URL(point[1:33]), "y": base64URL(point[33:])}
	text, err := json.Marshal(map[string]any{"keys": []any{key}})
	must(err)
	must(os.WriteFile(p.keys, text, 0o600))
	return p
}

func (p *provider) token(ends time.Duration) string {
	claims := map[string]any{"iss": issuer, "aud": "virtrpc", "sub": "alice", "exp": time.Now().Add(ends).Unix()}
	signed := encoded(map[string]string{"alg": "ES256", "kid": "1", "typ": "JWT"}) + "." + encoded(claims)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, digest[:])
	must(err)
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64URL(signature)
}

func encoded(part any) string {
	text, err := json.Marshal(part)
	must(err)
	return base64URL(text)
}

func base64URL(content []byte) string { return base64.RawURLEncoding.EncodeToString(content) }

// TestToken does the main job as whoever the token says, and nobody else comes in; a job is followed over the end of a token that was renewed.
func TestToken(t *testing.T) {
	authority, provider := newAuthority(t), newProvider(t)
	address := taking(t, authority, provider)
	encrypted := virtrpc.WithTLS(virtrpc.TLSFiles{CA: authority.directory + "/ca.pem", ServerName: "virt.example"})
	mainJob(t, address, "guest-1", encrypted, virtrpc.WithToken(provider.token(time.Hour)))

	t.Run("owner", func(t *testing.T) {
		job := start(t, connect(t, address, encrypted, virtrpc.WithToken(provider.token(time.Hour))), save("quick/guest-2"))
		if done, err := job.Wait(within(t)); err != nil || done.GetOwner() != "jwt:"+issuer+"#alice" {
			t.Error(done, err)
		}
	})
	for name, options := range map[string][]virtrpc.Option{
		"none":    {encrypted},
		"expired": {encrypted, virtrpc.WithToken(provider.token(-time.Hour))},
		"foreign": {encrypted, virtrpc.WithToken(newProvider(t).token(time.Hour))},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := connect(t, address, options...).Start(within(t), save("quick/guest-2")); !errors.Is(err, virtrpc.ErrUnauthenticated) {
				t.Error(err)
			}
		})
	}
	t.Run("renewed", func(t *testing.T) {
		file, broken := t.TempDir()+"/token", &breaks{}
		renew := func(ends time.Duration) { must(os.WriteFile(file, []byte(provider.token(ends)), 0o600)) }
		renew(time.Hour)
		client := connect(t, address, encrypted, virtrpc.WithTokenFile(file), broken.told())
		domain(t, client, "slow/guest-3") // connected
		renew(5 * time.Second)
		job := start(t, client, save("slow/guest-3"))
		renew(time.Hour)
		until(t, job, func(*virtrpcv1.Job) bool { return broken.count.Load() > 0 })
		cancel(t, job)
		ended(t, job, virtrpc.ErrCancelled)
	})
}

// taking is the TCP address of a server that takes this provider's tokens.
func taking(t *testing.T, a *authority, p *provider) string {
	own := a.server()
	s := newServer(quick, slow)
	settings := fmt.Sprintf("[jwt]\nissuer = %q\naudience = \"virtrpc\"\njwks_file = %q\nleeway_seconds = 0\n", issuer, p.keys)
	must(os.WriteFile(s.directory+"/toml", []byte(settings), 0o600))
	rules := s.directory + "/policy.cedar"
	must(os.WriteFile(rules, []byte("permit(principal, action, resource);"), 0o600))
	s.options = append(s.options, "--listen", "127.0.0.1:0", "--policy", rules, "--tls-certificate", own.Certificate, "--tls-key", own.Key)
	s.start()
	t.Cleanup(s.remove)
	return s.tcp()
}
