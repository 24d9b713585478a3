// Verifies a webhook with Pusher's SDK for node: reads it as JSON, and prints whether it is valid and what it reports.
const Pusher = require("pusher");
const { readFileSync } = require("node:fs");

const { headers, rawBody, secret } = JSON.parse(readFileSync(0, "utf8"));
const webhook = new Pusher({ appId: "4711", key: "kit-key", secret }).webhook({ headers, rawBody });
console.log(JSON.stringify(webhook.isValid() ? { events: webhook.getEvents(), time: webhook.getTime().getTime() } : null));
