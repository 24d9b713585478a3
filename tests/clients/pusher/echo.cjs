// Two clients of Laravel Echo and the server of their application; prints what they have received, by step.
const PusherClient = require("pusher-js");
const PusherServer = require("pusher");

const [mark, , ...ports] = process.argv.slice(2);
const WAIT_MS = 50_000;
const app = { appId: "4711", key: "kit-key", secret: "kit-secret" };
const server = new PusherServer({ ...app, host: "127.0.0.1", port: ports[0], useTLS: false });
const found = {};

function connected(Echo, broadcaster, port, member) {
  return new Echo({
    broadcaster,
    key: app.key,
    wsHost: "127.0.0.1",
    wsPort: port,
    forceTLS: false,
    enabledTransports: ["ws"],
    cluster: "",
    Pusher: PusherClient,
    authorizer: (channel) => ({
      authorize: (socketId, done) => {
        const isPresence = channel.name.startsWith("presence-");
        const signed = server.authorizeChannel(socketId, channel.name, isPresence ? member : undefined);
        done(null, channel.name.includes("forbidden") ? { auth: "kit-key:x" } : signed);
      },
    }),
  });
}

// Return what the callback is called with that `listen` is given.
function called(listen) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no call: ${listen}`)), WAIT_MS);
    listen((...values) => {
      clearTimeout(late);
      resolve(values[0] ?? null);
    });
  });
}

async function main() {
  const { default: Echo } = await import("laravel-echo");  // Its CommonJS is not one for node.
  const echo = (...all) => connected(Echo, ...all);
  const one = echo("pusher", ports[0], { user_id: 1, user_info: { name: "Ann" } });
  const two = echo("reverb", ports[1], { user_id: 2, user_info: { name: "Bob" } });
  await called((done) => one.channel(`${mark}-open`).subscribed(done));
  let event = called((done) => one.channel(`${mark}-open`).listen("OrderShipped", done));
  await server.trigger(`${mark}-open`, "App\\Events\\OrderShipped", { order: { id: 7 } });
  found.event = await event;

  await called((done) => one.private(`${mark}-p`).subscribed(done));
  await called((done) => two.private(`${mark}-p`).subscribed(done));
  event = called((done) => two.private(`${mark}-p`).listenForWhisper("typing", done));
  one.private(`${mark}-p`).whisper("typing", { name: "Ann" });
  found.whisper = await event;
  event = called((done) => one.private(`${mark}-p`).listen(".others", done));
  const unseen = [];
  two.private(`${mark}-p`).listen(".others", (data) => unseen.push(data));
  await server.trigger(`private-${mark}-p`, "others", { id: 8 }, { socket_id: two.socketId() });
  found.others = await event;

  found.here = await called((done) => one.join(`${mark}-r`).here(done));
  const joining = called((done) => one.join(`${mark}-r`).joining(done));
  found.here_of_two = await called((done) => two.join(`${mark}-r`).here(done));
  found.joining = await joining;
  event = called((done) => one.join(`${mark}-r`).leaving(done));
  two.leave(`${mark}-r`);
  found.leaving = await event;
  found.unseen = unseen;

  found.error = await called((done) => one.private(`${mark}-forbidden`).error(done));
  found.state = one.connector.pusher.connection.state;
  [one, two].forEach((each) => each.disconnect());
}

main().then(
  () => console.log(JSON.stringify(found)),
  (error) => {
    console.error(error, JSON.stringify(found));
    process.exitCode = 1;
  },
).finally(() => process.exit());
