/** What the overview says about the engine. */

import { counted, duration, number } from "./dom.js";

/** Whether a node, of which these are the figures, has lost the engine. */
export const isAway = ({ engine_reachable: isReachable }) => !isReachable;

/**
 * Which engine there is, and for how long all nodes have reached it, unless it cannot be lost; or how many have lost it. The first
 * node answers the page.
 */
export function engineText(nodes) {
  const [{ engine, engine_for_s: forSeconds }] = nodes;
  const away = nodes.filter(isAway);
  const times = (each) => each.map(({ engine_for_s: seconds }) => seconds);
  if (away.length) return `lost by ${counted(away.length, "node")} for ${duration(Math.max(...times(away)))}`;
  return forSeconds === null ? engine : `${engine}, in reach for ${duration(Math.min(...times(nodes)))}`;
}

/** How many calls failed, and for how long the engine was out of reach. `of` returns the value of a series. */
export function engineFailures(of) {
  const away = of("engine_away_s") ? `, out of reach for ${duration(Math.round(of("engine_away_s")))}` : "";
  return `${number(of("engine_failed"))}${away}`;
}
