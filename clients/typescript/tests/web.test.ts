import { expect, test } from "vitest";

import { connect, type ConnectOptions } from "../src/web.js";
import { failure } from "./server.js";

/** Calls through a `fetch` that notes what it was asked, and answers nothing. */
async function asked(options: ConnectOptions, calls = 1): Promise<Headers[]> {
  const heard: Headers[] = [];
  const fetch = (_: unknown, init?: RequestInit): Promise<Response> => {
    heard.push(new Headers(init?.headers));
    return Promise.reject(new TypeError("Failed to fetch"));
  };
  const client = connect("https://console.example", { timeoutMs: 50, ...options, fetch });
  for (let call = 0; call < calls; call++) {
    expect((await failure(client.setJobSpeed())).kind).toBe("ServerUnavailable");
  }
  client.close();
  return heard;
}

test("a token goes with each call; where a function gives it, with each its own", async () => {
  const plain = await asked({ token: "abc" });
  expect(plain.map((headers) => headers.get("authorization"))).toEqual(["Bearer abc"]);
  let count = 0;
  const renewed = await asked({ token: () => Promise.resolve(`t${String((count += 1))}`) }, 2);
  expect(renewed.map((headers) => headers.get("authorization"))).toEqual(["Bearer t1", "Bearer t2"]);
  const none = await asked({});
  expect(none.map((headers) => headers.get("authorization"))).toEqual([null]);
});

test("a token that cannot be had is the error of the call", async () => {
  const client = connect("https://console.example", { token: () => Promise.reject(new Error("sign in first")) });
  expect((await failure(client.setJobSpeed())).message).toBe("sign in first");
  client.close();
});
