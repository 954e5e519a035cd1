// The state of the cluster as this browser has it, kept up to date by server-sent events.

export const cluster = { parts: null, nodes: new Map(), beats: new Map(), readAt: 0, error: null };

const RETRY_MS = 2000;
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

export function follow(whenChanged) {
  changed = whenChanged;
  const events = new EventSource('api/events');
  events.addEventListener('state', event => take(JSON.parse(event.data), true));
  events.addEventListener('change', event => take(JSON.parse(event.data), false));
  events.addEventListener('age', event => {
    const found = JSON.parse(event.data);
    heardAt = performance.now();
    cluster.error = found.error;
    if (found.age_sec !== null) cluster.readAt = heardAt - found.age_sec * 1000;
  });
  events.addEventListener('error', () => {
    // A browser tries again by itself after a connection was cut, not after an answer such as a proxy's 502.
    if (events.readyState === EventSource.CLOSED) setTimeout(() => follow(whenChanged), RETRY_MS);
  });
}

export async function get(path, query = {}) {
  const answer = await fetch(`${path}?${new URLSearchParams(query)}`);
  const found = await answer.json();
  if (found.error && !answer.ok) throw new Error(found.error);
  return found;
}
