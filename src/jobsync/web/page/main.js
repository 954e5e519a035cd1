// The page: follows the cluster, and shows what has changed at the next frame of the browser.

import { at, counted, duration, fill, make, number, say, text } from './dom.js';
import { cluster, follow, freshness } from './feed.js';
import { showHistory, showMoves, showTimeline, startHistory } from './history.js';
import { reloadLists, showLists, showTasks, startLists } from './lists.js';
import { showLate, showMap, startMap } from './map.js';
import { noteLoads, openNode, showNodes, startNodes } from './nodes.js';
import { showSteering, startSteering } from './steer.js';
import { startTask } from './task.js';

const STALE_SEC = 3;
const pending = new Set();
let spoken = '';

function showHealth() {
  const { health, status } = cluster.parts;
  at('health').dataset.level = health.level;
  const verdict = { ok: 'All is well', warn: 'Something needs attention', bad: 'Work stands still, or soon will' }[health.level];
  say('verdict', verdict);
  fill('problems', health.problems.map(problem => make('li', {}, make('bdi', {}, text(problem)))));
  if (health.total > health.problems.length) at('problems').append(make('li', {}, `and ${number(health.total - health.problems.length)} more`));
  const words = `${verdict}. ${counted(status.nodes, 'node')} at work, leader ${text(status.leader ?? 'none')}. ${text(health.problems[0] ?? '')}`;
  if (words !== spoken) say('spoken', spoken = words);
}

function figure(term, value, more, href, level = '') {
  return make('div', { kind: level }, make('dt', {}, href ? make('a', { href }, term) : term),
    make('dd', {}, make('bdi', { kind: 'name', title: text(value) }, text(value)), more ? make('small', {}, more) : null));
}

function showNumbers() {
  const { status, locks, items, incomplete, quarantined } = cluster.parts;
  fill('numbers', [
    figure('Nodes at work', number(status.nodes), cluster.nodes.size > status.nodes ? `of ${number(cluster.nodes.size)} registered` : '', '#nodes-head', status.nodes ? '' : 'bad'),
    figure('Leader', status.leader ?? 'none', `epoch ${number(status.epoch)}`, null, status.leader ? '' : 'bad'),
    figure('Tokens owned', number(status.tokens_owned), `of ${number(status.total_tokens)}`, '#map-head', status.tokens_unowned ? 'bad' : ''),
    figure('Moving', number(status.tokens_moving), '', '#moves-head', status.tokens_moving ? 'warn' : ''),
    figure('Task locks', number(status.locks), locks.unmatched ? `${number(locks.unmatched)} unmatched` : '', '#locks', locks.unmatched ? 'warn' : ''),
    figure('Items', number(status.items), items.unplaced ? `${number(items.unplaced)} on no node` : '', '#items', items.unplaced ? 'warn' : ''),
    figure('Incomplete', number(incomplete.total), '', '#incomplete'),
    figure('Quarantined', number(quarantined.total), '', '#quarantined', quarantined.total ? 'warn' : ''),
  ]);
}

function showAbout() {
  const { about, status } = cluster.parts;
  say('cluster', `${text(about.appname)} on ${text(about.store)}`);
  say('foot', `jobsync ${about.version} · hash ${text(status.hash_function)} · assignment ${number(status.version)} · timeline ${number(status.timeline)}` +
    (about.steering ? '' : ' · this server changes nothing'));
}

const VIEWS = [
  [['health', 'status'], showHealth], [['status', 'locks', 'items', 'incomplete', 'quarantined', 'nodes'], showNumbers], [['about', 'status'], showAbout],
  [['about'], showSteering], [['moves', 'status'], showMoves], [['rebalances', 'actions'], showHistory],
  [['nodes'], noteLoads], [['nodes', 'moves', 'status'], showMap], [['beats'], showLate], [['nodes', 'beats', 'now'], showNodes],
  [['about', 'status', 'locks', 'items'], showLists], [['about', 'incomplete', 'quarantined'], showTasks],
];

function show() {
  const changed = new Set(pending);
  pending.clear();
  for (const [parts, view] of VIEWS) if (parts.some(part => changed.has(part))) view();
  showFreshness();
}

function showFreshness() {
  const { age, lost, error, known } = freshness();
  const stale = lost || error || age > STALE_SEC;
  at('live').dataset.state = !known || stale ? 'off' : 'on';
  const since = known ? `stale since ${duration(age)}` : 'nothing is known yet';
  say('live-text', lost ? `no connection to the server, ${since}` : error ? `the store does not answer, ${since}` : !known ? 'connecting' : stale ? since : 'live');
  at('live').title = text(error ?? '');
  // A tab that is not seen reads so seldom that its state is always old.
  const isOld = document.hidden ? error : stale;
  document.title = isOld ? '? jobsync' : { ok: 'jobsync', warn: '! jobsync', bad: '!! jobsync' }[cluster.parts?.health.level] ?? 'jobsync';
  document.body.classList.toggle('stale', Boolean(known && stale));
  if (error && !known) {
    at('health').dataset.level = 'bad';
    say('verdict', 'The cluster cannot be read');
    if (at('problems').textContent !== text(error)) fill('problems', [make('li', {}, text(error))]);
  }
}

startNodes();
startHistory();
startLists();
startMap(openNode);
startSteering(() => {
  reloadLists();
  if (cluster.parts) showSteering(), showLists(), showTasks();
});
startTask();
follow(changed => {
  const first = !pending.size;
  for (const part of changed) pending.add(part);
  if (document.hidden) show();
  else if (first) requestAnimationFrame(show);
});
setInterval(() => {
  showFreshness();
  if (cluster.parts && !document.hidden && freshness().age > 1.5) showNodes(), showLate();
}, 1000);
setInterval(() => cluster.parts && !document.hidden && showTimeline(), 30_000);
