// The map: one area for each node, as large as its share of the tokens. A thousand nodes are drawn on one canvas.

import { at, counted, duration, number, say, text } from './dom.js';
import { cluster } from './feed.js';
import { isLate, leaseLeft } from './nodes.js';

const GAP = 2;
let tiles = [], drawn = '', chosen = -1, opened = () => {};
let colours = {};

export function startMap(whenOpened) {
  opened = whenOpened;
  const canvas = at('map');
  canvas.addEventListener('pointermove', event => choose(tileAt(event), false));
  canvas.addEventListener('pointerleave', () => choose(-1, false));
  canvas.addEventListener('blur', () => choose(-1, false));
  canvas.addEventListener('click', event => open(tileAt(event)));
  canvas.addEventListener('keydown', event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) choose((chosen + step + tiles.length) % tiles.length, true);
    else if (event.key === 'Home') choose(0, true);
    else if (event.key === 'End') choose(tiles.length - 1, true);
    else if (event.key === 'Enter') open(chosen);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(showMap).observe(canvas);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { colours = {}; showMap(); });
}

function open(which) {
  const tile = tiles[which];
  if (tile?.name !== undefined) opened(tile.name);
}

function tileAt(event) {
  return tiles.findIndex(({ x, y, w, h }) => event.offsetX >= x && event.offsetX < x + w && event.offsetY >= y && event.offsetY < y + h);
}

function choose(which, aloud) {
  if (which === chosen) return;
  chosen = which;
  at('map').title = which < 0 ? '' : described(tiles[which]);
  if (aloud && which >= 0) say('map-spoken', described(tiles[which]));
  draw();
}

function described(tile) {
  if (tile.name === undefined) return `${counted(tile.tokens, 'token')} without an owner`;
  const { node } = tile, left = leaseLeft(tile.name, node);
  return `${text(tile.name)}: ${counted(tile.tokens, 'token')}, ${words(tile.name, node)}` +
    (tile.moving ? `, ${number(tile.moving)} being handed over` : '') + (left === null ? '' : `, lease ${duration(left)}`);
}

const words = (of, node) => isLate(of, node) ? 'late' : node.state === 'joined' ? (node.is_leader ? 'leads' : node.is_drained ? 'drained' : 'at work') : node.state;

// Rows of tiles in the order of the names, so that a node stays where it is while loads change a little. Of some numbers of rows, the one
// whose tiles are nearest to squares.
function layOut(sizes, width, height) {
  const total = sizes.reduce((sum, size) => sum + size, 0) || 1, guess = Math.round(Math.sqrt(sizes.length * height / width));
  let best = [], least = Infinity;
  for (let count = Math.max(1, guess - 2); count <= guess + 2; count++) {
    const rows = Array.from({ length: count }, () => []);
    let sum = 0;
    for (const size of sizes) {
      rows[Math.min(count - 1, Math.floor((sum + size / 2) / total * count))].push(size);
      sum += size;
    }
    const found = [];
    let y = 0;
    for (const row of rows) {
      const whole = row.reduce((sum, size) => sum + size, 0), h = whole / total * height;
      let x = 0;
      for (const size of row) {
        found.push({ x, y, w: size / whole * width, h });
        x += size / whole * width;
      }
      y += h;
    }
    const shape = found.reduce((sum, { w, h }) => sum + Math.max(w / h, h / w), 0);
    if (shape < least) [best, least] = [found, shape];
  }
  return best;
}

export function showMap() {
  if (cluster.parts === null) return;
  const canvas = at('map'), width = canvas.clientWidth, height = canvas.clientHeight, ratio = devicePixelRatio || 1;
  if (!width) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const owners = [...cluster.nodes].filter(([, node]) => node.tokens).sort(([a], [b]) => cluster.rank.get(a) - cluster.rank.get(b));
  const found = owners.map(([name, node]) => ({ name, node, tokens: node.tokens, moving: Math.min(node.moving ?? 0, node.tokens) }));
  if (cluster.parts.status.tokens_unowned) found.push({ tokens: cluster.parts.status.tokens_unowned, moving: 0 });
  const places = layOut(found.map(tile => tile.tokens), width, height), before = tiles[chosen]?.name;
  tiles = found.map((tile, nth) => ({ ...tile, ...places[nth] }));
  if (before !== undefined) chosen = tiles.findIndex(tile => tile.name === before);
  draw();
  const idle = [...cluster.nodes].filter(([, node]) => !node.tokens && node.state !== 'left').map(([name, node]) =>
    text(name) + (node.is_drained ? ' (drained)' : node.weight === 0 ? ' (weight 0)' : node.pins ? ` (${counted(node.pins, 'pin')})` : ''));
  say('idle', idle.length ? `Without tokens: ${idle.slice(0, 12).join(', ')}${idle.length > 12 ? ` and ${idle.length - 12} more` : ''}` : '');
}

function colour(kind) {
  return colours[kind] ??= getComputedStyle(document.documentElement).getPropertyValue(`--tile-${kind}`).trim();
}

function kindOf({ name, node }) {
  if (node === undefined || node.state !== 'joined') return 'silent';
  if (isLate(name, node)) return 'late';
  return node.is_drained ? 'drained' : node.is_leader ? 'leads' : 'at-work';
}

// Nodes may have become late, or not be late any more.
export function showLate() {
  if (tiles.map(kindOf).join() !== drawn) draw();
}

function draw() {
  const canvas = at('map'), pen = canvas.getContext('2d'), ratio = devicePixelRatio || 1;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  pen.textBaseline = 'top';
  const gap = tiles.length > 400 ? 1 : GAP, kinds = tiles.map(kindOf);
  drawn = kinds.join();
  tiles.forEach((tile, nth) => {
    const kind = kinds[nth], x = tile.x + gap / 2, y = tile.y + gap / 2, w = Math.max(tile.w - gap, 0.5), h = Math.max(tile.h - gap, 0.5);
    pen.fillStyle = colour(kind);
    pen.beginPath();
    pen.roundRect(x, y, w, h, Math.min(5, w / 5, h / 5));
    pen.fill();
    if (tile.moving) stripes(pen, x, y, w, h, tile.moving / tile.tokens);
    if (nth === chosen) {
      pen.strokeStyle = colour('chosen');
      pen.lineWidth = 2;
      pen.stroke();
    }
    if (w > 54 && h > 24) label(pen, tile, kind, x, y, w, h);
  });
}

// What is being handed over, from the bottom of the tile up.
function stripes(pen, x, y, w, h, share) {
  const high = Math.max(h * share, 3);
  pen.save();
  pen.beginPath();
  pen.rect(x, y + h - high, w, high);
  pen.clip();
  pen.strokeStyle = colour('moving');
  pen.lineWidth = 4;
  for (let from = x - high; from < x + w; from += 9) {
    pen.beginPath();
    pen.moveTo(from, y + h);
    pen.lineTo(from + high, y + h - high);
    pen.stroke();
  }
  pen.restore();
}

function label(pen, tile, kind, x, y, w, h) {
  pen.save();
  pen.beginPath();
  pen.rect(x + 6, y, w - 10, h);
  pen.clip();
  pen.fillStyle = colour(`${kind}-ink`);
  pen.font = '600 13px system-ui, sans-serif';
  pen.fillText(tile.name === undefined ? 'no owner' : text(tile.name), x + 8, y + 6);
  if (h > 42) {
    pen.font = '12px system-ui, sans-serif';
    pen.fillText(number(tile.tokens) + (tile.moving ? `, ${number(tile.moving)} moving` : ''), x + 8, y + 23);
  }
  pen.restore();
}
