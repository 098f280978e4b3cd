// What the page's client does with each close code, cursor and silence: against a scripted WebSocket, in no time.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { beforeEach, mock, test } from "node:test";

const source = readFileSync(new URL("../feed.js", import.meta.url), "utf8");
const { Feed } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

let sockets, view, feed, renewed;

class FakeSocket {
  sent = [];
  closed = false;

  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    sockets.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.closed = true;
  }

  own(type, data, cursor) {
    this.onmessage({ data: JSON.stringify({ source: "reelay/session", type: `reelay.${type}`, time: new Date().toISOString(), data, cursor }) });
  }

  event(id, time = new Date().toISOString()) {
    this.onmessage({ data: JSON.stringify({ source: "reelay", id, type: "video.updated", subject: "v", time, data: {} }) });
  }

  get after() {
    return this.url.searchParams.get("after");
  }
}

const latest = () => sockets.at(-1);
// settle lets promises that are ready run; tick lets time pass first.
const settle = () => new Promise((resolve) => setImmediate(resolve));
const tick = async (ms) => {
  mock.timers.tick(ms);
  await settle();
};

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
  sockets = [];
  renewed = 0;
  globalThis.WebSocket = FakeSocket;
  globalThis.location = { href: "https://app.example.com/page" };
  globalThis.addEventListener = () => {};
  view = { states: [], events: [], snapshots: [], notices: [], missed: [] };
  const session = { token: (user) => `${user}.${renewed}`, renew: async () => renewed++ };
  feed = new Feed(session, "alice", {
    state: (...args) => view.states.push(args),
    event: (event) => view.events.push(event.id),
    snapshot: (videos) => view.snapshots.push(videos.map((video) => video.id)),
    notice: (text) => view.notices.push(text),
    caughtUp: (count) => view.missed.push(count),
    roundTrip: () => {},
  });
  feed.start();
});

// connected brings a first socket to where a snapshot has come.
function connected(cursor = "log.5") {
  latest().own("ready", { resumed: false, replica: "r1" });
  latest().own("snapshot", { videos: [{ id: "v" }], last: true }, cursor);
}

test("it asks with a token among the subprotocols, and without a cursor at first", () => {
  assert.equal(String(latest().url), "wss://app.example.com/events");
  assert.deepEqual(latest().protocols, ["reelay.v1", "reelay.bearer.alice.0"]);
});

test("every close code gets the answer it asks for", async (t) => {
  const answers = {
    1000: "retry", 1001: "retry", 1006: "retry", 1011: "retry", 1012: "retry", 1013: "retry", 3008: "retry", 3000: "renew",
    1002: "stop", 1003: "stop", 1007: "stop", 1008: "stop", 1009: "stop", 3003: "stop",
  };
  for (const [code, answer] of Object.entries(answers)) {
    await t.test(`${code}: ${answer}`, async () => {
      feed.start();
      connected();
      const [before, tokens] = [sockets.length, renewed];
      latest().onclose({ code: Number(code), reason: "because" });
      await tick(60_000);
      if (answer === "stop") {
        assert.equal(sockets.length, before);
        assert.deepEqual(view.states.at(-1), ["offline", `stopped: because (${code})`]);
        assert.equal(feed.wanted, false);
        return;
      }
      assert.equal(sockets.length, before + 1);
      assert.equal(latest().after, "log.5");
      assert.equal(renewed - tokens, answer === "renew" ? 1 : 0);
      assert.equal(latest().protocols[1], `reelay.bearer.alice.${renewed}`);
    });
  }
});

test("it comes back after the last event it saw, and counts what it missed", async () => {
  connected("log.5");
  latest().event("log.6");
  latest().onclose({ code: 1012, reason: "restart" });
  await tick(400);
  assert.equal(latest().after, "log.6");
  latest().own("ready", { resumed: true });
  latest().event("log.7", new Date(Date.now() - 500).toISOString());
  latest().event("log.8", new Date(Date.now() - 100).toISOString());
  latest().event("log.9", new Date(Date.now() + 5).toISOString());
  assert.deepEqual(view.missed, [0, 1, 2]);
  assert.deepEqual(view.events, ["log.6", "log.7", "log.8", "log.9"]);
});

test("a snapshot counts when it is whole: a drop before asks for it again", async () => {
  latest().own("ready", { resumed: false }, "log.5");
  latest().own("snapshot", { videos: [{ id: "a" }], last: false });
  assert.deepEqual(view.snapshots, []);
  latest().onclose({ code: 1006 });
  await tick(400);
  assert.equal(latest().after, null);
  latest().own("ready", { resumed: false });
  latest().own("snapshot", { videos: [{ id: "a" }], last: false });
  latest().own("snapshot", { videos: [{ id: "b" }], last: true }, "log.5");
  assert.deepEqual(view.snapshots, [["a", "b"]]);
});

test("after a reset the old cursor is worth nothing, also when the snapshot does not come", async () => {
  connected("log.5");
  latest().own("reset", { reason: "too old" }, "log.9");
  latest().onclose({ code: 1006 });
  await tick(400);
  assert.equal(latest().after, null);
});

test("what it has seen is not shown again, and a hole is asked for once", async () => {
  connected("log.5");
  latest().event("log.7"); // after a snapshot the first number may be any
  latest().event("log.7");
  latest().event("log.6");
  assert.deepEqual(view.events, ["log.7"]);
  latest().event("log.9");
  assert.deepEqual(view.events, ["log.7"]);
  assert.ok(latest().closed);
  await tick(400);
  assert.equal(latest().after, "log.7");
  latest().own("ready", { resumed: true });
  latest().event("log.9"); // the server has no other: then it is told, and life goes on
  assert.deepEqual(view.events, ["log.7", "log.9"]);
  assert.ok(!latest().closed);
  assert.equal(view.notices.filter((text) => text === "Events 8 to 8 did not come.").length, 2);
});

test("the waits grow, differ, and stay within ten seconds", async () => {
  const waits = [];
  for (let i = 0; i < 12; i++) {
    const [began, before] = [Date.now(), sockets.length];
    latest().onclose({ code: 1006 });
    while (sockets.length === before) await tick(10);
    waits.push(Date.now() - began);
  }
  assert.ok(waits[0] <= 310, `the first wait was ${waits[0]} ms`);
  assert.ok(waits.every((wait, i) => wait >= Math.min(10_000, 300 * 2 ** i) / 2), `waits: ${waits}`);
  assert.ok(waits.every((wait) => wait <= 10_010), `waits: ${waits}`);
  assert.ok(new Set(waits.slice(-6)).size > 1, `waits without jitter: ${waits}`);
});

test("a server that accepts and drops is not hammered", async () => {
  for (let i = 0; i < 6; i++) {
    connected();
    latest().onclose({ code: 1006 });
    await tick(10_000);
  }
  const before = sockets.length;
  connected();
  latest().onclose({ code: 1006 });
  await tick(4_000);
  assert.equal(sockets.length, before, "it came back within 4 s after seven failures");
});

test("a server that falls silent is left", async () => {
  connected();
  assert.deepEqual(latest().sent, [{ type: "ping", ref: "1" }]);
  latest().own("pong", { ref: "1" });
  await tick(5_000);
  assert.deepEqual(latest().sent.at(-1), { type: "ping", ref: "2" });
  const silent = latest();
  await tick(8_000);
  assert.ok(silent.closed);
  await tick(400);
  assert.notEqual(latest(), silent);
  assert.equal(latest().after, "log.5");
  // What the old one still has to say is of no interest.
  silent.event("log.6");
  assert.deepEqual(view.events, []);
});

test("a token is renewed on the open socket before it expires", async () => {
  connected();
  latest().own("expiring", { expires: "soon" });
  await settle();
  assert.deepEqual(latest().sent.at(-1), { type: "auth", token: "alice.1" });
  assert.equal(sockets.length, 1);
});

test("disconnected by hand, it stays away until asked, and then resumes", async () => {
  connected();
  feed.stop();
  await tick(60_000);
  assert.equal(sockets.length, 1);
  assert.ok(latest().closed);
  assert.deepEqual(view.states.at(-1), ["offline", "disconnected by you"]);
  feed.start();
  assert.equal(latest().after, "log.5");
});
