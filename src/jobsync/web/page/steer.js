// What an operator may change, where the server allows it. The token stays in this tab, and travels in a header only.

import { at, fill, make, name, say, text } from './dom.js';
import { answered, cluster } from './feed.js';

let whenDone = () => {};
// A proxy may have several servers under one name, and a tab goes from one to another: each has its own token.
const place = key => `jobsync-${key} ${location.pathname}`;
const held = key => sessionStorage.getItem(place(key)) ?? '';
const mayChange = () => Boolean(cluster.parts?.about.steering && held('token') && held('name'));
let invited = false;

export function startSteering(done) {
  whenDone = done;
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given) {
    // The token is not to stay in the address, which is shown and remembered.
    sessionStorage.setItem(place('token'), given);
    history.replaceState(null, '', location.pathname);
  }
  at('steer-open').addEventListener('click', invite);
  at('steer-form').addEventListener('submit', event => {
    event.preventDefault();
    begin(at('steer-token').value, at('steer-name').value);
  });
  at('locks-add').addEventListener('click', addLock);
  at('steer-stop').addEventListener('click', () => begin('', ''));
}

function invite() {
  invited = true;
  at('steer-token').value = held('token');
  at('steer-name').value = held('name') || localStorage.getItem('jobsync-name') || '';
  at('steer').showModal();
}

function begin(token, of) {
  sessionStorage.setItem(place('token'), token);
  sessionStorage.setItem(place('name'), of);
  if (of) localStorage.setItem('jobsync-name', of);
  at('steer').close();
  whenDone();
}

export function showSteering() {
  at('steer-open').hidden = !cluster.parts.about.steering;
  say('steer-open', mayChange() ? 'Steering is on' : 'Steer');
  at('steer-open').classList.toggle('on', mayChange());
  at('locks-add').hidden = !mayChange();
  if (cluster.parts.about.steering && held('token') && !held('name') && !invited) invite();
}

const post = (path, values) => answered(path, {
  method: 'POST', body: JSON.stringify({ ...values, by: held('name') }),
  headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${held('token')}` },
});

function typed(given, kind) {
  if (kind === 'several') return given.split('\n').map(line => line.trim()).filter(Boolean);
  if (kind === 'number') return given.trim() ? (Number.isNaN(Number(given)) ? given : Number(given)) : null;
  return given;
}

let asked = 0;

// Ask, change, and show why it could not be changed.
// `fields` are further inputs, by the names of the arguments: `several` is one text in each line, `number` a number.
function change({ head, words, yes, path, values, reason = false, force = false, fields = {} }) {
  const mine = ++asked;
  // A store may answer late: when the dialog is closed, or asks something else.
  const isShown = () => mine === asked && at('ask').open;
  fill('ask-head', head);
  say('ask-text', words);
  say('ask-yes', yes);
  say('ask-error', '');
  at('ask-yes').disabled = false;
  fill('ask-fields', Object.entries(fields).map(([key, { label, kind, hint }]) => make('label', {}, label,
    kind === 'several' ? make('textarea', { id: `ask-${key}`, rows: 2, placeholder: hint }) : make('input', { id: `ask-${key}`, autocomplete: 'off', placeholder: hint }))));
  at('ask-reason-label').hidden = !reason;
  at('ask-force-label').hidden = !force;
  at('ask-reason').value = '';
  at('ask-force').checked = false;
  at('ask-form').onsubmit = async event => {
    if (event.submitter?.value === 'no') return;
    event.preventDefault();
    const more = { ...Object.fromEntries(Object.entries(fields).map(([key, { kind }]) => [key, typed(at(`ask-${key}`).value, kind)])), ...(reason ? { reason: at('ask-reason').value || null } : {}), ...(force ? { force: at('ask-force').checked } : {}) };
    at('ask-yes').disabled = true;
    try {
      await post(path, { ...values, ...more });
      if (isShown()) {
        at('ask').close();
        at('node').close();
      }
      whenDone();
      say('spoken', 'Done.');
    } catch (problem) {
      // The server was started again, and has no such path any more.
      const words = problem.status === 404 ? 'This server allows no changes: it was started without --steer.' : problem.message;
      say(isShown() ? 'ask-error' : 'spoken', text(words));
    } finally {
      if (mine === asked) at('ask-yes').disabled = false;
    }
  };
  at('ask').showModal();
}

export function nodeActions(of, node, shownRun) {
  if (!mayChange()) return [];
  return [node.is_drained
    ? make('button', { click: () => change({
      head: ['Undrain ', name(of)], words: 'It is given tokens again.', yes: 'Undrain', path: 'api/undrain', values: { node: of } }) }, 'Undrain')
    : make('button', { click: () => change({
      head: ['Drain ', name(of)], words: 'It gives up everything it owns, in good order, and owns nothing until it is undrained, also after a restart.',
      yes: 'Drain', path: 'api/drain', values: { node: of }, reason: true, force: true }) }, 'Drain'),
  node.state === 'left' ? null : make('button', { click: () => change({
    head: ['Evict ', name(of)], words: `For a node that does not end by itself: its tokens go to other nodes after its timeout of ${node.timeout_sec} s. If its process lives, it joins anew.`,
    yes: 'Evict', path: 'api/evict', values: { node: of, incarnation: shownRun() }, reason: true }) }, 'Evict')].filter(Boolean);
}

function addLock() {
  change({ head: ['Lock a task'], words: 'The task is done on a node that matches the first of the patterns that any live node matches. It replaces the lock that the task has.',
    yes: 'Lock', path: 'api/locks/add', values: {}, reason: true, fields: {
      task: { label: 'Task' }, patterns: { label: 'Node patterns, one in each line', kind: 'several', hint: 'gpu-%' },
      days: { label: 'Days until it ends, if it is to end', kind: 'number' },
    } });
}

export function clearButton(task) {
  return mayChange() ? make('button', { kind: 'small', click: () => change({
    head: ['Clear the lock of ', name(task)], words: 'Any node may do the task then.', yes: 'Clear', path: 'api/locks/clear', values: { tasks: [task] } }) }, 'Clear') : null;
}

export function releaseButton(task, date) {
  return mayChange() ? make('button', { kind: 'small', click: () => change({
    head: ['Release ', name(task)], words: 'It may be claimed again, and no lost worker counts any more.', yes: 'Release', path: 'api/release', values: { tasks: [task], date } }) }, 'Release') : null;
}
