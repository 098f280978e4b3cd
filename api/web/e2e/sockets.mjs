// Everything that came over the page's WebSockets, written down below the page: by the browser, on the wire's side of
// its JavaScript. A socket is the user's whose token opened it, whatever anybody says later.

export async function record(page) {
  const sockets = [];
  const byId = new Map();
  const devtools = await page.context().newCDPSession(page);
  devtools.on("Network.webSocketWillSendHandshakeRequest", ({ requestId, request }) => {
    const socket = { user: userOf(request.headers), frames: [], open: true };
    byId.set(requestId, socket);
    sockets.push(socket);
  });
  devtools.on("Network.webSocketFrameReceived", ({ requestId, response }) => {
    if (response.opcode === 1) byId.get(requestId).frames.push(JSON.parse(response.payloadData));
  });
  devtools.on("Network.webSocketClosed", ({ requestId }) => {
    const socket = byId.get(requestId);
    if (socket) socket.open = false;
  });
  await devtools.send("Network.enable");
  return sockets;
}

function userOf(headers) {
  const [, offered] = Object.entries(headers).find(([name]) => name.toLowerCase() === "sec-websocket-protocol") ?? [];
  const [, payload] = offered?.match(/reelay\.bearer\.[^.]+\.([^.]+)\./) ?? [];
  if (!payload) throw new Error(`a WebSocket without a token among its subprotocols: ${offered}`);
  return JSON.parse(Buffer.from(payload, "base64url")).sub;
}

// events returns what the user's sockets brought of the user's own events, in the order of arrival.
export function events(sockets, user) {
  return sockets.filter((socket) => socket.user === user).flatMap(({ frames }) => frames.filter((frame) => frame.source === "reelay"));
}

// videosIn returns every video that a frame mentions.
export function videosIn({ subject, data }) {
  return [subject, ...(data?.videos ?? []).map((video) => video.id ?? video)].filter(Boolean);
}
