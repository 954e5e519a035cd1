// What an operator may change, where the server allows it. The token stays in this tab, and travels in a header only.

import { at, fill, make, name, say, text } from './dom.js';
import { cluster } from './feed.js';

let whenDone = () => {};
const held = key => sessionStorage.getItem(`jobsync-${key}`) ?? '';
const mayChange = () => Boolean(cluster.parts?.about.steering && held('token') && held('name'));
let invited = false;

export function startSteering(done) {
  whenDone = done;
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given) {
    // The token is not to stay in the address, which is shown and remembered.
    sessionStorage.setItem('jobsync-token', given);
    history.replaceState(null, '', location.pathname);
  }
  at('steer-open').addEventListener('click', invite);
  at('steer-form').addEventListener('submit', event => {
    event.preventDefault();
    begin(at('steer-token').value, at('steer-name').value);
  });
  at('steer-stop').addEventListener('click', () => begin('', ''));
}

function invite() {
  invited = true;
  at('steer-token').value = held('token');
  at('steer-name').value = held('name') || localStorage.getItem('jobsync-name') || '';
  at('steer').showModal();
}

function begin(token, of) {
  sessionStorage.setItem('jobsync-token', token);
  sessionStorage.setItem('jobsync-name', of);
  if (of) localStorage.setItem('jobsync-name', of);
  at('steer').close();
  whenDone();
}

export function showSteering() {
  at('steer-open').hidden = !cluster.parts.about.steering;
  say('steer-open', mayChange() ? 'Steering is on' : 'Steer');
  at('steer-open').classList.toggle('on', mayChange());
  if (cluster.parts.about.steering && held('token') && !held('name') && !invited) invite();
}

async function post(path, values) {
  const answer = await fetch(path, {
    method: 'POST', body: JSON.stringify({ ...values, by: held('name') }),
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${held('token')}` },
  });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
}

// Ask, change, and show why it could not be changed.
function change({ head, words, yes, path, values, reason = false, force = false }) {
  fill('ask-head', head);
  say('ask-text', words);
  say('ask-yes', yes);
  say('ask-error', '');
  at('ask-reason-label').hidden = !reason;
  at('ask-force-label').hidden = !force;
  at('ask-reason').value = '';
  at('ask-force').checked = false;
  at('ask-form').onsubmit = async event => {
    if (event.submitter?.value === 'no') return;
    event.preventDefault();
    const more = { ...(reason ? { reason: at('ask-reason').value || null } : {}), ...(force ? { force: at('ask-force').checked } : {}) };
    at('ask-yes').disabled = true;
    try {
      await post(path, { ...values, ...more });
      at('ask').close();
      at('node').close();
      whenDone();
      say('spoken', 'Done.');
    } catch (problem) {
      say('ask-error', text(problem.message));
    } finally {
      at('ask-yes').disabled = false;
    }
  };
  at('ask').showModal();
}

export function nodeActions(of, node) {
  if (!mayChange()) return [];
  return [node.is_drained
    ? make('button', { click: () => change({
      head: ['Undrain ', name(of)], words: 'It is given tokens again.', yes: 'Undrain', path: 'api/undrain', values: { node: of } }) }, 'Undrain')
    : make('button', { click: () => change({
      head: ['Drain ', name(of)], words: 'It gives up everything it owns, in good order, and owns nothing until it is undrained, also after a restart.',
      yes: 'Drain', path: 'api/drain', values: { node: of }, reason: true, force: true }) }, 'Drain'),
  node.state === 'left' ? null : make('button', { click: () => change({
    head: ['Evict ', name(of)], words: `For a node that does not end by itself: its tokens go to other nodes after its timeout of ${node.timeout_sec} s. If its process lives, it joins anew.`,
    yes: 'Evict', path: 'api/evict', values: { node: of }, reason: true }) }, 'Evict')].filter(Boolean);
}

export function clearButton(task) {
  return mayChange() ? make('button', { kind: 'small', click: () => change({
    head: ['Clear the lock of ', name(task)], words: 'Any node may do the task then.', yes: 'Clear', path: 'api/locks/clear', values: { tasks: [task] } }) }, 'Clear') : null;
}

export function releaseButton(task) {
  return mayChange() ? make('button', { kind: 'small', click: () => change({
    head: ['Release ', name(task)], words: 'It may be claimed again, and no lost worker counts any more.', yes: 'Release', path: 'api/release', values: { tasks: [task] } }) }, 'Release') : null;
}
