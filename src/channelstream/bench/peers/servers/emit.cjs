// `node emit.cjs PORT`: a message to /publish is emitted to every client.
"use strict";

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const http = createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  io.emit("message", JSON.parse(Buffer.concat(parts).toString()));
  response.end("ok");
});
// Longer than a run: the load generator does not answer the heartbeats of Engine.IO.
const io = new Server(http, { transports: ["websocket"], pingInterval: 600_000, serveClient: false });

http.listen(Number(process.argv[2]), "127.0.0.1", 4096);
