// The demo page in a real browser, against everything that `make run` starts.
//
//   make e2e        or, after make build:  cd api/web/e2e && npm ci && npm test

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { Audit } from "./audit.mjs";
import { alive, start, until } from "./devstack.mjs";
import { events, record, videosIn } from "./sockets.mjs";

const screenshots = process.env.REELAY_SCREENSHOTS ?? fileURLToPath(new URL("../../../e2e-screenshots/", import.meta.url));
const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const users = ["alice", "bob"];

let stack, audit, browser, page, sockets;
const complaints = []; // what the browser's console had to say

before(async () => {
  stack = await start();
  audit = new Audit(stack.database);
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
  page = await browser.newPage({ viewport: { width: 1360, height: 1000 } });
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  sockets = await record(page);
  await page.goto(stack.url);
});

after(async () => {
  await browser?.close();
  if (stack && !stack.ended) await stack.signal("SIGTERM");
});

const panel = (user) => page.getByTestId(`panel-${user}`);
const part = (user, name) => panel(user).getByTestId(name);
const card = (user, id) => panel(user).getByTestId(`video-${id}`);

// click presses a button that the page redraws now and then: a card may move while the mouse is on its way.
const click = (button) => button.click({ timeout: 5_000 });

async function post(path, body, method = "POST") {
  const answer = await fetch(new URL(path, stack.url), { method, headers: { "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
  return answer.status === 204 ? null : answer.json();
}

// uploadByHand presses upload and returns the new video, which is the one that came in as answer to the click.
async function uploadByHand(user) {
  const [answer] = await Promise.all([
    page.waitForResponse((response) => response.url().endsWith("/demo/videos")),
    click(part(user, "upload")),
  ]);
  return (await answer.json()).id;
}

// picture waits for cards to arrive and flashes to fade; the bar of a video in the making never ends.
async function picture(of, name) {
  await of.evaluate(() => Promise.allSettled(document.getAnimations()
    .filter((animation) => animation.effect.getTiming().iterations !== Infinity).map((animation) => animation.finished)));
  await of.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
}

const live = (user) => until(`${user} to be live`, async () => (await panel(user).getAttribute("data-state")) === "live");

test("both panels are live, each on a replica of its own", async () => {
  const replicas = [];
  for (const user of users) {
    await live(user);
    assert.equal(await part(user, "state").textContent(), "live");
    replicas.push(await part(user, "replica").textContent());
    await until(`${user}'s round trip`, async () => /ms round trip/.test(await part(user, "rtt").textContent()));
    assert.ok((await part(user, "videos").locator("li").count()) > 0, `${user} has no videos although some were made`);
  }
  assert.deepEqual(replicas.sort(), ["reelay-1", "reelay-2"], "the balancer should have spread two sockets over two replicas");
});

test("an upload goes through all its steps in its owner's panel, and in no other", async () => {
  const id = await uploadByHand("alice");
  await card("alice", id).waitFor();
  const seen = [];
  await until(`${id} to be finished`, async () => {
    const status = await card("alice", id).getAttribute("data-status");
    if (status !== seen.at(-1)) seen.push(status);
    return status === "ready" || status === "failed";
  }, 40_000);
  assert.deepEqual(seen.slice(0, 2), ["pending", "processing"]);
  const track = card("alice", id).getByRole("progressbar");
  assert.equal(await track.getAttribute("aria-valuetext"), seen[2]);
  assert.equal(await track.getAttribute("aria-valuenow"), "3");
  const row = part("alice", "log").locator("tr", { hasText: id }).first();
  assert.match(await row.textContent(), /video\.updated.*\.\d+(< 1|\d+) ms$/);
  assert.equal(await card("bob", id).count(), 0);
});

test("a video that is handed over leaves one panel and appears in the other", async () => {
  const id = await uploadByHand("alice");
  await card("alice", id).waitFor();
  await click(card("alice", id).getByTestId("handover"));
  await card("bob", id).waitFor();
  await card("alice", id).waitFor({ state: "detached" });
  await click(card("bob", id).getByTestId("handover"));
  await card("alice", id).waitFor();
  await card("bob", id).waitFor({ state: "detached" });
});

test("fail and delete do what they say", async () => {
  const id = await uploadByHand("bob");
  await card("bob", id).waitFor();
  await click(card("bob", id).getByTestId("fail"));
  await until(`${id} to be failed`, async () => (await card("bob", id).getAttribute("data-status")) === "failed");
  assert.equal(await card("bob", id).getByTestId("fail").getAttribute("aria-disabled"), "true");
  await card("bob", id).getByTestId("delete").focus();
  await page.keyboard.press("Enter");
  await card("bob", id).waitFor({ state: "detached" });
  // The focus is not lost with the button it was on.
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "BUTTON");
  assert.ok(await panel("bob").evaluate((element) => element.contains(document.activeElement)));
});

test("what happens while a user is away comes when they are back, all of it and once", async () => {
  const given = await uploadByHand("bob");
  await card("bob", given).waitFor();
  await click(part("alice", "toggle"));
  await until("alice to be offline", async () => (await panel("alice").getAttribute("data-state")) === "offline");
  await until("alice's sockets to be closed", () => sockets.every((socket) => socket.user !== "alice" || !socket.open));
  const seen = events(sockets, "alice").length;

  const { id: fresh } = await post("demo/videos", { user: "alice" });
  const { id: failed } = await post("demo/videos", { user: "alice" });
  await post(`demo/videos/${failed}/fail`);
  await post(`demo/videos/${given}/handover`, { to: "alice" });
  const { id: gone } = await post("demo/videos", { user: "alice" });
  await post(`demo/videos/${gone}`, undefined, "DELETE");

  await click(part("alice", "toggle"));
  await live("alice");
  const socket = sockets.findLast(({ user }) => user === "alice");
  const ready = socket.frames.find((frame) => frame.type === "reelay.ready");
  assert.equal(ready.data.resumed, true);
  const notice = await until("the notice", async () => {
    const text = await part("alice", "notice").textContent();
    const missed = Number(text.match(/^Caught up (\d+) missed events?\.$/)?.[1]);
    return missed >= 6 && missed;
  });
  await card("alice", given).waitFor();
  await card("alice", fresh).waitFor();
  assert.equal(await card("alice", failed).getAttribute("data-status"), "failed");
  assert.equal(await card("alice", gone).count(), 0);

  // Exactly what the database says was missed: the last test compares the whole run, this one the six of these.
  const missed = events(sockets, "alice").slice(seen).filter((event) => Date.parse(event.time) < Date.parse(ready.time));
  assert.equal(missed.length, notice, "the page counted otherwise");
  const mine = (list) => list.filter(({ video, subject }) => [fresh, failed, given, gone].includes(video ?? subject));
  const committed = mine(audit.changes("alice")).filter(({ at }) => at < Date.parse(ready.time)).map(({ type, video }) => `${type} ${video}`);
  assert.deepEqual(mine(missed).map(({ type, subject }) => `${type} ${subject}`), committed);
  assert.ok(committed.length >= 6);
  assert.ok(!socket.frames.some((frame) => frame.type === "reelay.snapshot"), "who comes back in time needs no snapshot");
  await picture(page, "caught-up");
});

test("when its replica is killed, a client goes on at another one, and the replica comes back", async () => {
  const replica = await part("bob", "replica").textContent();
  const pid = stack.pidOf(replica);
  process.kill(pid, "SIGKILL");
  await until("bob to notice", async () => (await panel("bob").getAttribute("data-state")) !== "live");
  const { id } = await post("demo/videos", { user: "bob" });
  await card("bob", id).waitFor();
  assert.notEqual(await part("bob", "replica").textContent(), replica);
  await until("devstack's report", () => stack.said.includes(`${replica} (pid ${pid}) ended: signal: killed`));
  await until("the replica to be back", () => stack.pidOf(replica) !== pid);
  for (const user of users) await live(user);
});

test("each socket brought what was committed for its user, in order, and nothing else", async () => {
  const last = audit.last();
  for (const user of users) {
    const committed = audit.changes(user).filter(({ number }) => number <= last);
    const received = () => events(sockets, user);
    // The last change of each video is the last event of it: so everything before the mark has come.
    await until(`${user}'s last events`, () => {
      const latest = received().findLast((event) => event.subject === committed.at(-1).video);
      return latest && Date.parse(latest.time) >= committed.at(-1).at - 1_000;
    });

    const own = audit.everOwned(user);
    for (const frame of sockets.filter((socket) => socket.user === user).flatMap((socket) => socket.frames)) {
      for (const video of videosIn(frame)) assert.ok(own.has(video), `${user} was told of ${video}, which was never theirs: ${JSON.stringify(frame)}`);
    }

    const opening = sockets.find((socket) => socket.user === user);
    const began = Date.parse(opening.frames.findLast((frame) => frame.type === "reelay.snapshot").time);
    const spell = (type, video, status) => `${type} ${video} ${status ?? ""}`;
    for (const video of own) {
      const came = received().filter((event) => event.subject === video).map((event) => spell(event.type, video, event.data?.processing_status));
      const all = committed.filter((change) => change.video === video);
      const wanted = all.map((change) => spell(change.type, video, change.status));
      // What the snapshot contained did not come as an event, and had been made before it. All that follows came.
      const first = wanted.indexOf(came[0]);
      const from = first < 0 ? wanted.length : first;
      for (const change of all.slice(0, from)) assert.ok(change.at <= began, `${user} missed ${JSON.stringify(change)}`);
      // What came after the mark is not among the wanted.
      assert.deepEqual(came.slice(0, wanted.length - from), wanted.slice(from), `${user}'s events of ${video}`);
    }

    // The numbers leave no hole and repeat nothing, over all sockets of the user.
    const numbers = received().map((event) => Number(event.id.split(".")[1]));
    for (const [i, number] of numbers.entries()) {
      if (i > 0) assert.equal(number, numbers[i - 1] + 1, `${user}'s events around ${numbers.slice(i - 1, i + 1)}`);
    }
    assert.ok(numbers.length > 5, `${user} received ${numbers.length} events in all`);
  }
});

test("the page loads nothing from elsewhere, and the browser has nothing to complain about", async () => {
  const loaded = await page.evaluate(() => performance.getEntriesByType("resource").map((entry) => entry.name));
  for (const name of loaded) assert.ok(name.startsWith(stack.url) || name.startsWith("data:"), name);
  // A killed replica's sockets end without a goodbye, which Chromium mentions.
  assert.deepEqual(complaints.filter((text) => !/WebSocket connection to .* failed/.test(text)), []);
});

test("it fits desktops and phones, light and dark", async () => {
  for (const [device, viewport] of [["desktop", { width: 1360, height: 1000 }], ["phone", { width: 390, height: 844 }]]) {
    for (const colorScheme of ["light", "dark"]) {
      const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: device === "phone" ? 2 : 1 });
      const other = await context.newPage();
      await other.goto(stack.url);
      for (const user of users) await other.locator(`[data-testid="panel-${user}"][data-state="live"]`).waitFor();
      await other.getByTestId("panel-bob").getByTestId("upload").click();
      await other.getByTestId("log-entry").first().waitFor();
      await picture(other, `${device}-${colorScheme}`);
      const width = await other.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= viewport.width, `${device}: the page is ${width} wide on a screen of ${viewport.width}`);
      await context.close();
    }
  }
});

test("SIGTERM ends all of it and leaves nothing behind", async () => {
  const family = stack.family();
  assert.ok(family.length > 8, `only ${family.length} processes`);
  assert.ok(existsSync(stack.folder));
  assert.deepEqual(await stack.signal("SIGTERM"), { code: 0, signal: null });
  assert.deepEqual(alive(family), []);
  assert.ok(!existsSync(stack.folder), `${stack.folder} is still there`);
});

test("no process outlives a devstack that was killed, and the next one clears its folder away", async () => {
  const killed = await start("--transcoder=false");
  const family = killed.family();
  await killed.signal("SIGKILL");
  await until("every process to be gone", () => alive(family).length === 0);
  const next = await start("--replicas", "1");
  assert.ok(!existsSync(killed.folder), `${killed.folder} is still there`);
  assert.deepEqual(await next.signal("SIGINT"), { code: 0, signal: null });
});
