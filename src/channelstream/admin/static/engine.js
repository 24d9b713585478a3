/** What the overview says about the engine. */

import { counted, duration, number } from "./dom.js";

/** Whether a node, of which these are the figures, has lost the engine. */
export const isAway = ({ engine_reachable: isReachable }) => !isReachable;

/** Which engine there is, or how many nodes have lost it, and for how long. */
export function engineText(nodes) {
  const away = nodes.filter(isAway);
  if (!away.length) return `${nodes[0].engine} in reach`;
  const longest = Math.max(...away.map(({ engine_for_s: seconds }) => seconds));
  return `lost by ${counted(away.length, "node")} for ${duration(longest)}`;
}

/** How many calls failed, and for how long the engine was out of reach. `of` returns the value of a series. */
export function engineFailures(of) {
  const away = of("engine_away_s") ? `, out of reach for ${duration(Math.round(of("engine_away_s")))}` : "";
  return `${number(of("engine_failed"))}${away}`;
}
