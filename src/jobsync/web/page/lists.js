// Task locks and items, of which there may be a hundred thousand: the server is asked for a page of them. Incomplete and quarantined tasks.

import { at, clock, counted, fill, make, name, number, pages, say, text } from './dom.js';
import { cluster, get } from './feed.js';
import { clearButton, releaseButton } from './steer.js';
import { explain } from './task.js';

const SIZE = 20, UNTIL = { dateStyle: 'medium', timeStyle: 'short', hourCycle: 'h23' };

// A list that is fetched a page at a time, again when the cluster's structure has changed.
class Fetched {
  constructor(id, path, query, row, nothing) {
    Object.assign(this, { id, path, query, row, nothing, first: 0, asked: 0 });
    at(`${id}-find`).addEventListener('input', () => { this.first = 0; this.load(); });
  }

  async load() {
    const asked = ++this.asked;
    try {
      const found = await get(this.path, { q: at(`${this.id}-find`).value, offset: this.first, limit: SIZE, ...this.query() });
      if (asked !== this.asked) return;
      if (!found.rows.length && found.total) {
        this.first = 0;
        return this.load();
      }
      fill(`${this.id}-rows`, found.rows.length ? found.rows.map(this.row) : [make('li', { kind: 'quiet' }, this.nothing)]);
      pages(`${this.id}-pages`, this.first, SIZE, found.total, to => { this.first = to; this.load(); });
    } catch (problem) {
      reloadLists();  // with the next state, such as that of a new connection
      if (asked === this.asked) fill(`${this.id}-rows`, [make('li', { kind: 'bad' }, text(problem.message))]);
    }
  }
}

export const taskLink = (task, date) => make('button', { kind: 'link', click: () => explain(task, date) }, name(task));

function lockRow(lock) {
  const last = lock.expires_at ? ` until ${new Date(lock.expires_at).toLocaleString('en', UNTIL)}` : '';
  return make('li', { kind: lock.is_unmatched ? 'warn' : '' }, taskLink(lock.task_id), make('span', { kind: 'arrow' }, '→'),
    name(lock.patterns.join(', '), 'code'),
    lock.is_unmatched ? make('span', { kind: 'badge warn' }, 'no live node matches') : lock.owner ? make('span', { kind: 'quiet' }, 'on ', name(lock.owner)) : null,
    make('span', { kind: 'quiet more' }, 'by ', name(lock.created_by), last, lock.reason ? make('bdi', {}, `: ${text(lock.reason)}`) : ''), clearButton(lock.task_id));
}

function itemRow(item) {
  return make('li', { kind: item.owner ? '' : 'warn' }, taskLink(item.item), make('span', { kind: 'quiet' }, 'of ', name(item.group)),
    item.owner ? name(item.owner) : make('span', { kind: 'badge warn' }, 'no node'),
    item.cost === 1 ? null : make('span', { kind: 'quiet' }, `cost ${item.cost}`));
}

let locks, items, seen = '';

export function startLists() {
  locks = new Fetched('locks', 'api/locks', () => (at('locks-unmatched').checked ? { unmatched: 1 } : {}), lockRow, 'None.');
  items = new Fetched('items', 'api/items', () => ({}), itemRow, 'None.');
  at('locks-unmatched').addEventListener('change', () => { locks.first = 0; locks.load(); });
}

export const reloadLists = () => { seen = ''; };

export function showLists() {
  const { status, items: groups } = cluster.parts;
  say('locks-count', number(status.locks));
  say('items-count', number(status.items));
  const revision = JSON.stringify([status.timeline, status.version, status.locks, status.items, cluster.parts.locks, cluster.parts.about.steering]);
  if (revision !== seen) {
    seen = revision;
    locks.load();
    at('items-bar').hidden = !status.items;
    items.load();
  }
  fill('groups', groups.rows.map(group => make('li', {}, name(group.group), make('span', { kind: 'quiet' },
    `${number(group.items)} on ${counted(group.owners, 'node')}`), group.unplaced ? make('span', { kind: 'badge warn' }, `${number(group.unplaced)} on no node`) : null)));
  if (groups.total > groups.rows.length) at('groups').append(make('li', { kind: 'quiet' }, `and ${counted(groups.total - groups.rows.length, 'more group')}`));
}

// They have buttons: made anew only when they change, since a click on one that is replaced meanwhile is lost.
export function showTasks() {
  const { incomplete, quarantined } = cluster.parts;
  showPart('incomplete', incomplete, row => [make('span', { kind: 'quiet' }, 'begun by ', name(row.node), `, ${clock(row.created_on)}`)]);
  showPart('quarantined', quarantined, row => [make('span', { kind: 'badge bad' }, `${counted(row.attempts, 'worker')} lost`), releaseButton(row.item, quarantined.date)]);
}

function showPart(id, { total, rows, date }, more) {
  say(`${id}-count`, number(total));
  const made = rows.map(row => make('li', {}, taskLink(row.item, row.date ?? date), ...more(row)));
  if (total > rows.length) made.push(make('li', { kind: 'quiet' }, `and ${number(total - rows.length)} more`));
  fill(`${id}-rows`, made.length ? made : [make('li', { kind: 'quiet' }, 'None.')]);
}
