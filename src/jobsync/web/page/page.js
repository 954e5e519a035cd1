'use strict';

const at = id => document.getElementById(id);

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function fill(id, children, nothing) {
  at(id).replaceChildren(...(children.length ? children : nothing ? [element('li', nothing)] : []));
}

// A colour for each name: neighbours in the order of the names are far apart.
let names = [];

function colour(name) {
  const place = names.indexOf(name);
  return place < 0 ? 'transparent' : `hsl(${place * 137.508 % 360} 60% ${45 + place % 3 * 8}%)`;
}

function showMap(runs) {
  const canvas = at('map'), pen = canvas.getContext('2d');
  const total = runs.reduce((sum, [count]) => sum + count, 0) || 1;
  pen.clearRect(0, 0, canvas.width, canvas.height);
  let start = 0;
  for (const [count, owner] of runs) {
    pen.fillStyle = colour(owner);
    const left = start / total * canvas.width;
    pen.fillRect(left, 0, Math.max(count / total * canvas.width, 0.5), canvas.height);
    start += count;
  }
}

function nodeRow(node) {
  const row = element('tr'), name = element('th');
  name.scope = 'row';
  const swatch = element('span', undefined, 'swatch');
  swatch.style.background = colour(node.name);
  name.append(swatch, node.name + (node.is_leader ? ' (leads)' : ''));
  const state = node.state + (node.is_drained ? ', drained' : '') + (node.candidate ? '' : ', no candidate');
  const lease = element('td');
  if (node.heartbeat_age_sec !== null) {
    const left = Math.max(0, 1 - node.heartbeat_age_sec / node.timeout_sec);
    const bar = element('span', undefined, left < 0.34 ? 'lease late' : 'lease'), inner = element('span');
    inner.style.width = `${100 * left}%`;
    bar.append(inner);
    bar.title = `last heartbeat ${node.heartbeat_age_sec.toFixed(1)} s ago, timeout ${node.timeout_sec} s`;
    bar.role = 'img';
    bar.ariaLabel = bar.title;
    lease.append(bar);
  }
  row.append(name, element('td', state, node.state === 'silent' ? 'bad' : ''), element('td', node.tokens.toLocaleString(), 'number'),
    element('td', node.pins.toLocaleString(), 'number'), element('td', node.weight, 'number'), lease,
    element('td', node.host), element('td', node.pid, 'number'));
  return row;
}

function rebalanceRow(row) {
  const made = element('tr');
  made.append(element('td', row.triggered_at.replace('T', ' ').slice(0, 19)), element('td', row.trigger_reason, 'wide'),
    element('td', row.tokens_moved.toLocaleString(), 'number'), element('td', `${row.nodes_before} → ${row.nodes_after}`),
    element('td', row.leader_node));
  return made;
}

function show(state) {
  if (state.error) {
    at('summary').textContent = state.error;
    at('summary').className = 'bad';
    return;
  }
  const status = state.status;
  at('summary').className = '';
  at('summary').textContent = `${status.nodes} nodes, leader ${status.leader ?? 'none'}, ` +
    `${status.tokens_owned.toLocaleString()} of ${status.total_tokens.toLocaleString()} tokens owned, ` +
    `${status.locks} task locks, ${status.items} items`;
  fill('problems', status.problems.map(problem => element('li', problem, 'bad')));
  if (!status.problems.length) fill('problems', [element('li', 'nothing: all is well', 'good')]);
  names = state.nodes.map(node => node.name).sort();
  showMap(state.map);
  fill('nodes', state.nodes.map(nodeRow));
  fill('moving', state.hand_overs.map(move => element('li',
    `${move.tokens} from ${move.owner} to ${move.target ?? 'no node'}` + (move.held.length ? `, ${move.held.length} still in use` : ''))), 'none');
  fill('history', state.rebalances.map(rebalanceRow));
}

at('why-form').addEventListener('submit', async event => {
  event.preventDefault();
  const task = at('why-task').value, answer = at('why-answer');
  answer.replaceChildren(element('p', 'asking…'));
  try {
    const found = await (await fetch('api/why/' + encodeURIComponent(task))).json();
    const first = element('p', found.error ?? found.verdict, found.error || !(found.is_claimable || found.is_complete) ? 'bad' : '');
    const list = element('ul');
    list.append(...(found.details ?? []).map(line => element('li', line)));
    answer.replaceChildren(first, list);
  } catch (problem) {
    answer.replaceChildren(element('p', `the server does not answer: ${problem.message}`, 'bad'));
  }
});

const events = new EventSource('api/events');
events.addEventListener('state', event => {
  at('live').textContent = '';
  show(JSON.parse(event.data));
});
events.addEventListener('error', () => { at('live').textContent = 'connection lost, trying again…'; });
