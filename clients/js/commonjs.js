/** Writes the client for programs that `require` it: what npm packs is made from channelstream.js and its types. */

import { copyFile, readFile, writeFile } from "node:fs/promises";

const file = (ending) => new URL(`channelstream.${ending}`, import.meta.url);
const source = await readFile(file("js"), "utf8");
const names = [...source.matchAll(/^export (?:class|function) (\w+)/gm)].map(([, name]) => name);
const body = source.replace(/^export /gm, "");

await writeFile(file("cjs"), `${body}\nmodule.exports = { ${names.join(", ")} };\n`);
await copyFile(file("d.ts"), file("d.cts"));
