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

test("an answer of /connect is the beginning", () => {
  const roster = loaded();
  assert.deepEqual(roster.channels, ["a", "b"]);
  assert.deepEqual(roster.users("a"), [{ user: "ann", state: { mood: "fine" } }, { user: "zoe", state: {} }]);
  assert.deepEqual(roster.users("elsewhere"), []);
});

test("people come and go, with their state", () => {
  const roster = loaded();
  roster.apply(presence("joined", "bob", { mood: "new" }));
  roster.apply(presence("parted", "zoe", null));
  assert.deepEqual(roster.users("a").map(({ user, state }) => [user, state.mood]), [["ann", "fine"], ["bob", "new"]]);
});

test("a state is known as long as somebody is somewhere", () => {
  const roster = loaded();
  roster.apply(presence("parted", "ann", null));
  assert.equal(roster.state("ann").mood, "fine");
  roster.apply(presence("parted", "ann", null, "b"));
  assert.deepEqual(roster.state("ann"), {});
});

test("a change of state replaces it, and only for those who are there", () => {
  const roster = loaded();
  const change = (user) => ({ type: "user_state_change", channel: "a", user, message: { state: { mood: "busy" } } });
  roster.apply(change("ann"));
  roster.apply(change("stranger"));
  assert.deepEqual([roster.state("ann"), roster.state("stranger")], [{ mood: "busy" }, {}]);
});

test("channels that one has left are gone; those an answer of /info leaves out are empty", () => {
  const roster = loaded();
  roster.load({ channels: { a: { users: ["ann"] } }, users: [] }, ["a", "b"]);
  assert.deepEqual([names(roster), names(roster, "b")], [["ann"], []]);
  roster.load({ ...ANSWER, channels: ["b"], channels_info: { channels: {}, users: [] } });
  assert.deepEqual(roster.channels, ["b"]);
});

test("what is heard while an answer is on its way counts more than the answer", async () => {
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

test("after a loss the stream asks the application anew, until it answers", async () => {
  const asked = [];
  const fetchInfo = async (channels) => {
    asked.push(channels);
    if (asked.length === 1) throw new Error("not now");
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
  assert.deepEqual(asked, [["a"], ["a"]]);
  assert.deepEqual(names(stream.roster, "b"), ["ann"]);
  stream.close();
});
