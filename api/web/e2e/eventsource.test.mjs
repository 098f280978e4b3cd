// The browser's own EventSource, with a ticket, against everything that `make run` starts: two replicas, of which one
// makes the ticket and either may be the one that takes it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { start, until } from "./devstack.mjs";

const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];

let stack, browser, page;

before(async () => {
  stack = await start();
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
  page = await browser.newPage();
  // A page of the same origin, without the demo's own script.
  await page.goto(new URL("/style.css", stack.url).href);
});

after(async () => {
  await browser?.close();
  if (stack && !stack.ended) await stack.signal("SIGTERM");
});

// follow opens an EventSource in the page as a user, and keeps what comes in window[name].
const follow = (name, user, query = "") => page.evaluate(async ([name, user, query]) => {
  const { users } = await (await fetch("/demo/session")).json();
  const { token } = users.find((one) => one.name === user);
  const made = await fetch("/tickets", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
  if (made.status !== 201) throw new Error(`a ticket: ${made.status} ${await made.text()}`);
  const { ticket } = await made.json();
  const source = new EventSource(`/events?ticket=${encodeURIComponent(ticket)}${query}`);
  const one = (window[name] = { source, ticket, frames: [], errors: 0 });
  source.onmessage = ({ data, lastEventId }) => one.frames.push({ ...JSON.parse(data), lastEventId });
  source.onerror = () => one.errors++;
}, [name, user, query]);

const frames = (name) => page.evaluate((name) => window[name].frames, name);
const arrived = (name, type, subject) => until(`${type} in ${name}`, async () =>
  (await frames(name)).find((frame) => frame.type === type && (!subject || frame.subject === subject)));

const change = (path, body, method = "POST") => page.evaluate(async ([path, body, method]) => {
  const answer = await fetch(path, { method, headers: { "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
  return answer.status === 204 ? null : answer.json();
}, [path, body, method]);

test("an EventSource with a ticket gets its user's events, and nobody else's", async () => {
  await follow("alice", "alice");
  await follow("bob", "bob");
  const ready = await arrived("alice", "reelay.ready");
  assert.equal(ready.data.user, "alice");
  await arrived("alice", "reelay.snapshot");
  await arrived("bob", "reelay.snapshot");
  const { id } = await change("/demo/videos", { user: "alice" });
  const created = await arrived("alice", "video.created", id);
  assert.equal(created.lastEventId, created.id, "the id of the event is the cursor");
  await change(`/demo/videos/${id}/handover`, { to: "bob" });
  await arrived("bob", "video.added", id);
  const removed = await arrived("alice", "video.removed", id);
  assert.equal(removed.data, undefined, "the old owner learns the id and nothing of the row");
  assert.deepEqual((await frames("bob")).filter((frame) => frame.subject === id && frame.type === "video.created"), []);
});

test("a ticket is good once, and a new one goes on where the last event was", async () => {
  const before = (await frames("alice")).filter((frame) => frame.source === "reelay");
  const { ticket, cursor } = await page.evaluate(() => {
    window.alice.source.close();
    return { ticket: window.alice.ticket, cursor: window.alice.frames.findLast((frame) => frame.lastEventId).lastEventId };
  });
  const again = await page.evaluate(async (ticket) =>
    (await fetch(`/events?ticket=${ticket}`, { headers: { Accept: "text/event-stream" } })).status, ticket);
  assert.equal(again, 401);
  const { id } = await change("/demo/videos", { user: "alice" }); // while nobody listens
  await follow("later", "alice", `&after=${cursor}`);
  await arrived("later", "video.created", id);
  const got = await frames("later");
  assert.equal(got[0].data.resumed, true);
  const ids = got.filter((frame) => frame.source === "reelay").map((frame) => Number(frame.id.split(".")[1]));
  const last = Number(before.at(-1).id.split(".")[1]);
  assert.deepEqual(ids, ids.map((_, i) => last + 1 + i), "exactly what was missed, each once and in order");
});
