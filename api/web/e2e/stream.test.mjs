// The npm package eventsource follows a user's events through the balancer, and loses and doubles none when the replica
// it is connected to goes away: it comes back by itself, with Last-Event-ID.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { EventSource } from "eventsource";
import { start, until } from "./devstack.mjs";

let stack, token, source;
const requests = []; // the headers of each request that the client made
const answers = []; // the status of each answer
const frames = [];

const own = (type) => frames.filter((frame) => frame.source === "reelay/session" && frame.type === `reelay.${type}`);
const events = () => frames.filter((frame) => frame.source === "reelay");

async function upload() {
  const answer = await fetch(new URL("/demo/videos", stack.url), {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ user: "alice" }),
  });
  assert.ok(answer.ok, `upload: ${answer.status}`);
  return (await answer.json()).id;
}

// done tells whether the transcoder is through with a video: it fails at some, as real ones do.
const done = (video) => events().some(({ subject, data }) => subject === video && ["ready", "failed"].includes(data?.processing_status));

before(async () => {
  stack = await start();
  const { users } = await (await fetch(new URL("/demo/session", stack.url))).json();
  token = users.find(({ name }) => name === "alice").token;
  source = new EventSource(new URL("/events", stack.url), {
    fetch: async (url, init) => {
      const headers = { ...init.headers, Authorization: `Bearer ${token}` };
      requests.push(headers);
      const answer = await fetch(url, { ...init, headers });
      answers.push(answer.status);
      return answer;
    },
  });
  source.onmessage = ({ data, lastEventId }) => frames.push({ ...JSON.parse(data), lastEventId });
});

after(async () => {
  source?.close();
  if (stack && !stack.ended) await stack.signal("SIGTERM");
});

test("it gets ready, a snapshot and then events, by onmessage alone", async () => {
  await until("the snapshot", () => own("snapshot").some(({ data }) => data.last));
  assert.equal(frames[0].type, "reelay.ready");
  assert.equal(own("snapshot").at(-1).lastEventId, own("snapshot").at(-1).cursor);
  const video = await upload();
  await until("the video to be done", () => done(video), 60_000);
  for (const { id, lastEventId } of events()) assert.equal(lastEventId, id);
});

test("it comes back with what it saw last when its replica goes, and misses nothing", async () => {
  const before = own("ready").at(-1).data.replica;
  const [connects, video] = [requests.length, await upload()];
  await until("the first event of the video", () => events().some(({ subject }) => subject === video));
  process.kill(stack.pidOf(before), "SIGTERM");
  await until("another connection", () => own("ready").length > 1, 60_000);
  assert.equal(own("error").at(-1)?.data.code, "restart");
  await until("the video to be done", () => done(video), 60_000);
  assert.ok(requests[connects]["Last-Event-ID"], `it came back without a cursor: ${Object.keys(requests[connects])}`);
  assert.ok(own("ready").slice(1).every(({ data }) => data.resumed), "the cursor was not honoured");
});

test("it comes back when its replica is killed, too", async () => {
  const [replica, connections, video] = [own("ready").at(-1).data.replica, own("ready").length, await upload()];
  await until("the first event of the video", () => events().some(({ subject }) => subject === video));
  process.kill(stack.pidOf(replica), "SIGKILL");
  await until("another connection", () => own("ready").length > connections, 60_000);
  await until("the video to be done", () => done(video), 60_000);
});

test("each event came once, and in order", () => {
  const numbers = events().map(({ id }) => Number(id.split(".")[1]));
  assert.ok(numbers.length > 10, `only ${numbers.length} events`);
  for (let i = 1; i < numbers.length; i++) assert.equal(numbers[i], numbers[i - 1] + 1, `after ${numbers[i - 1]} came ${numbers[i]}`);
  assert.ok(answers.every((status) => status === 200), `answers: ${answers}`);
});
