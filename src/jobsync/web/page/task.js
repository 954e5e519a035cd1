// The answer to "why": who may do a task, or what stands in the way.

import { at, clock, fill, make, name, text } from './dom.js';
import { get } from './feed.js';

export function startTask() {
  at('task-form').addEventListener('submit', event => {
    event.preventDefault();
    explain(at('task').value);
  });
  at('task').addEventListener('input', () => {
    if (at('task').value) return;
    question++;
    fill('answer', []);
    history.replaceState(null, '', location.pathname);
  });
  addEventListener('hashchange', fromAddress);
  fromAddress();
}

// The task is part of the address, so that the question can be sent to someone.
function fromAddress() {
  const asked = new URLSearchParams(location.hash.slice(1)), task = asked.get('task');
  if (task !== null && task !== at('task').value) explain(task, asked.get('date'));
}

async function historyOf(task) {
  const events = await get('api/history', { task, limit: 20 });
  if (!events.length) return '';
  return make('details', {}, make('summary', {}, `Its history (${events.length})`), make('ul', { kind: 'rows' }, ...events.map(event => make('li', {},
    make('time', { datetime: event.at, kind: 'quiet' }, clock(Date.parse(event.at) / 1000)), make('strong', {}, text(event.event)), 'by ', name(event.by),
    make('bdi', { kind: 'quiet' }, text(event.details))))));
}

let question = 0;

// Without a date of the work it is about today.
export async function explain(task, date) {
  // A slow answer may come after that of a later question, and does not take its place.
  const mine = ++question, asked = { task, ...(date ? { date } : {}) };
  const answer = children => mine === question && fill('answer', children);
  at('task').value = task;
  try {
    history.replaceState(null, '', `#${new URLSearchParams(asked)}`);
    answer([make('p', { kind: 'quiet' }, 'Reading…')]);
    at('task-form').scrollIntoView({ block: 'nearest' });
    const found = await get('api/why', asked);
    const kind = found.is_complete ? 'done' : found.is_claimable ? 'ok' : 'bad';
    answer([make('div', { kind: `verdict ${kind}` }, make('p', {}, make('bdi', {}, text(found.verdict))),
      make('ul', {}, ...found.details.map(line => make('li', {}, make('bdi', {}, text(line))))),
      make('p', { kind: 'quiet' }, `${found.is_pinned ? 'Pin' : 'Token'} ${found.token}, since version ${found.version}. Asked on ${clock(Date.now() / 1000)}${date ? `, for ${date}` : ''}.`)), await historyOf(task)]);
  } catch (problem) {
    answer([make('div', { kind: 'verdict bad' }, make('p', {}, text(problem.message)))]);
  }
}
