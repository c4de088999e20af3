package virtrpc

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/metadata"
)

const reasonHeader = "virtrpc-reason"

// Because says why the calls under the context it gives are made: the server notes that down.
func Because(ctx context.Context, reason string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, reasonHeader, inHeader(reason))
}

// inHeader is text as a header can have it: printable ASCII as it is, the rest in the manner of URLs.
func inHeader(text string) string {
	var written strings.Builder
	for _, letter := range []byte(text) {
		if ' ' <= letter && letter <= '~' && letter != '%' {
			written.WriteByte(letter)
		} else {
			fmt.Fprintf(&written, "%%%02X", letter)
		}
	}
	return written.String()
}
