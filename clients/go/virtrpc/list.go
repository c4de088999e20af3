package virtrpc

import (
	"context"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A Lister is an RPC that answers a page at a time, such as [virtrpcv1.QueryServiceClient.ListDomains].
type Lister[Request, Page proto.Message] func(context.Context, Request, ...grpc.CallOption) (Page, error)

// All gives every entry of every page, asked for while it is iterated; an error is the last that comes.
//
//	for domain, err := range virtrpc.All(ctx, client.Query.ListDomains, &virtrpcv1.ListDomainsRequest{}, (*virtrpcv1.ListDomainsResponse).GetDomains) {
func All[Request, Page proto.Message, Entry any](
	ctx context.Context, list Lister[Request, Page], request Request, entries func(Page) []Entry,
) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for page, err := range Pages(ctx, list, request) {
			if err != nil {
				yield(*new(Entry), err)
				return
			}
			for _, entry := range entries(page) {
				if !yield(entry, nil) {
					return
				}
			}
		}
	}
}

// Pages gives the answers themselves, with the hosts that are not LIVE now (unreachable): entries of those are STALE, or missing.
func Pages[Request, Page proto.Message](ctx context.Context, list Lister[Request, Page], request Request) iter.Seq2[Page, error] {
	return func(yield func(Page, error) bool) {
		asked := proto.CloneOf(request)
		for {
			page, err := list(ctx, asked)
			if !yield(page, err) || err != nil {
				return
			}
			next := page.ProtoReflect().Get(field(page, "next_page_token"))
			if next.String() == "" {
				return
			}
			asked.ProtoReflect().Set(field(asked, "page_token"), next)
		}
	}
}

func field(message proto.Message, name protoreflect.Name) protoreflect.FieldDescriptor {
	return message.ProtoReflect().Descriptor().Fields().ByName(name)
}
