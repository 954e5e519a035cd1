// The state of the cluster as this browser has it, kept up to date by server-sent events.

import { inOrder } from './dom.js';

// `rank` is the place of each node in the order of the names.
export const cluster = { parts: null, nodes: new Map(), beats: new Map(), rank: new Map(), readAt: 0, error: null };

const RETRY_MS = 2000, HIDDEN_MS = 30_000;
let changed = () => {};
let heardAt = performance.now();

function merge(table, rows) {
  for (const [name, row] of Object.entries(rows)) row === null ? table.delete(name) : table.set(name, row);
}

function take({ nodes, beats, ...parts }, whole) {
  if (whole) {
    cluster.nodes.clear();
    cluster.beats.clear();
  }
  // Names come from the store, and `__proto__` is one: so they are keys of maps.
  cluster.parts = { ...(whole ? {} : cluster.parts), ...parts };
  merge(cluster.nodes, nodes ?? {});
  merge(cluster.beats, beats ?? {});
  if (nodes && (cluster.rank.size !== cluster.nodes.size || Object.keys(nodes).some(name => !cluster.rank.has(name)))) {
    cluster.rank = new Map([...cluster.nodes.keys()].sort(inOrder).map((name, nth) => [name, nth]));
  }
  heardAt = cluster.readAt = performance.now();
  cluster.error = null;
  changed(new Set([...Object.keys(parts), ...(nodes ? ['nodes'] : []), ...(beats ? ['beats'] : [])]));
}

// How old what is shown is, and why: `lost` if the server is not heard any more.
export function freshness() {
  const now = performance.now();
  return { age: (now - cluster.readAt) / 1000, lost: now - heardAt > 5000, error: cluster.error, known: cluster.parts !== null };
}

// The time by the store's clock.
export const storeNow = () => cluster.parts.now + (performance.now() - cluster.readAt) / 1000;

let events = null;

function open() {
  events?.close();
  events = new EventSource('api/events');
  events.addEventListener('state', event => take(JSON.parse(event.data), true));
  events.addEventListener('change', event => take(JSON.parse(event.data), false));
  events.addEventListener('age', event => {
    const found = JSON.parse(event.data);
    heardAt = performance.now();
    cluster.error = found.error;
    if (found.age_sec !== null) cluster.readAt = heardAt - found.age_sec * 1000;
  });
  events.addEventListener('error', event => {
    // A browser tries again by itself after a connection was cut, not after an answer such as a proxy's 502.
    if (event.target.readyState === EventSource.CLOSED) setTimeout(() => document.hidden || open(), RETRY_MS);
  });
}

// A browser has six connections to a server at most, for all its tabs: so only the tabs that are seen hold one. The others ask now and then,
// for the sake of their titles.
export function follow(whenChanged) {
  changed = whenChanged;
  document.addEventListener('visibilitychange', () => document.hidden ? events.close() : open());
  setInterval(async () => {
    if (!document.hidden) return;
    try {
      const { error, ...state } = await get('api/state');
      if (!document.hidden) return;  // seen again meanwhile: the events have told something newer
      take(state, true);
      cluster.error = error ?? null;
    } catch (problem) {
      cluster.error = problem.message;
    }
  }, HIDDEN_MS);
  open();
}

export const get = (path, query = {}) => answered(`${path}?${new URLSearchParams(query)}`);

// A proxy before the server may answer in its place, with a page of its own: in an outage, or because one has to log in again.
export async function answered(path, options) {
  const answer = await fetch(path, options);
  const found = await answer.json().catch(() => null);
  if (!answer.ok || found === null) throw Object.assign(new Error(found?.error ?? `the answer, of status ${answer.status}, is not from jobsync but from what is in between, such as a proxy: does it reach jobsync, and are you logged in?`), { status: found && answer.status });
  return found;
}
