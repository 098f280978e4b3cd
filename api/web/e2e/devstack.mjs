// Starts and ends bin/devstack, and looks at the processes it leaves behind, or does not.

import { spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const binary = process.env.REELAY_DEVSTACK ?? `${root}bin/devstack`;

// until waits for a condition: it returns the first truthy value that look gives.
export async function until(what, look, within = 20_000) {
  for (const deadline = Date.now() + within; ; ) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited ${within} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

// start returns a running stack when it has printed its table.
export async function start(...flags) {
  const child = spawn(binary, ["--port", String(await freePort()), ...flags], { stdio: ["ignore", "pipe", "pipe"] });
  const stack = new Stack(child);
  await until("devstack's table", () => stack.ended || stack.said.includes("Ctrl-C stops all of it"), 60_000);
  if (stack.ended) throw new Error(`devstack ended with ${JSON.stringify(stack.ended)}:\n${stack.said}`);
  return stack;
}

class Stack {
  said = "";
  ended = null;
  #child;

  constructor(child) {
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (this.said += text));
    child.on("error", (error) => (this.ended = { error: error.message }));
    child.on("close", (code, signal) => (this.ended = { code, signal }));
  }

  get url() {
    return this.#find(/Demo page\s+(\S+)/);
  }

  get folder() {
    return this.#find(/Logs\s+(\S+)/);
  }

  get database() {
    return this.#find(/psql '([^']+)'/);
  }

  #find(pattern) {
    const found = this.said.match(pattern);
    if (!found) throw new Error(`devstack did not print ${pattern}:\n${this.said}`);
    return found[1];
  }

  // pidOf returns the process of a replica, as devstack printed it last.
  pidOf(replica) {
    const pids = [...this.said.matchAll(new RegExp(`^  ${replica} .* (\\d+) +${replica}\\.log|${replica} is back, with pid (\\d+)`, "gm"))];
    const last = pids.at(-1);
    if (!last) throw new Error(`no replica ${replica} in:\n${this.said}`);
    return Number(last[1] ?? last[2]);
  }

  // family returns devstack and every process below it, as far as they run.
  family() {
    const children = new Map();
    for (const { pid, parent } of processes()) children.set(parent, [...(children.get(parent) ?? []), pid]);
    const all = [this.#child.pid];
    for (const pid of all) all.push(...(children.get(pid) ?? []));
    return all;
  }

  async signal(name) {
    this.#child.kill(name);
    await until(`devstack to end after ${name}`, () => this.ended, 30_000);
    return this.ended;
  }
}

// alive returns those of the processes that still run. A zombie does not: its parent has only not looked yet.
export function alive(pids) {
  const running = new Set(processes().map((process) => process.pid));
  return pids.filter((pid) => running.has(pid));
}

function processes() {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return "ZX".includes(state) ? [] : [{ pid: Number(pid), parent: Number(parent) }];
    } catch {
      return []; // it has ended since
    }
  });
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
