// Making elements. Every text from the store goes through `text`, and none becomes markup.

export const at = id => document.getElementById(id);

// What would be invisible, or would turn the direction of what follows, is shown as its code.
const HIDDEN = /[\u0000-\u001f\u007f-\u00a0\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff]/g;
const LONGEST = 300;

export function text(value) {
  const all = String(value ?? '').replace(HIDDEN, sign => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return all.length > LONGEST ? all.slice(0, LONGEST) + '…' : all;
}

export function make(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === 'kind') made.className = value;
    else if (name === 'click') made.addEventListener('click', value);
    else if (name === 'data') Object.assign(made.dataset, value);
    else if (value !== undefined && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined && child !== ''));
  return made;
}

// A name from the store, isolated from the direction of the text around it, and cut by the style where there is no room.
export const name = (value, kind = '') => make('bdi', { kind: `name ${kind}`, title: text(value) }, text(value));

export function fill(where, children) {
  (typeof where === 'string' ? at(where) : where).replaceChildren(...children);
}

// Write only what differs: what does not change is neither laid out again nor read again by a screen reader.
export function say(where, words) {
  const node = typeof where === 'string' ? at(where) : where;
  if (node.textContent !== words) node.textContent = words;
}

// Names in the order in which people count them: w2 before w10.
export const inOrder = new Intl.Collator('en', { numeric: true }).compare;

export const number = value => Number(value).toLocaleString('en');

// A number with its noun.
export const counted = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

export function duration(seconds) {
  if (seconds < 0.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return counted(Math.round(seconds / 86400), 'day');
}

export const clock = seconds => new Date(seconds * 1000).toLocaleString('en', {
  month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false,
});

// The buttons with which one goes through a list in pages.
export function pages(where, first, size, total, go) {
  const shown = `${number(total ? first + 1 : 0)} to ${number(Math.min(first + size, total))} of ${number(total)}`;
  const place = at(where);
  if (place.dataset.shown === shown) return;
  place.dataset.shown = shown;
  const step = (words, to, off) => {
    const button = make('button', { click: () => go(to), 'aria-label': `${words} page` }, words);
    button.disabled = off;
    return button;
  };
  const held = document.activeElement?.getAttribute('aria-label');
  fill(place, total <= size ? [] : [
    step('Previous', Math.max(0, first - size), first === 0), make('span', {}, shown), step('Next', first + size, first + size >= total),
  ]);
  [...place.querySelectorAll('button')].find(button => button.getAttribute('aria-label') === held)?.focus();
}
