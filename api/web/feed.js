// A client of Reelay in one class: connect, keep the cursor, come back with it. It draws nothing; it tells a view what
// happened, in a handful of calls, so that it can be read alone by someone who writes a client of their own.

const FIRST_DELAY = 300; // ms before the first try after a drop; doubles with every try that fails
const LONGEST_DELAY = 10_000;
const ANSWER_WITHIN = 8_000; // ms until a silent server counts as gone; a browser would not notice for minutes
const PING_EVERY = 5_000;

// What a close code means. Every code that is not here is a passing trouble: come back with the cursor.
const GET_A_TOKEN = 3000;
const GIVE_UP = new Set([1002, 1003, 1007, 1008, 1009, 3003]);

// Feed is one client: it keeps one socket open while it is wanted, and its cursor in between.
export class Feed {
  #session;
  #user;
  #view;
  #socket = null;
  #wanted = false;
  #failures = 0;
  #cursor = null;
  #lastSequence = null; // of the last event; null after a snapshot, where the next number is not ours to guess
  #askedAgainAt = null; // the last event before a hole that made us reconnect
  #pages = []; // the pages of a snapshot that is still arriving
  #readyAt = -Infinity; // events made before it were missed
  #missed = 0;
  #pings = 0;
  #pingedAt = 0;
  #timers = { retry: 0, tick: 0, ping: 0, deadline: 0, steady: 0 };

  constructor(session, user, view) {
    this.#session = session;
    this.#user = user;
    this.#view = view;
    addEventListener("online", () => this.#wanted && !this.#socket && this.#open());
  }

  get wanted() {
    return this.#wanted;
  }

  start() {
    this.#wanted = true;
    this.#failures = 0;
    this.#open();
  }

  stop() {
    this.#wanted = false;
    this.#leave();
    this.#view.notice("");
    this.#view.state("offline", "disconnected by you");
  }

  #open() {
    this.#leave();
    this.#view.state("connecting");
    const url = new URL("/events", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (this.#cursor) url.searchParams.set("after", this.#cursor);
    const socket = new WebSocket(url, ["reelay.v1", `reelay.bearer.${this.#session.token(this.#user)}`]);
    this.#socket = socket;
    this.#expectAnswer();
    socket.onmessage = ({ data }) => this.#socket === socket && this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#socket === socket && this.#closed(code, reason);
  }

  // leave lets go of the socket without waiting for it: on a dead link its close event comes minutes later.
  #leave() {
    for (const name of Object.keys(this.#timers)) this.#stopTimer(name);
    const socket = this.#socket;
    this.#socket = null;
    this.#pages = [];
    socket?.close(1000);
  }

  #closed(code, reason) {
    this.#leave();
    if (GIVE_UP.has(code)) {
      this.#wanted = false;
      this.#view.state("offline", `stopped: ${reason || "refused"} (${code})`);
      return;
    }
    this.#retry(code === GET_A_TOKEN);
  }

  // retry waits longer after every failure, and never as long as its neighbour: when a replica dies, its clients
  // must not come back all at once.
  #retry(renew) {
    this.#leave();
    const ceiling = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#failures++);
    const delay = ceiling * (0.5 + Math.random() / 2);
    const at = Date.now() + delay;
    const tick = () => {
      const seconds = Math.ceil((at - Date.now()) / 1000);
      this.#view.state("offline", seconds > 1 ? `trying again in ${seconds} s` : "trying again");
      this.#timers.tick = setTimeout(tick, 1000);
    };
    tick();
    this.#timers.retry = setTimeout(async () => {
      try {
        if (renew) await this.#session.renew();
      } catch {
        if (this.#wanted && !this.#socket) this.#retry(true);
        return;
      }
      if (this.#wanted && !this.#socket) this.#open();
    }, delay);
  }

  // expectAnswer leaves a deadline that runs alone: further pings must not put it off.
  #expectAnswer() {
    this.#timers.deadline ||= setTimeout(() => this.#retry(false), ANSWER_WITHIN);
  }

  #stopTimer(name) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = 0;
  }

  #ping() {
    this.#pingedAt = performance.now();
    this.#socket.send(JSON.stringify({ type: "ping", ref: String(++this.#pings) }));
    this.#expectAnswer();
  }

  #receive(frame) {
    this.#stopTimer("deadline");
    const { type, data = {} } = frame;
    if (frame.source !== "reelay/session") {
      this.#event(frame);
      return;
    }
    switch (type) {
      case "reelay.ready":
        this.#ready(frame, data);
        break;
      case "reelay.snapshot":
        this.#snapshot(frame, data);
        break;
      case "reelay.reset":
        this.#cursor = null; // until the snapshot is here: what a drop in between needs is a snapshot again
        this.#view.notice(`Started over from a snapshot: ${data.reason}.`);
        break;
      case "reelay.pong":
        if (data.ref === String(this.#pings)) this.#view.roundTrip(performance.now() - this.#pingedAt);
        break;
      case "reelay.expiring":
        this.#renewToken();
        break;
      case "reelay.error":
        this.#view.notice(data.message || data.code);
        break;
    }
  }

  #ready(frame, data) {
    this.#missed = 0;
    this.#readyAt = data.resumed ? Date.parse(frame.time) || Date.now() : -Infinity;
    this.#view.state("live", "", data.replica);
    if (data.resumed) this.#view.caughtUp(0);
    // Only a connection that has lasted forgives the failures before it: a server that accepts and drops is no success.
    this.#timers.steady = setTimeout(() => (this.#failures = 0), PING_EVERY);
    const beat = () => {
      this.#ping();
      this.#timers.ping = setTimeout(beat, PING_EVERY);
    };
    beat();
  }

  #snapshot(frame, data) {
    this.#pages.push(...data.videos);
    if (!data.last) return;
    this.#cursor = frame.cursor;
    // The snapshot may contain changes that have no number yet, so the first number after it can be any.
    this.#lastSequence = null;
    this.#view.snapshot(this.#pages.splice(0), data.truncated);
  }

  #event(event) {
    const sequence = Number(event.id.slice(event.id.lastIndexOf(".") + 1));
    const last = this.#lastSequence;
    if (last !== null && sequence <= last) return; // seen before
    if (last !== null && sequence > last + 1) {
      this.#view.notice(`Events ${last + 1} to ${sequence - 1} did not come.`);
      if (this.#askedAgainAt !== last) {
        this.#askedAgainAt = last; // once: a server that has them sends them now
        this.#retry(false);
        return;
      }
    }
    this.#lastSequence = sequence;
    this.#cursor = event.id;
    const missed = Date.parse(event.time) < this.#readyAt;
    this.#view.event(event, missed);
    if (missed) this.#view.caughtUp(++this.#missed);
  }

  async #renewToken() {
    const socket = this.#socket;
    try {
      await this.#session.renew();
    } catch {
      return; // the session ends with its token, and the close code says what to do
    }
    if (this.#socket !== socket) return;
    socket.send(JSON.stringify({ type: "auth", token: this.#session.token(this.#user) }));
  }
}
