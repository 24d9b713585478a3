// Two clients of pusher-js and the server of their application; prints what they have received, by step.
const PusherClient = require("pusher-js");
const PusherServer = require("pusher");

const [mark, encryptionMasterKeyBase64, ...ports] = process.argv.slice(2);
const WAIT_MS = 50_000;
const app = { appId: "4711", key: "kit-key", secret: "kit-secret" };
const server = new PusherServer({ ...app, host: "127.0.0.1", port: ports[0], useTLS: false, encryptionMasterKeyBase64 });
const found = {};

// A page would ask its server for the signature; here it is the same program.
function connected(port, user) {
  return new PusherClient(app.key, {
    wsHost: "127.0.0.1",
    wsPort: port,
    forceTLS: false,
    enabledTransports: ["ws"],
    cluster: "",
    channelAuthorization: {
      customHandler: (data, done) => {
        const member = data.channelName.startsWith("presence-") && !user.signedIn ? user.member : undefined;
        const signed = server.authorizeChannel(data.socketId, data.channelName, member);
        done(null, user.forges ? { auth: "kit-key:x" } : signed);
      },
    },
    userAuthentication: {
      customHandler: (data, done) => done(null, server.authenticateUser(data.socketId, user.user)),
    },
  });
}

function next(emitter, event) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no ${event}`)), WAIT_MS);
    emitter.bind(event, function received(data, more) {
      clearTimeout(late);
      emitter.unbind(event, received);
      resolve(more?.user_id ? { data, user_id: more.user_id } : data);
    });
  });
}

const joined = (client, name) => next(client.subscribe(name), "pusher:subscription_succeeded");

async function main() {
  const ann = { member: { user_id: "ann", user_info: { name: "Ann" } }, user: { id: `${mark}-u`, user_info: { name: "U" } } };
  const bob = { member: { user_id: 7 }, user: { id: `${mark}-v` } };
  const [one, two] = [connected(ports[0], ann), connected(ports[1], bob)];
  await Promise.all([one, two].map((client) => next(client.connection, "connected")));
  found.socket_ids = [one, two].map((client) => client.connection.socket_id);

  const [open, secret, room, sealed, cache] = ["open", "private-p", "presence-r", "private-encrypted-e", "cache-c"].map(
    (name) => name.replace(/([a-z]+)$/, `${mark}-$1`),
  );
  await joined(one, open);
  await joined(one, secret);
  await joined(two, secret);
  const members = await joined(one, room);
  found.members = { me: members.me, members: members.members, count: members.count };
  const added = next(one.channel(room), "pusher:member_added");
  found.members_of_two = (await joined(two, room)).members;
  found.added = await added;

  let event = next(one.channel(open), "created");
  await server.trigger(open, "created", { id: 7 });
  found.event = await event;
  event = next(two.channel(secret), "seen");
  const unseen = [];
  one.channel(secret).bind("seen", (data) => unseen.push(data));
  await server.trigger(secret, "seen", "a text", { socket_id: one.connection.socket_id });
  found.others = await event;

  event = next(two.channel(room), "client-hi");
  one.channel(room).trigger("client-hi", { n: [1] });
  found.client_event = await event;
  found.unseen = unseen;

  await joined(one, sealed);
  event = next(one.channel(sealed), "hidden");
  await server.trigger(sealed, "hidden", { id: 8 });
  found.encrypted = await event;

  await next(one.subscribe(cache), "pusher:cache_miss");
  await server.trigger(cache, "kept", { id: 9 });
  found.kept = await next(two.subscribe(cache), "kept");

  one.signin();
  await one.user.signinDonePromise;
  ann.signedIn = true;
  found.user = one.user.user_data;
  await next(one.user.serverToUserChannel, "pusher:subscription_succeeded");
  event = next(one.user, "note");
  await server.sendToUser(`${mark}-u`, "note", { id: 10 });
  found.note = await event;
  found.by_sign_in = (await joined(one, `${room}-2`)).me;

  bob.forges = true;
  found.refused = await next(two.subscribe(`${secret}-2`), "pusher:subscription_error");
  found.open_after_refusal = two.connection.state;

  event = next(one.channel(room), "pusher:member_removed");
  two.unsubscribe(room);
  found.removed = await event;

  event = next(one.connection, "disconnected");
  await server.terminateUserConnections(`${mark}-u`);
  await event;
  found.terminated = one.connection.state;
  two.disconnect();
}

main().then(
  () => console.log(JSON.stringify(found)),
  (error) => {
    console.error(error, JSON.stringify(found));
    process.exitCode = 1;
  },
).finally(() => process.exit());
