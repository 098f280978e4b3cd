// Cross-site WebSocket hijacking and its like, in a real browser: the visitor is signed in by a cookie, which the browser
// sends along whoever's page it is that asks. Pages of other origins must get nothing of it, by any way to ask.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { start, until } from "./devstack.mjs";

const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];

let stack, evil, browser, context;

before(async () => {
  stack = await start();
  const { users } = await (await fetch(new URL("/demo/session", stack.url))).json();
  evil = createServer((_, response) => response.setHeader("Content-Type", "text/html").end("<title>a nice game</title>"));
  await new Promise((resolve) => evil.listen(0, "127.0.0.1", resolve));
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
  context = await browser.newContext();
  // Lax and for the host, whatever the port: the cookie that most applications have.
  await context.addCookies([{ name: "reelay_demo", value: users.find(({ name }) => name === "alice").token, url: stack.url, httpOnly: true, sameSite: "Lax" }]);
});

after(async () => {
  await browser?.close();
  evil?.close();
  if (stack && !stack.ended) await stack.signal("SIGTERM");
});

// attempt has a page try all ways to get at events, and returns what came of each.
const attempt = (page) => page.evaluate(async (target) => {
  const got = {};
  got.socket = await new Promise((resolve) => {
    const frames = [];
    const socket = new WebSocket(target.replace("http", "ws") + "events", ["reelay.v1"]);
    const end = (how) => { socket.close(); resolve({ frames: [...frames], how }); };
    socket.onmessage = ({ data }) => { frames.push(JSON.parse(data).type); if (frames.length === 2) end("served"); };
    socket.onclose = ({ code, reason }) => end(`${code} ${reason}`);
  });
  got.stream = await new Promise((resolve) => {
    const frames = [];
    const source = new EventSource(`${target}events`, { withCredentials: true });
    const end = (how) => { source.close(); resolve({ frames: [...frames], how }); };
    source.onmessage = ({ data }) => { frames.push(JSON.parse(data).type); if (frames.length === 2) end("served"); };
    source.onerror = () => end("error");
  });
  const ask = (path, init) => fetch(target + path, { credentials: "include", ...init }).then((answer) => answer.status, () => "kept from the page");
  got.page = await ask("events");
  got.ticket = await ask("tickets", { method: "POST" });
  // Without CORS the page cannot read the answer, but the request is made, and must do nothing either.
  got.blind = await fetch(`${target}tickets`, { method: "POST", credentials: "include", mode: "no-cors" }).then(({ type }) => type, () => "failed");
  return got;
}, stack.url);

test("a page of the application is served by its cookie, by every way", async () => {
  const page = await context.newPage();
  await page.goto(new URL("/style.css", stack.url).href);
  assert.deepEqual(await attempt(page), {
    socket: { frames: ["reelay.ready", "reelay.snapshot"], how: "served" },
    stream: { frames: ["reelay.ready", "reelay.snapshot"], how: "served" },
    page: 200, ticket: 201, blind: "basic",
  });
});

// A port makes another origin of the same site: the browser sends even SameSite cookies along. A name makes another site.
for (const host of ["127.0.0.1", "localhost"]) {
  test(`a page of another origin at ${host} gets nothing`, async () => {
    const page = await context.newPage();
    await page.goto(`http://${host}:${evil.address().port}/`);
    const got = await attempt(page);
    assert.deepEqual(got.socket, { frames: [], how: "1006 " });
    assert.deepEqual(got.stream, { frames: [], how: "error" });
    assert.equal(got.page, "kept from the page");
    assert.equal(got.ticket, "kept from the page");
    assert.equal(got.blind, "opaque");
  });
}

test("the replicas say why, and made no ticket for anyone else", async () => {
  const counted = async (name) => {
    let sum = 0;
    for (const [, url] of stack.said.matchAll(/metrics (http\S+)/g)) {
      const text = await (await fetch(url)).text();
      for (const [, value] of text.matchAll(new RegExp(`^${name} (\\d+)`, "gm"))) sum += Number(value);
    }
    return sum;
  };
  // Five ways, two pages.
  await until("ten refusals", async () => (await counted('reelay_refused_total\\{code="origin_not_allowed"\\}')) === 10);
});
