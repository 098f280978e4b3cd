// The demo page of Reelay: two users side by side, each with a client of its own (feed.js). This file draws.

import { Feed } from "./feed.js";

const LOG_ROWS = 40;
const LONGEST_DELAY = 10_000;

// Session holds the tokens that the example app gave to this page.
class Session {
  #tokens = new Map();

  async renew() {
    const { users } = await request("GET", "/demo/session");
    for (const { name, token } of users) this.#tokens.set(name, token);
    return users.map((user) => user.name);
  }

  token(user) {
    return this.#tokens.get(user);
  }
}

const STEPS = { pending: 1, processing: 2, ready: 3, failed: 3 };
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// Panel draws one user. Everything that comes from outside goes in as text, never as markup.
class Panel {
  #user;
  #peer;
  #root;
  #feed;
  #videos = new Map(); // id to its card
  #events = 0;
  #latencies = [];

  constructor(session, user, peer) {
    this.#user = user;
    this.#peer = peer;
    this.#root = copy("panel-template");
    this.#root.dataset.user = user;
    this.#root.dataset.testid = `panel-${user}`;
    this.#root.querySelector(".avatar").textContent = user.slice(0, 1).toUpperCase();
    const title = this.#root.querySelector("h2");
    title.textContent = user;
    title.id = `title-${user}`;
    this.#root.setAttribute("aria-labelledby", title.id);
    this.#root.querySelector(".log").setAttribute("aria-label", `Events of ${user}`);
    this.#part("upload").setAttribute("aria-label", `Upload a video as ${user}`);
    this.#feed = new Feed(session, user, this);
    press(this.#part("upload"), () => this.#act("POST", "/demo/videos", { user }));
    press(this.#part("toggle"), () => (this.#feed.wanted ? this.#feed.stop() : this.#feed.start()));
    document.getElementById("panels").append(this.#root);
    this.#feed.start();
  }

  #part(name) {
    return this.#root.querySelector(`[data-testid="${name}"]`);
  }

  async #act(method, path, body) {
    try {
      await request(method, path, body);
    } catch (error) {
      this.notice(error.message);
    }
  }

  state(name, detail = "", replica = "") {
    const before = this.#root.dataset.state;
    this.#root.dataset.state = name;
    this.#part("state").textContent = detail ? `${name}, ${detail}` : name;
    this.#part("replica").textContent = replica;
    if (name !== "live") this.#part("rtt").textContent = "";
    const toggle = this.#part("toggle");
    this.#root.dataset.wanted = this.#feed.wanted;
    toggle.textContent = this.#feed.wanted ? "Disconnect" : "Reconnect";
    toggle.setAttribute("aria-label", `${toggle.textContent} ${this.#user}`);
    if (name !== before) announce(`${this.#user} is ${name}`);
  }

  roundTrip(ms) {
    this.#part("rtt").textContent = `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms round trip`;
  }

  notice(text, subject = text) {
    const notice = this.#part("notice");
    notice.textContent = text;
    notice.hidden = text === "";
    if (text) announce(`${this.#user}: ${text}`, `${this.#user} ${subject}`);
  }

  caughtUp(missed) {
    const what = missed === 1 ? "1 missed event" : `${missed} missed events`;
    this.notice(`Caught up ${what}.`, "caught up");
  }

  snapshot(videos, truncated) {
    for (const card of this.#videos.values()) card.remove();
    this.#videos.clear();
    for (const video of videos) this.#place(String(video.id), video);
    this.#countVideos();
    if (truncated) this.notice("You have more videos than a snapshot holds; these are some of them.");
  }

  event(event, missed) {
    const { type, subject, data } = event;
    if (/\.(deleted|removed)$/.test(type)) {
      this.#remove(subject);
      announce(`${this.#user}: ${subject} is ${type.endsWith("removed") ? `${this.#peer}’s now` : "deleted"}`);
    } else if (/\.(created|added|updated)$/.test(type)) {
      this.#place(subject, data, "flash");
      if (STEPS[data?.processing_status] === 3) announce(`${this.#user}: ${subject} is ${data.processing_status}`);
    }
    this.#countVideos();
    this.#log(event, missed);
    if (!missed) restart(document.getElementById("flow"), "pulse");
  }

  // place draws a video as it stands now: a new card in its place, newest first, or the one that is there.
  #place(id, data, effect) {
    let card = this.#videos.get(id);
    if (!card) {
      card = this.#card(id);
      this.#videos.set(id, card);
      const list = this.#part("videos");
      const older = [...list.children].find((other) => other.dataset.id < id);
      list.insertBefore(card, older ?? null);
      if (effect) effect = "arrive";
    }
    const status = String(data?.processing_status ?? card.dataset.status ?? "unknown");
    const step = STEPS[status] ?? 0;
    card.dataset.status = status;
    card.querySelector(".status").textContent = status;
    const track = card.querySelector(".track");
    track.setAttribute("aria-valuenow", step);
    track.setAttribute("aria-valuetext", status);
    // Not disabled: a button that goes dead under a keyboard user's hands takes the focus with it.
    card.querySelector('[data-testid="fail"]').setAttribute("aria-disabled", String(step === 3));
    if (effect) restart(card, effect);
  }

  #card(id) {
    const card = copy("video-template");
    card.dataset.id = id;
    card.dataset.testid = `video-${id}`;
    card.querySelector(".id").textContent = id;
    card.querySelector(".track").setAttribute("aria-label", `Progress of ${id}`);
    card.querySelector(".poster").style.setProperty("--hue", hue(id));
    const path = `/demo/videos/${encodeURIComponent(id)}`;
    const button = (name, text, act) => {
      const element = card.querySelector(`[data-testid="${name}"]`);
      element.textContent = text;
      element.setAttribute("aria-label", `${text}: ${id}`);
      press(element, act);
    };
    button("fail", "Fail", () => this.#act("POST", `${path}/fail`));
    button("handover", `Give to ${this.#peer}`, () => this.#act("POST", `${path}/handover`, { to: this.#peer }));
    button("delete", "Delete", () => this.#act("DELETE", path));
    return card;
  }

  #remove(id) {
    const card = this.#videos.get(id);
    if (!card) return;
    this.#videos.delete(id);
    if (card.contains(document.activeElement)) {
      const cards = [...card.parentElement.children];
      const at = cards.indexOf(card);
      const next = [...cards.slice(at + 1), ...cards.slice(0, at).reverse()].find((other) => !other.inert);
      (next?.querySelector("button") ?? this.#part("upload")).focus();
    }
    delete card.dataset.testid;
    card.inert = true;
    if (calm.matches) {
      card.remove();
      return;
    }
    const shrink = [
      { height: `${card.offsetHeight}px`, opacity: 1 },
      { height: 0, opacity: 0, paddingBlock: 0, marginBlock: 0, transform: "scale(0.96)" },
    ];
    card.style.overflow = "hidden";
    card.animate(shrink, { duration: 260, easing: "ease-in" }).finished.finally(() => card.remove());
  }

  #countVideos() {
    this.#part("empty").hidden = this.#videos.size > 0;
  }

  #log({ id, type, subject, time }, missed) {
    const latency = Math.max(0, Date.now() - Date.parse(time));
    this.#events++;
    if (!missed) this.#latencies.push(latency);
    if (this.#latencies.length > 50) this.#latencies.shift();
    const row = document.createElement("tr");
    row.dataset.testid = "log-entry";
    row.dataset.kind = type.slice(type.indexOf(".") + 1);
    for (const text of [type, subject, id, missed ? `missed, ${spell(latency)} ago` : spell(latency)]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      row.append(cell);
    }
    const rows = this.#part("log");
    rows.prepend(row);
    if (rows.children.length > LOG_ROWS) rows.lastElementChild.remove();
    const sorted = this.#latencies.toSorted((a, b) => a - b);
    const median = sorted.length ? `, median ${spell(sorted[sorted.length >> 1])}` : "";
    this.#part("stats").textContent = `${this.#events} received${median}`;
  }
}

function copy(template) {
  return document.getElementById(template).content.firstElementChild.cloneNode(true);
}

// press runs an action on a click, once at a time.
function press(button, action) {
  button.addEventListener("click", async () => {
    if (button.ariaDisabled === "true" || button.ariaBusy === "true") return;
    button.ariaBusy = "true";
    await action();
    button.ariaBusy = "false";
  });
}

// restart plays a CSS animation from its beginning; reading the width makes the browser see the class go.
function restart(element, name) {
  element.classList.remove(name);
  void element.offsetWidth;
  element.classList.add(name);
}

function hue(id) {
  let sum = 7;
  for (const letter of id) sum = (sum * 31 + letter.codePointAt(0)) % 65_536;
  return Math.round(sum * 222.5) % 360; // the golden angle, in large steps: neighbours look different
}

function spell(ms) {
  if (ms < 1) return "< 1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 100_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60_000)} min`;
}

// announce tells a screen reader what changed, a few things at a time: a burst read aloud word by word helps nobody.
// Of several texts on one subject it tells the last.
const news = new Map();
let telling = 0;
function announce(text, subject = text) {
  news.delete(subject);
  news.set(subject, text);
  telling ||= setTimeout(() => {
    telling = 0;
    document.getElementById("announcer").textContent = [...news.values()].slice(-4).join(". ");
    news.clear();
  }, 700);
}

async function request(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${(await response.text()).trim() || response.status}`);
  return response.status === 204 ? null : response.json();
}

async function main() {
  const session = new Session();
  const trouble = document.getElementById("trouble");
  for (let delay = 500; ; delay = Math.min(delay * 2, LONGEST_DELAY)) {
    try {
      const [first, second] = await session.renew();
      trouble.hidden = true;
      new Panel(session, first, second);
      new Panel(session, second, first);
      return;
    } catch (error) {
      trouble.textContent = `The example app does not answer; trying again. (${error.message})`;
      trouble.hidden = false;
    }
    await new Promise((resolve) => setTimeout(resolve, delay));
  }
}

main();
