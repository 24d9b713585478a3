/** Who is where, from an answer of the server and the events after it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Channelstream, Roster } from "../channelstream.js";
import { FakeSocket } from "./fakes.js";

const ANSWER = {
  channels: ["a", "b"],
  channels_info: {
    channels: { a: { users: ["zoe", "ann"] }, b: { users: ["ann"] } },
    users: [{ user: "ann", state: { mood: "fine" } }, { user: "zoe", state: {} }],
  },
};
const presence = (action, user, state = {}, channel = "a") => ({ type: "presence", channel, user, state, message: { action } });
const names = (roster, channel = "a") => roster.users(channel).map(({ user }) => user);

function loaded() {
  const roster = new Roster();
  roster.load(ANSWER);
  return roster;
}

test("an answer of /connect fills the roster", () => {
  const roster = loaded();
  assert.deepEqual(roster.channels, ["a", "b"]);
  assert.deepEqual(roster.users("a"), [{ user: "ann", state: { mood: "fine" } }, { user: "zoe", state: {} }]);
  assert.deepEqual(roster.users("elsewhere"), []);
});

test("a channel without users is one", () => {
  const roster = new Roster();
  roster.load({ channels: { a: { users: [] } }, users: [] });
  assert.deepEqual(roster.channels, ["a"]);
});

test("users join and leave, with their state", () => {
  const roster = loaded();
  roster.apply(presence("joined", "bob", { mood: "new" }));
  roster.apply(presence("parted", "zoe", null));
  assert.deepEqual(roster.users("a").map(({ user, state }) => [user, state.mood]), [["ann", "fine"], ["bob", "new"]]);
});

test("a state is known while its user is in a channel", () => {
  const roster = loaded();
  roster.apply(presence("parted", "ann", null));
  assert.equal(roster.state("ann").mood, "fine");
  roster.apply(presence("parted", "ann", null, "b"));
  assert.deepEqual(roster.state("ann"), {});
});

test("a change of state replaces it, only for users of a channel", () => {
  const roster = loaded();
  const change = (user) => ({ type: "user_state_change", channel: "a", user, message: { state: { mood: "busy" } } });
  roster.apply(change("ann"));
  roster.apply(change("stranger"));
  assert.deepEqual([roster.state("ann"), roster.state("stranger")], [{ mood: "busy" }, {}]);
});

test("left channels are removed; channels that an answer of /info leaves out are empty", () => {
  const roster = loaded();
  roster.load({ channels: { a: { users: ["ann"] } }, users: [] }, ["a", "b"]);
  assert.deepEqual([names(roster), names(roster, "b")], [["ann"], []]);
  roster.load({ ...ANSWER, channels: ["b"], channels_info: { channels: {}, users: [] } });
  assert.deepEqual(roster.channels, ["b"]);
});

/** A roster, and what a program would show on each change: the channel with its users and their moods. */
function watched(...answers) {
  const shown = [];
  const roster = new Roster((channel) => shown.push([channel, ...roster.users(channel).map(({ user, state }) => `${user}:${state.mood}`)]));
  for (const answer of answers) roster.load(answer);
  return { roster, shown };
}

test("a change is announced after members and states are updated", () => {
  const { roster, shown } = watched(ANSWER);
  assert.deepEqual(shown.splice(0), [["a", "ann:fine", "zoe:undefined"], ["b", "ann:fine"]]);
  roster.apply(presence("joined", "bob", { mood: "new" }));
  assert.deepEqual(shown, [["a", "ann:fine", "bob:new", "zoe:undefined"]]);
});

test("removed channels, and all channels of a user whose state changed, are announced", () => {
  const { roster, shown } = watched(ANSWER);
  shown.length = 0;
  roster.apply({ type: "user_state_change", channel: "b", user: "ann", message: { state: { mood: "busy" } } });
  assert.deepEqual(shown.splice(0), [["b", "ann:busy"], ["a", "ann:busy", "zoe:undefined"]]);
  roster.load({ channels: { b: { users: ["ann"] } }, users: [{ user: "ann", state: { mood: "calm" } }] });
  assert.deepEqual(shown.splice(0), [["b", "ann:calm"], ["a", "ann:calm", "zoe:undefined"]]);
  roster.load({ channels: ["b"], channels_info: { channels: {}, users: [] } });
  assert.deepEqual(shown, [["a"]]);
});

test("a repeated leave of one channel does not affect another channel", () => {
  const { roster } = watched(ANSWER, ANSWER);
  for (let time = 0; time < 2; time++) roster.apply(presence("joined", "ann", { mood: "fine" }));
  for (let time = 0; time < 2; time++) roster.apply(presence("parted", "ann", null));
  roster.apply(presence("parted", "nobody", null, "nowhere"));
  assert.deepEqual([names(roster), names(roster, "b"), roster.state("ann").mood], [["zoe"], ["ann"], "fine"]);
  roster.load({ channels: [], channels_info: { channels: {}, users: [] } });
  assert.deepEqual([roster.channels, roster.state("ann"), roster.state("zoe")], [[], {}, {}]);
});

test("an answer with channel names only does not change the members", () => {
  const { roster } = watched({ conn_id: "c", channels: ["a"] });
  assert.deepEqual(roster.channels, []);
});

test("a leave costs the same in a large channel as in a small one", () => {
  const users = Array.from({ length: 20_000 }, (_, at) => `user-${at}`);
  const roster = new Roster();
  roster.load({ channels: { a: { users } }, users: users.map((user) => ({ user, state: {} })) });
  const started = performance.now();
  for (const user of users.slice(0, 200)) roster.apply(presence("parted", user, null));
  assert.ok(performance.now() - started < 500); // seconds, if each looked at all users
});

test("events that arrive before an answer override the answer", async () => {
  const roster = loaded();
  let answer;
  const loading = roster.loadLater(new Promise((resolve) => (answer = resolve)));
  roster.apply(presence("joined", "bob"));
  roster.apply(presence("parted", "bob", null));
  roster.apply(presence("joined", "eve"));
  answer({ channels: { a: { users: ["ann", "bob"] } }, users: [] });
  await loading;
  assert.deepEqual(names(roster), ["ann", "eve"]);
});

test("of events that arrive before an answer the last ones of a user count in their order", async () => {
  const roster = new Roster();
  let answer;
  const loading = roster.loadLater(new Promise((resolve) => (answer = resolve)));
  roster.apply(presence("joined", "bob", { mood: "first" }));
  roster.apply({ type: "user_state_change", channel: "a", user: "bob", message: { state: { mood: "second" } } });
  roster.apply(presence("parted", "bob", null));
  roster.apply(presence("joined", "bob", { mood: "last" }));
  answer({ channels: { a: { users: ["bob"] } }, users: [] });
  await loading;
  assert.deepEqual(roster.users("a"), [{ user: "bob", state: { mood: "last" } }]);
});

test("after a loss the stream asks the application until it answers with channels", async (t) => {
  t.mock.method(Math, "random", () => 0);
  const asked = [];
  const fetchInfo = async (channels) => {
    asked.push(channels);
    if (asked.length === 1) throw new Error("not now");
    if (asked.length < 5) return [null, "text", { error: "not now" }][asked.length - 2];
    return { channels: { a: { users: ["new"] } }, users: [] };
  };
  const stream = new Channelstream({
    url: "http://push.test/",
    WebSocket: FakeSocket,
    fetch: async () => new Response("true"),
    connection: { conn_id: "c", ...ANSWER },
    fetchInfo,
  }).open();
  (await FakeSocket.next()).resume({ recovered: [], lost: ["", "a"] });
  while (names(stream.roster)[0] !== "new") await new Promise((resolve) => stream.on("roster", resolve));
  assert.deepEqual(asked, Array(5).fill(["a"]));
  assert.deepEqual(names(stream.roster, "b"), ["ann"]);
  stream.close();
});
