"""The page in a real browser: one story that is always told, and what only --full does.

With ``JOBSYNC_SCREENSHOTS=docs/operate/images`` the pictures of the documentation are taken anew.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest.mock import Mock

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.web.conftest import TOKEN, Screen, Workers
from tests.web.test_feed import HOSTILE, big

from jobsync import Cluster
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.rows import QuarantinedRow
from jobsync.testing import Fault, FaultyBackend, Namespace
from jobsync.web import Server, cluster_app
from jobsync.web import feed as feed_module

Screens = Callable[..., Screen]
KIRITIMATI = dt.timezone(dt.timedelta(hours=14))
DESK: dict[str, Any] = {'viewport': {'width': 1180, 'height': 1040}}
PHONE: dict[str, Any] = {'viewport': {'width': 390, 'height': 844}, 'has_touch': True}
NIGHT: dict[str, Any] = {'color_scheme': 'dark'}

LOW_CONTRAST = """() => {
  const colour = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = node => {
    for (let at = node; at; at = at.parentElement) {
      const found = colour(getComputedStyle(at).backgroundColor);
      if (found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !node.checkVisibility() || node.closest('svg, noscript, script, .spoken')) continue;
    const [a, b] = [light(colour(getComputedStyle(node).color)), light(paper(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.push(`${walk.currentNode.data}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
  return found;
}"""
"""Every visible text that stands out from what is behind it less than WCAG 2.2 demands at level AA."""

UNNAMED = """() => [...document.querySelectorAll('button, input, select, canvas, a, dialog, table, [role]:not([role=alert])')]
  .filter(node => node.checkVisibility() && !['TR', 'TD', 'TH', 'FORM'].includes(node.tagName))
  .filter(node => !(node.ariaLabel || node.getAttribute('aria-labelledby') || node.labels?.length || node.textContent.trim()))
  .map(node => node.outerHTML)"""
"""Every visible control without a name."""


WATCH = """() => {
  window.long = [];
  window.frames = [];
  const note = list => long.push(...list.getEntries().map(entry => entry.duration));
  new PerformanceObserver(note).observe({ type: 'longtask', buffered: true });
  let last = performance.now();
  const tick = now => {
    frames.push(now - last);
    last = now;
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}"""
"""Record how long the tasks of the browser last that take more than 50 ms, and the time from frame to frame."""


SEEN = """seen => {
  Object.defineProperty(document, 'hidden', { value: !seen, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
}"""
"""Bring the tab to the front, or put another one there."""


def serving(backend: Any, port: int = 0, token: str | None = None) -> Server:
    return Server(cluster_app(lambda: Cluster(backend), token=token), port)


@contextlib.contextmanager
def served_under_paths(backends: Mapping[str, Any]) -> Iterator[Server]:
    """Serve several clusters, each under a path and with a token of its own."""

    def app_of(path: str, backend: Any) -> Starlette:
        return cluster_app(lambda: Cluster(backend), token=f'{TOKEN}-of-{path}')

    apps = {path: app_of(path, backend) for path, backend in backends.items()}
    feeds = [app.state.feed for app in apps.values()]
    outer = Starlette(routes=[Mount(f'/{path}', app) for path, app in apps.items()])
    outer.state.feed = Mock(end=lambda: [feed.end() for feed in feeds])
    try:
        with Server(outer, 0) as server:
            yield server
    finally:
        for feed in feeds:
            feed.close()


def test_the_page_follows_a_cluster_through_a_death(screens: Screens, workers: Workers) -> None:
    """A join, a kill, and the tokens with another owner show by themselves, and a task is explained; nothing complains."""
    workers.start('w1')
    screen = screens(**DESK)
    screen.expect('#nodes tr').to_have_count(1)
    second = workers.start('w2')
    screen.expect('#nodes tr').to_have_count(2)
    screen.expect('#numbers').to_contain_text('1,000of 1,000')
    screen.page.focus('#task')
    screen.page.keyboard.type('7')
    screen.page.keyboard.press('Enter')
    screen.expect('#answer').to_contain_text('may do it')
    second.kill()
    screen.expect('#history').to_contain_text('node dead: w2')
    screen.expect('#nodes tr').to_have_count(1)
    screen.expect('#verdict').to_have_text('All is well')
    assert screen.fits()
    assert screen.complaints == []


@pytest.mark.full
def test_what_is_seen_by_day_by_night_on_a_phone_and_during_a_kill(screens: Screens, workers: Workers) -> None:
    """The page fits each screen, each text stands out by day and by night, each control has a name; a death shows at a glance."""
    workers.timeout_sec = 15
    workers.start('worker-01', 'worker-02', 'worker-03', 'gpu-01', 'gpu-02')
    victim = workers.start('worker-04')
    with Cluster(workers.url) as cluster:
        cluster.add_lock('order-4711', 'gpu-%', 'needs a graphics card', actor='ann')
        cluster.add_lock('report-eu', ['big-%', 'huge-%'], 'needs memory', actor='ann')
    desk, night, phone = screens(**DESK), screens(**DESK, **NIGHT), screens(**PHONE, **NIGHT)
    for screen, picture in ((desk, 'light'), (night, 'dark'), (phone, 'phone')):
        screen.expect('#nodes tr').to_have_count(6)
        screen.expect('#verdict').to_have_text('Something needs attention')
        screen.expect('#locks-rows li').to_have_count(2)
        screen.expect('#moves').to_contain_text('Nothing moves')
        assert screen.fits()
        assert screen.page.evaluate(LOW_CONTRAST) == []
        assert screen.page.evaluate(UNNAMED) == []
        screen.picture(picture)
    desk.page.fill('#task', 'report-eu')
    desk.page.keyboard.press('Enter')
    desk.expect('#answer').to_contain_text('no live node matches')
    assert desk.page.evaluate(LOW_CONTRAST) == []
    desk.picture('why', of='section:has(#task)')
    desk.page.fill('#task', '')
    desk.expect('#answer').to_be_empty()
    victim.kill()
    desk.expect('#problems').to_contain_text("'worker-04'")
    desk.picture('kill')
    desk.expect('#history').to_contain_text('node dead: worker-04')
    desk.expect('#nodes tr').to_have_count(5)
    desk.expect('#numbers').to_contain_text('1,000of 1,000')
    assert desk.complaints == night.complaints == phone.complaints == []


@pytest.mark.full
def test_everything_is_reached_by_the_keyboard(screens: Screens, workers: Workers) -> None:
    """Tab goes through the controls in order, arrows through the map, which speaks; a dialog gives the focus back."""
    workers.start('w1', 'w2', 'w3')
    screen = screens(**DESK)
    page = screen.page
    screen.expect('#nodes tr').to_have_count(3)
    screen.expect('#numbers').to_contain_text('1,000of 1,000')
    seen: list[str] = []
    for _ in range(60):
        page.keyboard.press('Tab')
        seen.append(page.evaluate('document.activeElement.id || document.activeElement.textContent'))
    wanted = [
        'Skip to the state of the cluster',
        'task',
        'Explain',
        'map',
        'nodes-find',
        'nodes-order',
        'w1',
        'locks-find',
        'locks-unmatched',
    ]
    assert [each for each in dict.fromkeys(seen) if each in wanted] == wanted
    page.focus('#map')
    page.keyboard.press('ArrowRight')
    screen.expect('#map-spoken').to_contain_text('w1: ')
    page.keyboard.press('End')
    screen.expect('#map-spoken').to_contain_text('w3: ')
    page.keyboard.press('Enter')
    screen.expect('#node').to_contain_text('w3')
    screen.expect('#node-settings').to_contain_text('heartbeat_timeout_sec')
    page.keyboard.press('Escape')
    screen.expect('#node').to_be_hidden()
    assert page.evaluate('document.activeElement.id') == 'map'
    screen.expect('#spoken').to_contain_text('All is well. 3 nodes at work')
    assert screen.complaints == []


@pytest.mark.full
def test_a_node_is_drained_by_those_who_have_the_token(screens: Screens, workers: Workers) -> None:
    """With the token and a name the page steers, and shows why it may not; the token does not stay in the address."""
    workers.start('w1', 'w2')
    with Cluster(workers.url) as cluster:
        cluster.add_lock('x', 'w%', actor='bob')
    wrong, screen = screens('#token=wrong-wrong-wrong-wrong', **DESK), screens(f'#token={TOKEN}', **DESK)
    for each in (wrong, screen):
        assert 'token' not in each.page.url
        each.page.fill('#steer-name', 'ann')
        each.page.keyboard.press('Enter')
        each.expect('#steer-open').to_have_text('Steering is on')
        each.page.click('#nodes button:has-text("w2")')
        each.page.click('#node button:has-text("Drain")')
        each.page.fill('#ask-reason', 'maintenance')
        each.page.keyboard.press('Enter')
    wrong.expect('#ask-error').to_contain_text('token')
    screen.expect('#ask').to_be_hidden()
    screen.expect('#nodes').to_contain_text('drained')
    screen.expect('#idle').to_contain_text('w2 (drained)')
    screen.page.click('#locks-rows button:has-text("Clear")')
    screen.page.click('#ask-yes')
    screen.expect('#locks-rows').to_have_text('None.')
    assert screen.complaints == []


def test_two_clusters_under_paths_of_one_name(screens: Screens) -> None:
    """As behind a proxy: each page follows its own cluster and steers it, and the token of the one is not sent to the other."""
    namespaces = {path: Namespace(MemoryBackend(MemoryStore())) for path in ('east', 'west')}
    for path, namespace in namespaces.items():
        namespace.leader(f'node-of-{path}')
        namespace.join(f'other-of-{path}')
    with served_under_paths({path: namespace.backend for path, namespace in namespaces.items()}) as server:
        screen = screens(f'east/#token={TOKEN}-of-east', of=server, **DESK)
        page = screen.page

        def drain(path: str) -> None:
            page.click(f'#nodes button:has-text("other-of-{path}")')
            page.click('#node button:has-text("Drain")')
            page.click('#ask-yes')
            screen.expect('#idle').to_contain_text(f'other-of-{path} (drained)')

        page.fill('#steer-name', 'ann')
        page.keyboard.press('Enter')
        drain('east')
        page.goto(f'http://127.0.0.1:{server.port}/west/')
        screen.expect('#nodes').to_contain_text('node-of-west')
        screen.expect('#steer-open').to_have_text('Steer')
        screen.expect('#locks-add').to_be_hidden()
        page.click('#steer-open')
        page.fill('#steer-token', f'{TOKEN}-of-west')
        page.keyboard.press('Enter')
        drain('west')
        page.goto(f'http://127.0.0.1:{server.port}/east/')
        page.click('#nodes button:has-text("other-of-east")')
        page.click('#node button:has-text("Undrain")')
        page.click('#ask-yes')
        screen.expect('#ask').to_be_hidden()
        screen.expect('#idle').not_to_contain_text('drained')
        page.keyboard.press('Escape')
        page.fill('#task', '7')
        page.keyboard.press('Enter')
        screen.expect('#answer .verdict').to_be_visible()
        assert page.url.endswith('/east/#task=7')
        assert screen.complaints == []
    drained = [Cluster(namespace.backend).status()['drained'] for namespace in namespaces.values()]
    assert drained == [[], ['other-of-west']]


@pytest.mark.full
def test_a_task_is_locked_on_the_page(screens: Screens, workers: Workers) -> None:
    """Who may steer adds a lock, with patterns in order; what is refused says why, and no one else is shown the button."""
    workers.start('w1', 'w2')
    reader, screen, phone = screens(**DESK), screens(f'#token={TOKEN}', **DESK), screens(f'#token={TOKEN}', **PHONE, **NIGHT)
    reader.expect('#nodes tr').to_have_count(2)
    reader.expect('#locks-add').to_be_hidden()
    for each in (screen, phone):
        each.page.fill('#steer-name', 'ann')
        each.page.keyboard.press('Enter')
        each.page.click('#locks-add')
        assert each.page.evaluate(LOW_CONTRAST) == []
        assert each.page.evaluate(UNNAMED) == []
        assert each.fits()
    page = screen.page
    page.fill('#ask-task', 'order <b>7</b>')
    page.click('#ask-yes')
    screen.expect('#ask-error').to_contain_text('patterns')
    page.fill('#ask-patterns', 'gpu-%\nw2\n')
    page.fill('#ask-days', 'soon')
    page.click('#ask-yes')
    screen.expect('#ask-error').to_contain_text('days')
    page.fill('#ask-days', '')
    page.click('#ask-yes')
    screen.expect('#locks-rows').to_contain_text('order <b>7</b>')
    screen.expect('#locks-rows').to_contain_text('gpu-%, w2')
    screen.expect('#locks-rows').to_contain_text('on w2')
    phone.page.keyboard.press('Escape')
    phone.expect('#locks-rows').to_contain_text('by ann')
    screen.expect('#history').to_contain_text('lock by ann')
    with Cluster(workers.url) as cluster:
        (lock,) = cluster.locks()
    assert (lock['task_id'], lock['patterns'], lock['created_by'], lock['expires_at']) == (
        'order <b>7</b>',
        ['gpu-%', 'w2'],
        'ann',
        None,
    )
    assert reader.complaints == phone.complaints == []


@pytest.mark.full
def test_the_run_that_was_shown_is_evicted_and_no_later_one(screens: Screens) -> None:
    """Two operators open the dialog of a node; the second confirms when the first has evicted it, and it has joined anew."""
    namespace = Namespace(MemoryBackend(MemoryStore()))
    namespace.leader('a')
    namespace.join('w2')
    with serving(namespace.backend, token=TOKEN) as server:
        both = [screens(f'#token={TOKEN}', of=server, **DESK) for _ in range(2)]
        for each in both:
            each.page.fill('#steer-name', 'ann')
            each.page.keyboard.press('Enter')
            each.page.click('#nodes button:has-text("w2")')
            each.expect('#node-settings').to_contain_text('run')
            each.page.click('#node button:has-text("Evict")')
        both[0].page.click('#ask-yes')
        both[0].expect('#ask').to_be_hidden()
        namespace.join('w2')
        both[1].page.click('#ask-yes')
        both[1].expect('#ask-error').to_contain_text('joined anew')
    assert 'w2' in namespace.nodes()


@pytest.mark.full
def test_a_server_that_was_started_again_without_steering_says_so(screens: Screens) -> None:
    """A dialog that is open names no node that is not found: there is nothing on this server that changes anything."""
    namespace = Namespace(MemoryBackend(MemoryStore()))
    namespace.leader('a')
    with serving(namespace.backend, token=TOKEN) as server:
        port, screen = server.port, screens(f'#token={TOKEN}', of=server, **DESK)
        screen.page.fill('#steer-name', 'ann')
        screen.page.keyboard.press('Enter')
        screen.page.click('#nodes button:has-text("a")')
        screen.page.click('#node button:has-text("Evict")')
    with serving(namespace.backend, port=port):
        screen.page.click('#ask-yes')
        screen.expect('#ask-error').to_contain_text('allows no changes')


@pytest.mark.full
@pytest.mark.parametrize('status', [200, 502])
def test_an_answer_of_a_proxy_is_none_of_the_server(screens: Screens, status: int) -> None:
    """A page that asks for a login, or reports an outage, is no JSON: what is said of it names the proxy, and nothing is done."""
    namespace = Namespace(MemoryBackend(MemoryStore()))
    namespace.leader('a')
    with serving(namespace.backend, token=TOKEN) as server:
        screen = screens(f'#token={TOKEN}', of=server, **DESK)
        screen.page.route('**/api/*', lambda route: route.fulfill(status=status, content_type='text/html', body='<html>'))
        screen.page.fill('#steer-name', 'ann')
        screen.page.keyboard.press('Enter')
        screen.page.fill('#task', '7')
        screen.page.keyboard.press('Enter')
        screen.expect('#answer').to_contain_text('such as a proxy')
        screen.page.click('#nodes button:has-text("a")')
        screen.page.click('#node button:has-text("Drain")')
        screen.page.click('#ask-yes')
        screen.expect('#ask-error').to_contain_text(f'{status}, is not from jobsync')
    assert not namespace.locks()


@pytest.fixture
def hostile() -> Iterator[Server]:
    """A cluster whose names, tasks and reasons try to break the page."""
    store = MemoryStore()
    namespace = Namespace(MemoryBackend(store))
    namespace.leader('<b onclick=alert(1)>bold')
    for name in ('__proto__', 'שלום עולם', 'w' * 200, '"\'`&lt;'):
        namespace.join(name, host=HOSTILE)
    namespace.lock(HOSTILE, '\u202eevil', patterns=(HOSTILE,), created_by=HOSTILE, reason=HOSTILE)
    namespace.lock('row', group='<i>group')
    namespace.backend.append_claims(namespace.join('left'), [HOSTILE], namespace.snapshot().now.date())
    with serving(MemoryBackend(store)) as server:
        yield server


@pytest.mark.full
def test_a_text_from_the_store_is_text(screens: Screens, hostile: Server) -> None:
    """Markup is shown, not run; what is invisible or turns the direction is a code; what is long does not widen the page."""
    for options in (DESK, PHONE):
        screen = screens(of=hostile, **options)
        screen.expect('#nodes tr').to_have_count(6)
        screen.expect('#locks-rows').to_contain_text('<img src=x onerror="alert(1)">\\u202e\\u0007__proto__')
        screen.expect('#nodes').to_contain_text('<b onclick=alert(1)>bold')
        screen.expect('#groups').to_contain_text('<i>group')
        screen.page.click('#nodes button:has-text("__proto__")')
        screen.expect('#node-facts').to_contain_text('<img')
        screen.page.keyboard.press('Escape')
        screen.page.click('#locks-rows li:first-child button')
        screen.expect('#answer').to_contain_text('Not claimable')
        assert screen.page.locator('main img, main b, main i').count() == 0
        assert screen.fits()
        assert screen.complaints == []


@pytest.mark.full
def test_a_slow_answer_takes_no_other_ones_place(screens: Screens, hostile: Server) -> None:
    """What is shown of a task or a node is of the one that was chosen last, in whatever order the answers come."""
    screen = screens(of=hostile, **DESK)
    page, held = screen.page, list[Any]()
    for address in ('**/api/why?task=slow', '**/api/nodes?name=left'):
        page.route(address, lambda route: held.append(route))
    for task in ('slow', 'row'):
        page.fill('#task', task)
        page.click('#task-form button')
    screen.expect('#answer').to_contain_text("an item of the group '<i>group'")
    for node in ('left', '__proto__'):
        page.click(f'#nodes button:has-text("{node}")')
        page.click('#node summary')
        page.keyboard.press('Escape')
    screen.expect('#node-settings').to_contain_text('has read')
    found = page.locator('#answer').inner_text(), page.locator('#node-settings').text_content()
    answer = {'task': 'slow', 'token': 1, 'version': 1, 'verdict': 'slow', 'details': []}
    for route, late in zip(held, (answer, [{'settings': {}, 'incarnation': 'late'}]), strict=True):
        with page.expect_response(route.request.url):
            route.fulfill(json=late)
    page.evaluate("fetch('api/history?task=slow').then(answer => answer.text())")  # as long as the page takes for its own
    page.evaluate("fetch('api/history?task=slow').then(answer => answer.text())")
    assert (page.locator('#answer').inner_text(), page.locator('#node-settings').text_content()) == found
    assert screen.complaints == []


@pytest.mark.full
def test_a_dialog_that_stays_open_shows_the_present(screens: Screens) -> None:
    """A node's dialog follows it to its end; the late answer to a question that was closed is not that to the next question."""
    namespace = Namespace(MemoryBackend(MemoryStore()))
    leader, b = namespace.leader('a'), namespace.join('b')
    namespace.lock('x')
    with serving(namespace.backend, token=TOKEN) as server:
        screen = screens(f'#token={TOKEN}', of=server, **DESK)
        page, held = screen.page, list[Any]()
        page.fill('#steer-name', 'ann')
        page.keyboard.press('Enter')
        page.route('**/api/locks/clear', lambda route: held.append(route))
        page.click('#locks-rows button:has-text("Clear")')
        with page.expect_request('**/api/locks/clear'):
            page.click('#ask-yes')
        page.click('#ask button[value=no]')
        page.click('#nodes button:has-text("b")')
        page.click('#node button:has-text("Evict")')
        screen.expect('#ask-yes').to_be_enabled()
        held[0].fulfill(status=503, json={'error': 'the lock is not cleared'})
        screen.expect('#spoken').to_have_text('the lock is not cleared')
        screen.expect('#ask-error').to_be_empty()
        page.click('#ask button[value=no]')
        with Cluster(namespace.backend) as cluster:
            cluster.drain('b', actor='bob', force=True)
        screen.expect('#node-actions button').to_have_text(['Undrain', 'Evict'])
        namespace.evict(leader, b)
        screen.expect('#node-facts').to_contain_text('not registered any more')
        screen.expect('#node-actions').to_be_empty()


@pytest.mark.full
def test_a_task_is_released_for_the_day_on_which_it_was_shown(screens: Screens, monkeypatch: pytest.MonkeyPatch) -> None:
    """Midnight passes while a person decides: what the page shows in quarantine is released, not the task of the new day."""
    namespace = Namespace(MemoryBackend(MemoryStore()))
    namespace.leader('a')
    shown, released = list[dt.date | None](), list[dt.date | None]()

    def quarantined(_: Cluster, __: int, date: dt.date | None = None) -> list[QuarantinedRow]:
        shown.append(date)
        return [{'item': 'deadly', 'attempts': 3}]

    monkeypatch.setattr(feed_module, 'fewest_attempts', lambda _: 3)
    monkeypatch.setattr(Cluster, 'quarantined', quarantined)
    monkeypatch.setattr(Cluster, 'release', lambda _, __, date=None, *, actor: released.append(date))
    with serving(namespace.backend, token=TOKEN) as server:
        screen = screens(f'#token={TOKEN}', of=server, **DESK)
        screen.page.fill('#steer-name', 'ann')
        screen.page.keyboard.press('Enter')
        screen.page.click('#quarantined-rows button:has-text("Release")')
        screen.page.click('#ask-yes')
        screen.expect('#spoken').to_have_text('Done.')
    assert released == shown[:1] != [None]


@pytest.mark.full
def test_a_task_of_another_day_is_explained_for_that_day(screens: Screens, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that was left incomplete, and is complete under the date of today, is not said to be complete."""
    monkeypatch.setattr(feed_module, 'INCOMPLETE_SEC', 0)
    namespace, today = Namespace(MemoryBackend(MemoryStore())), dt.date.today()
    leader, day = namespace.leader('a'), today - dt.timedelta(days=3)
    namespace.backend.append_claims(leader, ['daily'], day)
    namespace.backend.append_audits('a', ['daily'], today)
    with serving(namespace.backend) as server:
        screen = screens(of=server, **DESK)
        screen.page.click('#incomplete-rows button:has-text("daily")')
        screen.expect('#answer').to_contain_text("'a' began it")
        screen.expect('#answer').to_contain_text(f', for {day}.')
        assert screen.page.url.endswith(f'#task=daily&date={day}')
        assert screen.complaints == []


@pytest.mark.full
def test_times_are_those_of_the_browser_and_do_not_age(screens: Screens, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a lock ends and when a task was begun is told in the zone of the rest of the page; groups without room are counted."""
    monkeypatch.setattr(feed_module, 'INCOMPLETE_SEC', 0)
    namespace = Namespace(MemoryBackend(MemoryStore()))
    namespace.backend.append_claims(namespace.leader('a'), ['begun'], namespace.snapshot().now.date())
    for number in range(101):
        namespace.lock('item', group=f'group {number}')
    with serving(namespace.backend) as server, Cluster(namespace.backend) as cluster:
        cluster.add_lock('x', 'a', expires_in_days=100)
        (lock,), (begun,) = cluster.locks(), cluster.incomplete(older_than=0)
        screen = screens(of=server, timezone_id='Pacific/Kiritimati', **DESK)  # UTC+14
        assert lock['expires_at'] is not None
        ends, since = lock['expires_at'].astimezone(KIRITIMATI), begun['created_on'].astimezone(KIRITIMATI)
        screen.expect('#locks-rows').to_contain_text(f'until {ends:%b} {ends.day}, {ends:%Y, %H:%M}')
        screen.expect('#incomplete-rows').to_contain_text(f'{since:%b} {since.day}, {since:%H:%M:%S}')
        screen.expect('#groups li').to_have_count(101)
        screen.expect('#groups').to_contain_text('and 1 more group')
        screen.expect('#numbers').to_contain_text('101 on no node')


@pytest.mark.full
def test_a_store_that_does_not_answer_shows_as_old(screens: Screens) -> None:
    """The last state stays, with its age and the reason; it is back with the store or server, or when seen again."""
    namespace = Namespace(MemoryBackend(MemoryStore()))
    namespace.leader('a')
    backend = FaultyBackend(namespace.backend)
    with serving(backend) as server:
        screen = screens(of=server, **DESK)
        screen.expect('#live').to_have_text('live')
        server_port = server.port
        backend.faults.append(Fault('snapshot', times=1_000_000))
        screen.expect('#live-text').to_contain_text('the store does not answer, stale since')
        screen.expect('#nodes tr').to_have_count(1)
        assert screen.page.title() == '? jobsync'  # of a tab that is not seen this is all that people see
        backend.faults.clear()
        screen.expect('#live').to_have_text('live')
        assert screen.page.title() == '!! jobsync'  # no token has an owner
        screen.page.route('**/api/locks?**', lambda route: route.abort())
        screen.page.fill('#locks-find', 'x')
        screen.expect('#locks-rows').to_have_text('Failed to fetch')
        screen.page.unroute('**/api/locks?**')
        screen.page.evaluate(SEEN, False)
        namespace.join('b')
        screen.page.evaluate(SEEN, True)
        screen.expect('#nodes tr').to_have_count(2)
        screen.expect('#locks-rows').to_have_text('None.')
    screen.expect('#live-text').to_contain_text('no connection to the server')
    namespace.join('c')
    with serving(backend, port=server_port):
        screen.expect('#live').to_have_text('live')
        screen.expect('#nodes tr').to_have_count(3)


@pytest.mark.full
def test_a_late_answer_to_a_hidden_tab_takes_no_newer_states_place(screens: Screens) -> None:
    """What was asked while the tab was not seen, and is answered when it is seen again, is not shown."""
    namespace = Namespace(MemoryBackend(MemoryStore()))
    namespace.leader('a')
    with serving(namespace.backend) as server:
        screen = screens(of=server, **DESK)
        page, held = screen.page, list[Any]()
        code = page.request.get(f'http://127.0.0.1:{server.port}/feed.js').text()
        assert '30_000' in code  # how often a tab that is not seen asks, in ms
        page.route(
            '**/feed.js', lambda route: route.fulfill(content_type='text/javascript', body=code.replace('30_000', '1_000'))
        )
        page.reload()
        screen.expect('#live').to_have_text('live')
        page.route('**/api/state?', lambda route: held.append((route, route.fetch())))
        page.evaluate(SEEN, False)
        while not held:
            page.wait_for_timeout(100)
        namespace.join('b')
        page.evaluate(SEEN, True)
        screen.expect('#nodes tr').to_have_count(2)
        route, old = held[0]
        with page.expect_response('**/api/state?'):
            route.fulfill(response=old)
        page.evaluate("fetch('api/nodes').then(answer => answer.text())")  # as long as the page takes for its own
        page.evaluate('new Promise(requestAnimationFrame)')
        assert page.locator('#nodes tr').count() == 2


@pytest.mark.full
def test_a_thousand_nodes_a_million_tokens_and_a_hundred_thousand_locks(screens: Screens, record_property: Any) -> None:
    """One canvas and a page of each list are shown, whatever there is; what it costs the browser is recorded."""
    namespace, refs = big(1000, 1_000_000, 100_000)
    with serving(namespace.backend) as server:
        screen = screens(of=server, **DESK)
        page = screen.page
        page.evaluate(WATCH)
        screen.expect('#nodes tr').to_have_count(25)
        screen.expect('#locks-pages').to_contain_text('of 100,000')
        for start in range(0, 1000, 200):
            for ref in refs[start : start + 200]:
                namespace.beat(ref, namespace.snapshot().version)
            page.wait_for_timeout(1000)
        page.fill('#nodes-find', 'worker-0777')
        screen.expect('#nodes tr').to_have_count(1)
        assert page.evaluate('document.querySelectorAll("*").length') < 1500
        for name in ('long', 'frames'):
            found = sorted(page.evaluate(name))
            record_property(f'{name} over 50 ms', sum(each > 50 for each in found))
            record_property(f'longest of {name}, ms', round(found[-1]) if found else 0)
        assert screen.complaints == []
