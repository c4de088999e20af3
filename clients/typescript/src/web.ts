import type { Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { createClient, type Client, type ClientOptions } from "./client.js";
import { bearer, type Token } from "./token.js";

/** How a browser reaches a server. */
export interface ConnectOptions extends ClientOptions {
  /** A bearer token, or what gives one whenever a call begins. */
  token?: Token;
  /** Instead of the browser's own, for instance to send cookies: `(input, init) => fetch(input, { ...init, credentials: "include" })`. */
  fetch?: typeof globalThis.fetch;
  /** Applied to every call: Connect's interceptors, for instance for tracing. */
  interceptors?: Interceptor[];
}

/**
 * A client of the virtrpc server behind a proxy that speaks gRPC-Web, such as Envoy (docs/mesh.md), for pages and for whatever else has `fetch`.
 *
 * `baseUrl` is where the proxy is, such as `location.origin`. Nothing is connected before the first call. Every job that is followed and every watch
 * is a connection of its own where the page came by HTTP/1.1, of which browsers allow six to one host: serve it by HTTP/2.
 */
export function connect(baseUrl: string | URL, options: ConnectOptions = {}): Client {
  const { token, fetch, interceptors = [], ...rest } = options;
  const transport = createGrpcWebTransport({
    baseUrl: String(baseUrl),
    interceptors: [...bearer(token), ...interceptors],
    ...(fetch && { fetch }),
  });
  return createClient(transport, rest);
}
