import type { Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { connect as connectPlainly } from "node:net";
import { connect as connectByTls, type ConnectionOptions } from "node:tls";
import type { Duplex } from "node:stream";

import { placeOf, type Place } from "./address.js";
import { createClient, type Client, type ClientOptions } from "./client.js";
import { tlsFromEnvironment, tokenFromEnvironment } from "./environment.js";
import { Sessions } from "./sessions.js";
import { bearer, type Token } from "./token.js";

export { DEFAULT_ADDRESS } from "./address.js";

// Pages and XML stay below 1 MiB by contract, capabilities of large hosts and unary answers with several parts may not.
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** Certificates in PEM: the text, not a file's name. */
export interface Tls {
  /** Who may have signed the server's certificate; the system's authorities where it is missing. */
  ca?: string | Buffer;
  /** This client's own certificate, with those between it and its authority. */
  cert?: string | Buffer;
  /** The key of `cert`. */
  key?: string | Buffer;
  /** The name that the server's certificate is to have, where that is not the host of the address. */
  serverName?: string;
}

/** How Node reaches a server. */
export interface ConnectOptions extends ClientOptions {
  /**
   * TLS: true with the system's authorities; a function is asked whenever a connection is made, so that renewed certificates are taken. Without it the
   * environment says the same, as to the other clients: VIRTRPC_CA (a file, or `public` for the system's authorities), VIRTRPC_CERTIFICATE, VIRTRPC_KEY
   * and VIRTRPC_SERVER_NAME, whose files are read anew for each connection; false is without, whatever the environment says.
   */
  tls?: boolean | Tls | (() => Tls);
  /**
   * A bearer token, or what gives one whenever a call begins; else that of VIRTRPC_TOKEN or of the file VIRTRPC_TOKEN_FILE. It goes by TLS or to a Unix
   * socket, and nowhere else.
   */
  token?: Token;
  /** Applied to every call: Connect's interceptors, for instance for tracing. */
  interceptors?: Interceptor[];
}

/**
 * A client of the virtrpc server at `address`: a Unix socket (`unix:///path`, or the path alone) or `host:port`; without one, $VIRTRPC_ADDRESS or the
 * default socket. Nothing is connected before the first call, and a lost connection is made anew by the next one; `close` ends it.
 *
 * Throws a TypeError for an address that is none, for TLS to a Unix socket, and for a token that others could read on its way; what `tls` throws, or
 * Node for a file of the environment's that it cannot read.
 */
export function connect(address?: string, options: ConnectOptions = {}): Client {
  const { tls: wanted, token = tokenFromEnvironment(), interceptors = [], ...rest } = options;
  const place = placeOf(address);
  const tls = tlsOf(place, wanted);
  if (token !== undefined && tls === undefined && !("path" in place)) {
    throw new TypeError(`a token goes to "${place.host}" by TLS only: give tls, or VIRTRPC_CA`);
  }
  tls?.(); // what cannot be read is said at once
  const baseUrl = urlOf(place, tls !== undefined);
  // Pings only while a call is open: an idle client costs the server nothing.
  const pings = { pingIntervalMs: 30_000, pingTimeoutMs: 10_000 };
  const sockets = new Set<Duplex>();
  const createConnection = (): Duplex => {
    const socket = dial(place, tls);
    sockets.add(socket);
    // HTTP/2's session tells what broke; a socket that nobody listens to would end the process with it.
    return socket.on("error", () => undefined).once("close", () => sockets.delete(socket));
  };
  const sessionManager = new Sessions(baseUrl, pings, { createConnection });
  const transport = createGrpcTransport({
    baseUrl,
    sessionManager,
    interceptors: [...bearer(token), ...interceptors],
    readMaxBytes: MAX_MESSAGE_BYTES,
    writeMaxBytes: MAX_MESSAGE_BYTES,
  });
  return createClient(transport, rest, () => {
    // The manager's own abort says CANCEL in a GOAWAY, which the server logs as a fault.
    sockets.forEach((socket) => socket.destroy());
  });
}

function urlOf(place: Place, tls: boolean): string {
  if ("path" in place) {
    return "http://localhost";
  }
  const scheme = tls ? "https" : "http";
  return `${scheme}://${place.host.includes(":") ? `[${place.host}]` : place.host}:${String(place.port)}`;
}

function tlsOf(place: Place, wanted: ConnectOptions["tls"]): (() => Tls) | undefined {
  if ("path" in place && wanted) {
    throw new TypeError(`TLS is for HOST:PORT, and ${place.path} is a socket of this machine`);
  }
  if ("path" in place || wanted === false) {
    return undefined;
  }
  if (typeof wanted === "object") {
    return () => wanted;
  }
  return typeof wanted === "function" ? wanted : (tlsFromEnvironment() ?? (wanted && (() => ({}))));
}

function dial(place: Place, tls: (() => Tls) | undefined): Duplex {
  if (tls === undefined || "path" in place) {
    return connectPlainly(place);
  }
  const { serverName, ...pem } = tls();
  const { host } = place;
  // An address is no server name in TLS's terms: Node looks for it among the certificate's addresses.
  const options: ConnectionOptions = { ...place, ...pem, ALPNProtocols: ["h2"] };
  const name = serverName ?? (isName(host) ? host : undefined);
  return connectByTls(name === undefined ? options : { ...options, servername: name });
}

function isName(host: string): boolean {
  return !host.includes(":") && !/^[0-9.]+$/.test(host);
}
