import { Http2SessionManager } from "@connectrpc/connect-node";
import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";

/**
 * Connect's manager of HTTP/2's sessions, for which no broken session ends the process: where one is found broken by the next call, Connect leaves it
 * before Node has told its error, and an error that nobody listens to is an uncaught exception. A proxy that refuses a certificate by TLS 1.3 is such a
 * case: its alert comes after the handshake.
 */
export class Sessions extends Http2SessionManager {
  readonly #heard = new WeakSet<ClientHttp2Session>();

  override async request(...call: Parameters<Http2SessionManager["request"]>): Promise<ClientHttp2Stream> {
    const stream = await super.request(...call);
    const { session } = stream;
    if (session !== undefined && !this.#heard.has(session as ClientHttp2Session)) {
      this.#heard.add(session as ClientHttp2Session);
      session.on("error", () => undefined);
    }
    return stream;
  }
}
