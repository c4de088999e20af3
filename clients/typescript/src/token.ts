import type { Interceptor } from "@connectrpc/connect";

/** A bearer token, or what gives one whenever a call begins: tokens expire. */
export type Token = string | (() => string | Promise<string>);

/** The interceptor that sends a token, where there is one. */
export function bearer(token: Token | undefined): Interceptor[] {
  if (token === undefined) {
    return [];
  }
  return [
    (next) => async (request) => {
      request.header.set("authorization", `Bearer ${typeof token === "string" ? token : await token()}`);
      return next(request);
    },
  ];
}
