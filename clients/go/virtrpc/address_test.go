package virtrpc_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"virtrpc.dev/go/virtrpc"
	"virtrpc.dev/go/virtrpcv1"
)

// TestAddresses takes paths, sockets, hosts with ports and gRPC's own schemes, and the environment where none is given.
func TestAddresses(t *testing.T) {
	t.Setenv(virtrpc.AddressVariable, "/run/other.sock")
	for given, want := range map[string]string{
		"":                   "unix:///run/other.sock",
		"/run/v.sock":        "unix:///run/v.sock",
		"unix:///run/v.sock": "unix:///run/v.sock",
		"127.0.0.1:50051":    "127.0.0.1:50051",
		"[::1]:50051":        "[::1]:50051",
		"dns:///virt:50051":  "dns:///virt:50051",
	} {
		if told, err := virtrpc.ResolveAddress(given); told != want || err != nil {
			t.Errorf("%q: %q, %v", given, told, err)
		}
	}
	for _, bad := range []string{"unix://run/v.sock", "https://virt:50051", "virt", "virt:port", ":50051"} {
		if told, err := virtrpc.ResolveAddress(bad); err == nil {
			t.Errorf("%q: %q", bad, told)
		}
	}
}

// TestDomainReferences tells names from UUIDs, and hosts from both.
func TestDomainReferences(t *testing.T) {
	const uuid = "350771DD-0000-4000-8000-000000000001"
	for text, want := range map[string]*virtrpcv1.DomainRef{
		"web":                              {Ref: &virtrpcv1.DomainRef_Name{Name: "web"}},
		"lab/web":                          {Host: "lab", Ref: &virtrpcv1.DomainRef_Name{Name: "web"}},
		uuid:                               {Ref: &virtrpcv1.DomainRef_Uuid{Uuid: uuid}},
		"lab/" + uuid:                      {Host: "lab", Ref: &virtrpcv1.DomainRef_Uuid{Uuid: uuid}},
		"350771dd000040008000000000000001": {Ref: &virtrpcv1.DomainRef_Name{Name: "350771dd000040008000000000000001"}},
	} {
		if told := virtrpc.Domain(text); !proto.Equal(told, want) {
			t.Errorf("%q: %v", text, told)
		}
	}
	if told := virtrpc.DomainOf(&virtrpcv1.Domain{Host: "lab", Uuid: uuid, Name: "web"}); !proto.Equal(told, virtrpc.Domain("lab/"+uuid)) {
		t.Error(told)
	}
}
