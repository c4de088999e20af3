package virtrpc

import (
	"context"
	"os"
	"strings"
)

// bearer is a token as gRPC's credentials for each call.
type bearer struct{ read func() (string, error) }

func tokenText(token string) *bearer {
	return &bearer{read: func() (string, error) { return token, nil }}
}

func tokenFile(path string) *bearer {
	return &bearer{read: func() (string, error) {
		text, err := os.ReadFile(path)
		return strings.TrimSpace(string(text)), err
	}}
}

func tokenFromEnvironment() *bearer {
	if token := os.Getenv("VIRTRPC_TOKEN"); token != "" {
		return tokenText(token)
	}
	if path := os.Getenv("VIRTRPC_TOKEN_FILE"); path != "" {
		return tokenFile(path)
	}
	return nil
}

func (b *bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := b.read()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (b *bearer) RequireTransportSecurity() bool { return true }
