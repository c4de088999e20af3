import { existsSync } from "node:fs";
import { join } from "node:path";
import { env, geteuid, getuid } from "node:process";

/** Where the server listens that a system's administrator has set up. */
export const DEFAULT_ADDRESS = "unix:///run/virtrpc/virtrpc.sock";

/** Where to connect: a Unix socket, or a host and port. */
export type Place = { path: string } | { host: string; port: number };

const HOST_AND_PORT = /^(?:dns:\/\/\/)?(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:/[\]]+)):([0-9]{1,5})$/;

/**
 * The place that is meant: `address`, else $VIRTRPC_ADDRESS, else the socket of the user's own server where there is one, else the system's. It is
 * `unix:///path` or the path alone, or `host:port`. Throws a TypeError for what none of these is.
 */
export function placeOf(address?: string): Place {
  const chosen = [address, env["VIRTRPC_ADDRESS"], usersSocket()].find(Boolean) ?? DEFAULT_ADDRESS;
  const path = /^(?:unix:(?:\/\/)?)?(\/[^/].*)$/.exec(chosen)?.[1];
  if (path !== undefined) {
    return { path };
  }
  const [, v6, name, port] = HOST_AND_PORT.exec(chosen) ?? [];
  const host = v6 ?? name;
  if (host === undefined) {
    throw new TypeError(`"${chosen}" is no address: write unix:///PATH or HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051`);
  }
  return { host, port: Number(port) };
}

/** Where a server that this user started listens, if it does; root's is the system's. */
function usersSocket(): string {
  if (geteuid?.() === 0) {
    return "";
  }
  const socket = join(env["XDG_RUNTIME_DIR"] ?? `/run/user/${String(getuid?.())}`, "virtrpc/virtrpc.sock");
  return existsSync(socket) ? socket : "";
}
