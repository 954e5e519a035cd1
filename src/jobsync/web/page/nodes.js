// The nodes: a page of the table at a time, the ones that need attention first.

import { at, clock, counted, duration, fill, make, name, number, pages, say, text } from './dom.js';
import { cluster, get, storeNow } from './feed.js';
import { nodeActions } from './steer.js';

const SIZE = 25, SHOWN_MS = 8000;
let first = 0;
const deltas = new Map(), loads = new Map();

// Seconds until the leader may take a node for dead; null for one that has left.
export function leaseLeft(of, node) {
  const beat = cluster.beats.get(of);
  return beat === undefined || beat === null ? null : Math.max(0, node.timeout_sec - Math.max(0, storeNow() - beat));
}

export const isLate = (of, node) => node.state === 'joined' && (leaseLeft(of, node) ?? Infinity) <= node.timeout_sec / 3;

const URGENCY = { silent: 0, stalled: 1, joined: 3, left: 4 };

// By what each order compares, the smallest first; the order of the names decides where that is equal.
const ORDERS = {
  attention: ([of, node]) => isLate(of, node) ? 1 : URGENCY[node.state] - (node.candidate === false || node.is_drained ? 1 : 0) - (node.is_leader ? 0.5 : 0),
  name: () => 0,
  load: ([, node]) => -node.tokens,
  lease: ([of, node]) => leaseLeft(of, node) ?? Infinity,
  age: ([, node]) => -node.since,
};

function sorted(nodes, order) {
  return nodes.map(entry => [ORDERS[order](entry), cluster.rank.get(entry[0]), entry]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, , entry]) => entry);
}

export function startNodes() {
  const again = () => { first = 0; showNodes(); };
  at('nodes-find').addEventListener('input', again);
  at('nodes-order').addEventListener('change', again);
}

// Note what each node gained or lost, so that it can be shown for a while.
export function noteLoads() {
  const now = performance.now();
  for (const [of, { tokens }] of cluster.nodes) {
    const before = loads.get(of);
    if (before !== undefined && before !== tokens) deltas.set(of, { by: tokens - before + (fresh(of)?.by ?? 0), at: now });
    loads.set(of, tokens);
  }
  for (const of of loads.keys()) if (!cluster.nodes.has(of)) loads.delete(of), deltas.delete(of);
}

function fresh(of) {
  const delta = deltas.get(of);
  return delta && delta.by && performance.now() - delta.at < SHOWN_MS ? delta : undefined;
}

export function showNodes() {
  if (at('node').open) showOpened();
  const wanted = at('nodes-find').value.trim().toLowerCase();
  const found = [...cluster.nodes].filter(([of, node]) => !wanted || [of, node.host, node.state, node.is_drained ? 'drained' : '',
    node.is_leader ? 'leader' : ''].some(each => String(each).toLowerCase().includes(wanted)));
  if (first >= found.length) first = 0;
  say('nodes-count', number(cluster.nodes.size));
  pages('nodes-pages', first, SIZE, found.length, to => { first = to; showNodes(); });
  const most = Math.max(1, ...[...cluster.nodes.values()].map(node => node.tokens));
  const body = at('nodes'), rows = [...body.rows].filter(row => row.dataset.node !== undefined);
  const shown = sorted(found, at('nodes-order').value).slice(first, first + SIZE);
  if (!shown.length) return fill(body, [make('tr', {}, make('td', { colspan: 6, kind: 'quiet' }, wanted ? 'no node matches' : 'no node has joined'))]);
  if (rows.length !== body.rows.length) body.replaceChildren();
  shown.forEach((entry, nth) => {
    const row = body.rows[nth] ?? body.appendChild(emptyRow());
    showNode(row, entry, most);
  });
  while (body.rows.length > shown.length) body.lastChild.remove();
}

// A row is made once and written into: what has the focus keeps it, and a lease bar moves on from where it was.
function emptyRow() {
  const button = make('button', { kind: 'link', click: event => openNode(event.currentTarget.closest('tr').dataset.node) });
  return make('tr', { data: { node: '' } },
    make('th', { scope: 'row' }, button, make('span', { kind: 'badges' })),
    make('td', {}, make('span', { kind: 'gauge load', 'aria-hidden': 'true' }, make('span')), make('span', { kind: 'tokens' }), make('span', { kind: 'delta' })),
    make('td', {}, make('span', { kind: 'gauge lease', 'aria-hidden': 'true' }, make('span')), make('span', { kind: 'left' })),
    make('td', { kind: 'far' }), make('td', { kind: 'far' }), make('td', { kind: 'far' }));
}

function badges(of, node) {
  const found = [];
  if (isLate(of, node)) found.push(['late', 'bad']);
  if (node.is_leader) found.push(['leader', 'leads']);
  if (node.state !== 'joined') found.push([node.state, node.state === 'left' ? 'quiet' : 'bad']);
  if (node.is_drained) found.push(['drained', 'warn']);
  if (node.candidate === false) found.push(['no candidate', 'warn']);
  if (node.holding) found.push([`busy with ${number(node.holding)}`, 'warn']);
  return found;
}

function showNode(row, [of, node], most) {
  const [head, load, lease, weight, host, since] = row.cells;
  const marks = badges(of, node), key = JSON.stringify(marks);
  if (row.dataset.node !== of || !head.firstChild.firstChild) {
    row.dataset.node = of;
    fill(head.firstChild, [name(of)]);
  }
  if (head.lastChild.dataset.key !== key) {
    head.lastChild.dataset.key = key;
    fill(head.lastChild, marks.map(([words, kind]) => make('span', { kind: `badge ${kind}` }, words)));
  }
  load.firstChild.firstChild.style.transform = `scaleX(${node.tokens / most})`;
  say(load.children[1], `${number(node.tokens)}${node.pins ? ` +\u00a0${counted(node.pins, 'pin').replace(' ', '\u00a0')}` : ''}`);
  const delta = fresh(of);
  say(load.children[2], delta ? `${delta.by > 0 ? '+' : '−'}${number(Math.abs(delta.by))}` : '');
  const left = leaseLeft(of, node);
  lease.firstChild.classList.toggle('late', left !== null && left <= node.timeout_sec / 3);
  lease.firstChild.firstChild.style.transform = `scaleX(${left === null ? 0 : left / node.timeout_sec})`;
  say(lease.children[1], left === null ? '' : left > 0 ? `${left.toFixed(left < 10 ? 1 : 0)} s` : 'over');
  say(weight, String(node.weight ?? 1));
  say(host, `${text(node.host)} · ${node.pid}`);
  say(since, duration(Math.max(0, storeNow() - node.since)));
}

let opened = null, run = null;

// The dialog of a node follows the cluster as long as it is open.
function showOpened() {
  const of = opened, node = cluster.nodes.get(of), marks = node ? badges(of, node) : [], left = node ? leaseLeft(of, node) : null;
  const head = at('node-name'), key = JSON.stringify([of, marks]);
  if (head.dataset.key !== key) {
    head.dataset.key = key;
    fill(head, [name(of), ...marks.map(([words, kind]) => make('span', { kind: `badge ${kind}` }, words))]);
  }
  facts('node-facts', node ? {
    State: node.state, Tokens: number(node.tokens), Pins: number(node.pins ?? 0), 'Busy with': number(node.holding ?? 0) + ' that it hands over',
    Lease: left === null ? 'none' : `${left.toFixed(1)} of ${node.timeout_sec} s left`, Weight: node.weight ?? 1, Host: node.host, Process: node.pid,
    Joined: clock(node.since),
  } : { State: 'not registered any more' });
  const actions = node ? nodeActions(of, node, () => run) : [];
  // The others stay: what has the focus keeps it.
  if (at('node-actions').textContent !== actions.map(button => button.textContent).join('')) fill('node-actions', actions);
}

export async function openNode(of) {
  if (!cluster.nodes.has(of)) return;
  opened = of;
  run = null;
  fill('node-settings', []);
  fill('node-actions', []);
  showOpened();
  if (!at('node').open) at('node').showModal();
  try {
    const [row] = await get('api/nodes', { name: of });
    if (row && opened === of) {
      run = row.incarnation;
      facts('node-settings', { ...row.settings, 'has read': row.is_current ? 'the present assignment' : 'an older assignment', run });
    }
  } catch (problem) {
    if (opened === of) facts('node-settings', { error: problem.message });
  }
}

function facts(where, values) {
  const place = at(where), entries = Object.entries(values);
  if (place.children.length !== 2 * entries.length) fill(place, entries.flatMap(([term]) => [make('dt', {}, text(term)), make('dd', {}, make('bdi'))]));
  entries.forEach(([, value], nth) => say(place.children[2 * nth + 1].firstChild, text(typeof value === 'object' ? JSON.stringify(value) : value)));
}
