import { readFileSync } from "node:fs";
import { env } from "node:process";

import type { Tls } from "./node.js";
import type { Token } from "./token.js";

/** Instead of a file of authorities: the system's. */
const PUBLIC = "public";

/** TLS as the environment says; undefined where it says nothing. The files are read whenever it is asked. */
export function tlsFromEnvironment(): (() => Tls) | undefined {
  const { VIRTRPC_CA: ca, VIRTRPC_CERTIFICATE: cert, VIRTRPC_KEY: key, VIRTRPC_SERVER_NAME: serverName } = env;
  if (![ca, cert, key, serverName].some(Boolean)) {
    return undefined;
  }
  return () => ({
    ...(ca && ca !== PUBLIC && { ca: readFileSync(ca) }),
    ...(cert && { cert: readFileSync(cert) }),
    ...(key && { key: readFileSync(key) }),
    ...(serverName && { serverName }),
  });
}

/** The token that the environment gives, or names a file of, which is read whenever a call begins. */
export function tokenFromEnvironment(): Token | undefined {
  const { VIRTRPC_TOKEN: token, VIRTRPC_TOKEN_FILE: file } = env;
  if (token) {
    return token;
  }
  return file ? () => readFileSync(file, "utf8").trim() : undefined;
}
