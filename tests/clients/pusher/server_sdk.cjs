// Calls a server as an application with Pusher's SDK for node does, and prints what it is answered, by step.
const Pusher = require("pusher");

const [port, mark, leftOut, encryptionMasterKeyBase64] = process.argv.slice(2);
const options = { appId: "4711", key: "kit-key", host: "127.0.0.1", port, useTLS: false };
const client = new Pusher({ ...options, secret: "kit-secret", encryptionMasterKeyBase64 });
const stranger = new Pusher({ ...options, secret: "wrong" });
const [one, other, presence] = [`${mark}-a`, `${mark}-b`, `presence-${mark}`];
const info = "user_count,subscription_count";

const STEPS = {
  object: () => client.trigger([one, other], "created", { id: 7 }),
  text: () => client.trigger(one, "said", "hello"),
  left_out: () => client.trigger(one, "secret", {}, { socket_id: leftOut }),
  batch: () =>
    client.triggerBatch([
      { name: "first", channel: one, data: { n: 1 } },
      { name: "second", channel: one, data: { n: 2 }, socket_id: leftOut },
    ]),
  encrypted: () => client.trigger(`private-encrypted-${mark}`, "hidden", { id: 7 }),
  info: () => client.trigger([presence, other], "counted", {}, { info }),
  to_user: () => client.sendToUser(mark, "note", { id: 7 }),
  channels: () => client.get({ path: "/channels", params: { filter_by_prefix: `${mark}-`, info: "subscription_count" } }),
  presence: () => client.get({ path: "/channels", params: { filter_by_prefix: "presence-", info: "user_count" } }),
  channel: () => client.get({ path: `/channels/${presence}`, params: { info } }),
  users: () => client.get({ path: `/channels/${presence}/users` }),
  too_long: () => client.trigger(one, "long", "x".repeat(10_241)),
  too_many: () => client.triggerBatch(Array(11).fill({ name: "many", channel: one, data: {} })),
  attribute: () => client.get({ path: `/channels/${one}`, params: { info: "user_count" } }),
  signature: () => stranger.trigger(one, "created", {}),
};

async function step(call) {
  try {
    const answer = await call();
    return await answer.json();
  } catch (error) {
    return error.status;
  }
}

(async () => {
  const answers = {};
  for (const [name, call] of Object.entries(STEPS)) answers[name] = await step(call);
  console.log(JSON.stringify(answers));
})();
