// What moves now, and the rebalances as a timeline and as a list.

import { at, clock, counted, duration, fill, make, name, number, say, text } from './dom.js';
import { cluster, storeNow } from './feed.js';

const RANGES = [['last 3 minutes', 180], ['last 15 minutes', 900], ['last hour', 3600], ['last 6 hours', 21600], ['last day', 86400], ['last 7 days', 604800]];
const HIGH = 84, FEW = 4, SHORT = 4;
let shown = SHORT;

export function startHistory() {
  at('history-more').addEventListener('click', () => { shown = shown === SHORT ? Infinity : SHORT; showHistory(); });
  new ResizeObserver(() => cluster.parts && showTimeline()).observe(at('timeline'));
}

export function showMoves() {
  const { total, rows } = cluster.parts.moves;
  say('moves-count', total ? number(cluster.parts.status.tokens_moving) : '');
  fill('moves', rows.length ? rows.map(move => make('li', {}, name(move.owner), make('span', { kind: 'arrow', 'aria-label': 'to' }, '→'),
    move.target === null ? make('span', { kind: 'quiet' }, 'no node') : name(move.target), make('span', { kind: 'tokens' }, number(move.tokens)),
    make('span', { kind: move.held ? 'badge warn' : 'quiet' }, move.held ? `${number(move.held)} still in use` : move.is_acknowledged ? 'released' : 'requested')))
    : [make('li', { kind: 'quiet' }, 'Nothing moves.')]);
  if (total > rows.length) at('moves').append(make('li', { kind: 'quiet' }, `and ${counted(total - rows.length, 'more pair')} of nodes`));
}

const cause = reason => reason.includes('dead') ? 'dead' : reason.includes('joined') ? 'joined' : /left|removed/.test(reason) ? 'left' : 'other';

// Rebalances and what operators have done, newest first.
function events() {
  const { rebalances, actions } = cluster.parts;
  return [
    ...rebalances.map(row => ({ at: Date.parse(row.triggered_at) / 1000, kind: cause(row.trigger_reason), words: row.trigger_reason, moved: row.tokens_moved,
      more: `${number(row.tokens_moved)} moved, ${row.nodes_before} → ${counted(row.nodes_after, 'node')}` })),
    ...actions.map(row => ({ at: Date.parse(row.at) / 1000, kind: 'action', words: `${row.event} by ${row.by}`, moved: 0, more: row.details })),
  ].sort((a, b) => b.at - a.at);
}

export function showHistory() {
  const all = events();
  fill('history', all.slice(0, shown).map(row => make('li', { kind: row.kind }, make('time', { datetime: new Date(row.at * 1000).toISOString() }, clock(row.at)),
    make('bdi', { kind: 'reason' }, text(row.words)), make('bdi', { kind: 'quiet' }, text(row.more)))));
  if (!all.length) fill('history', [make('li', { kind: 'quiet' }, 'There was none yet.')]);
  at('history-more').hidden = all.length <= SHORT;
  say('history-more', shown === SHORT ? `Show ${all.length}` : 'Show fewer');
  showTimeline();
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// The shortest range that has some rebalances in it; each is a mark, as high as the number of tokens it moved (a square root).
export function showTimeline() {
  const now = storeNow(), width = at('timeline').clientWidth;
  if (!width) return;
  const all = events().map(row => ({ ...row, age: Math.max(0, now - row.at) }));
  const oldest = all.at(-1)?.age || 900, within = seconds => all.filter(row => row.age <= seconds).length;
  const [words, span] = RANGES.find(([, seconds]) => within(seconds) >= Math.min(FEW, all.length)) ?? [`last ${duration(oldest)}`, oldest];
  say('history-range', `${words}: ${number(within(span))}`);
  const most = Math.max(1, ...all.map(row => row.moved)), base = HIGH - 16, x = age => (1 - age / span) * (width - 16) + 8;
  const marks = all.filter(row => row.age <= span).map(row => {
    const y = base - 6 - Math.sqrt(row.moved / most) * (base - 14);
    return svg('g', { class: row.kind }, svg('line', { x1: x(row.age), x2: x(row.age), y1: base, y2: y }), svg('circle', { cx: x(row.age), cy: y, r: 4 }),
      svg('title', {}, `${clock(row.at)}: ${text(row.words)}, ${text(row.more)}`));
  });
  const axis = [3, 2, 1, 0].map(nth => svg('text', { x: x(nth / 3 * span), y: HIGH - 2, 'text-anchor': { 3: 'start', 0: 'end' }[nth] ?? 'middle' },
    nth ? `−${duration(span * nth / 3)}` : 'now'));
  fill('timeline', [svg('svg', { width, height: HIGH, 'aria-hidden': 'true' }, svg('line', { class: 'axis', x1: 0, x2: width, y1: base, y2: base }), ...axis, ...marks)]);
}
