"""From the core's own objects to terms, and back.

``Codec.term`` makes the term of a record or of an agent, with times counted in ticks from now; ``Codec.value`` makes the object
again. Records are immutable, so a term remembers the one object that it stands for. An agent is made anew each time: the copy can
be given a call or a reply, and the term stays what it was.
"""

from __future__ import annotations

import datetime as dt
import enum
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from math import ceil, inf
from types import MappingProxyType, NoneType
from typing import Any

import attrs
from tests.explore.fields import RECORDS, STATE, Kind
from tests.explore.terms import Count, Term, Terms, Time

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.lease import Lease
from jobsync._core.agent.monitor import ClusterMonitor
from jobsync._core.agent.ownership import Ownership
from jobsync._core.assignment import Assignment
from jobsync._core.records import Node, Pulse, Snapshot
from jobsync.errors import JobsyncError, NameTaken

__all__ = ['BASE', 'Codec']

BASE = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
"""The time that the store's clock shows, always: no decision may depend on it."""
_PLAIN = frozenset({NoneType, bool, int, str, bytes, dt.datetime, dt.timedelta})
_LINKS = {'_lease': 'lease', '_rollback': '_rollback', '_candidacy': '_candidacy', '_weight_sync': '_weight_sync'}
_MICROSECOND = dt.timedelta(microseconds=1)


class Codec:
    """Makes terms of objects and objects of terms, for one exploration."""

    def __init__(self, terms: Terms, oldest: int, template: Callable[[str], Agent]) -> None:
        """Take what is older than ``oldest`` ticks for that old, and the constant parts of an agent from its ``template``."""
        self._terms, self._oldest, self._template = terms, oldest, template
        self._own = ''
        self._fields: dict[type, tuple[tuple[str, Kind], ...]] = {}
        self._fields_of_kind: dict[Kind, Callable[[Any, str, Any], Any]] = {
            Kind.AMOUNT: self._amount,
            Kind.TIME: self._time_or_times,
            Kind.DUE: self._due,
            Kind.ONCE: lambda of, name, value: min(value, 1),
            Kind.ZERO: lambda of, name, value: None,
            Kind.NONE: lambda of, name, value: None,
            Kind.BEATS: lambda of, name, value: self._beats(value),
            Kind.BEAT: self._beat,
            Kind.CREATED: lambda of, name, value: Count(('created', (value - BASE) // _MICROSECOND)),
            Kind.REVISION: lambda of, name, value: self._count('revision', value),
            Kind.EPOCH: lambda of, name, value: self._count('epoch', value),
            Kind.POSITION: lambda of, name, value: self._count('position', value),
        }

    # --- to terms -----------------------------------------------------------------------------------------------------------

    def term(self, value: Any, own: str = '') -> Any:
        """Return the term of a record, or a plain value itself. ``own`` is the incarnation whose counters are in it."""
        self._own = own or self._own
        return self._term(value)

    def agent(self, agent: Agent, key: str) -> Term:
        """Return the term of an agent; its template has this key."""
        self._own = agent.ref.incarnation
        return self._terms.make(Agent, (key, *self._part(agent).parts))

    def _part(self, part: Any) -> Term:
        layout = _layout(type(part))  # type: ignore[arg-type]
        if layout.is_open and vars(part).keys() - layout.kinds.keys():
            unknown = sorted(vars(part).keys() - layout.kinds.keys())
            raise TypeError(f'the explorer does not know what {unknown} of {type(part).__name__} mean: see fields.py')
        field = self._field
        return self._terms.make(type(part), tuple([field(part, name, kind) for name, kind in layout.changing]))

    def _term(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN or isinstance(value, enum.Enum):
            return value
        if kind is float:
            if value in {inf, -inf}:
                return value
            raise TypeError(f'{value!r} is in a field of which the explorer does not know whether it is a time: see fields.py')
        make = self._terms.make
        if kind is tuple:
            return make('tuple', tuple(map(self._term, value)))
        if kind in {frozenset, set}:
            return make(kind.__name__, tuple(sorted(map(self._term, value), key=repr)))
        if kind is array:
            return make('array', (value.typecode, *value))
        if kind in {dict, MappingProxyType, Counter}:
            return make(kind.__name__, self._items(value, self._term))
        if kind in STATE:
            return self._part(value)
        if isinstance(value, JobsyncError):
            return make(kind, (self._term(value.record),) if isinstance(value, NameTaken) else ())
        if kind is commands.PlanAndCommit:  # all that an agent recalls of it is that it is under way
            return make(kind, ())
        if kind is Ownership:
            return make(kind, (value.mine, self._term(value.pins), self._term(value.pin_ids)))
        if attrs.has(kind):
            return make(kind, tuple([self._field(value, name, how) for name, how in self._of_record(kind)]))
        raise TypeError(f'the explorer does not know {kind.__name__}')

    def _of_record(self, kind: type) -> tuple[tuple[str, Kind], ...]:
        fields = self._fields.get(kind)
        if fields is None:
            kinds = RECORDS.get(kind, {})
            names = [field.name for field in attrs.fields(kind)]
            assert kinds.keys() <= set(names), kind
            fields = self._fields[kind] = tuple((name, kinds.get(name, Kind.VALUE)) for name in names)
        return fields

    def _items(self, mapping: Mapping[Any, Any], change: Callable[[Any], Any]) -> tuple[Any, ...]:
        items = [(self._term(key), change(value)) for key, value in mapping.items()]
        return tuple([part for item in sorted(items, key=lambda item: _order(item[0])) for part in item])

    def _field(self, of: Any, name: str, kind: Kind) -> Any:
        value = getattr(of, name)
        if kind is Kind.VALUE:
            if name == '_under_way':
                return self._under_way(of)
            if type(value) in _PLAIN:
                return value
            return self._term(self._as_kept(value, of) if name == 'snapshot' else value)
        if kind is Kind.PART:
            if type(of) is ClusterMonitor:
                value._first_read.pop(of._ref.name, None)  # no node suspects itself
            return None if value is None else self._part(value)
        return self._fields_of_kind[kind](of, name, value)

    def _due(self, of: Any, name: str, value: Any) -> Any:
        at = value[0] if name == 'grant' else value
        return at if at is None or at in {inf, -inf} else Time(('d', max(ceil(at), 0)))

    def _beat(self, of: Any, name: str, value: Any) -> Any:
        return None if value is None else Count(('beat:' + self._writer(of, name), value))

    def _time_or_times(self, of: Any, name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return self._terms.make('times', self._items(value, self._time))
        return self._time(value)

    def _amount(self, of: Any, name: str, value: Any) -> Any:
        return self._terms.make('amounts', value) if isinstance(value, tuple) else value

    def _as_kept(self, snapshot: Snapshot | None, monitor: ClusterMonitor) -> Snapshot | None:
        """Return a snapshot without the reader's own counter, which is compared when a snapshot comes and never later."""
        if snapshot is None:
            return None
        own = monitor._ref
        without: Any = None
        nodes = tuple([attrs.evolve(node, heartbeat=without) if node.ref == own else node for node in snapshot.nodes])
        return attrs.evolve(snapshot, nodes=nodes)

    def _count(self, kind: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return self._terms.make('counts', self._items(value, lambda number: self._count(kind, number)))
        return value if value is None or value < 0 else Count((kind, value))

    def _time(self, at: float | None) -> Any:
        if at is None or at in {inf, -inf}:
            return at
        return Time(('t', max(ceil(at), -self._oldest)))

    def _writer(self, of: Any, name: str) -> str:
        """Return the incarnation that raises a counter."""
        if isinstance(of, Node):
            return of.incarnation
        if isinstance(of, Pulse) and name == 'leader_heartbeat':
            assert of.leadership.node is not None
            return of.leadership.node.incarnation
        ref = getattr(of, 'ref', None)
        return ref.incarnation if ref is not None else self._own

    def _beats(self, value: Any) -> Any:
        def beat(pair: tuple[str, int]) -> tuple[Any, ...]:
            return pair[0], Count(('beat:' + pair[0], pair[1]))

        if value is None:
            return None
        if isinstance(value, tuple):
            return self._terms.make('beat', beat(value))
        read = sorted(value.items())
        return self._terms.make(
            'beats', tuple([part for name, (pair, at) in read for part in (name, *beat(pair), self._time(at))])
        )

    def _under_way(self, agent: Agent) -> Term:
        """Return the calls under way. Of a call of an older session only the lane is left: its reply is dropped."""
        parts: list[Any] = []
        for lane in commands.Lane:
            issued = agent._under_way.get(lane)
            if issued is not None:
                parts += [lane, self._term(issued) if issued.session == agent._session else None]
        return self._terms.make('calls', tuple(parts))

    # --- to objects ---------------------------------------------------------------------------------------------------------

    def value(self, term: Any) -> Any:
        """Return the object of a term. Mutable objects are made anew."""
        kind = type(term)
        if kind is not Term:
            return term[1] if kind is Count or kind is Time else term
        if term.value is not None:
            return term.value
        value = self._value(term)
        if term.head not in {'dict', 'set', 'Counter', 'times', 'counts'}:
            term.value = value
        return value

    def _value(self, term: Term) -> Any:
        head, parts = term.head, term.parts
        match head:
            case 'tuple' | 'amounts':
                return tuple(map(self.value, parts))
            case 'frozenset':
                return frozenset(map(self.value, parts))
            case 'set':
                return set(map(self.value, parts))
            case 'array':
                return array(parts[0], parts[1:])
            case 'dict' | 'times' | 'counts':
                return self._mapping(parts)
            case 'mappingproxy':
                return MappingProxyType(self._mapping(parts))
            case 'Counter':
                return Counter(self._mapping(parts))
            case 'beat':
                return parts[0], parts[1][1]
            case commands.PlanAndCommit:
                return commands.PlanAndCommit(None, None, None)  # type: ignore[arg-type]
        if issubclass(head, NameTaken):
            return head(self.value(parts[0]))
        if issubclass(head, JobsyncError):
            return head('explored')
        if head is Assignment:
            fields = dict(zip([name for name, _ in self._of_record(head)], map(self.value, parts), strict=True))
            return Assignment(**{**fields, 'since': array('q', [0]) * len(fields['owner'])})
        if head is Ownership:
            return Ownership(parts[0], self.value(parts[1]), self.value(parts[2]))
        values = [self._restored(kind, part) for (_, kind), part in zip(self._of_record(head), parts, strict=True)]
        names = [field.alias for field in attrs.fields(head)]
        return head(**dict(zip(names, values, strict=True)))

    def _mapping(self, parts: tuple[Any, ...]) -> dict[Any, Any]:
        values = list(map(self.value, parts))
        return dict(zip(values[::2], values[1::2], strict=True))

    def _restored(self, kind: Kind, part: Any) -> Any:
        match kind:
            case Kind.CREATED:
                return BASE + part[1] * _MICROSECOND
            case Kind.ZERO:
                return 0
            case _:
                return self.value(part)

    def copy(self, term: Term) -> Agent:
        """Return a new agent in the state of a term."""
        key, *parts = term.parts
        template = self._template(key)
        links: dict[str, Any] = {}
        agent: Agent = self._made(template, parts, links)
        agent.events = []
        return agent

    def _made(self, template: Any, parts: Any, links: dict[str, Any]) -> Any:
        kind = type(template)
        layout = _layout(kind)  # type: ignore[arg-type]
        made = object.__new__(kind)
        if layout.is_open:
            made.__dict__.update(template.__dict__)
        else:
            for name in layout.same:
                setattr(made, name, getattr(template, name))
        for name in layout.links:
            setattr(made, name, links[_LINKS[name]])
        last: Any = None
        for (name, how), part in zip(layout.changing, parts, strict=True):
            if how is Kind.VALUE:
                if name == '_under_way':
                    calls = zip(*[iter(part.parts)] * 2, strict=True)
                    setattr(made, name, {lane: self._issued(made, call) for lane, call in calls})
                else:
                    setattr(made, name, self.value(part) if type(part) is Term else part)
            elif how is Kind.PART:
                if name == '_membership':  # it has links to all others
                    last = part
                    continue
                value = None if part is None else self._made(self._example(template, name, part), part.parts, links)
                links[name] = value
                setattr(made, name, value)
            elif how is Kind.BEATS:
                read = part.parts
                beats = {read[at]: ((read[at + 1], read[at + 2][1]), read[at + 3][1]) for at in range(0, len(read), 4)}
                setattr(made, name, beats)
            elif how is Kind.NONE:
                setattr(made, name, {} if name == 'attempts' else None)
            elif name == 'grant':
                deadline = self.value(part)
            else:
                setattr(made, name, self._restored(how, part))
        if kind is Lease:
            made.grant = made._ownership.granted(deadline)
        if last is not None:
            made._membership = self._made(template._membership, last.parts, links)
        return made

    def _example(self, template: Any, name: str, part: Term) -> Any:
        """Return a part with the constants of a part that the template may not have."""
        found = getattr(template, name)
        return object.__new__(part.head) if found is None else found

    def _issued(self, agent: Agent, call: Term | None) -> commands.Issued:
        if call is None:
            return commands.Issued(commands.TakeSnapshot(), 0.0, -1, None)  # type: ignore[arg-type]
        issued: commands.Issued = self.value(call)
        return issued


@attrs.frozen
class _Layout:
    """The fields of a part of an agent."""

    kinds: Mapping[str, Kind]
    is_open: bool
    """Whether a part may get fields that its class does not name."""
    same: tuple[str, ...]
    links: tuple[str, ...]
    changing: tuple[tuple[str, Kind], ...]


@cache
def _layout(kind: type) -> _Layout:
    kinds = STATE[kind]
    is_open = not attrs.has(kind)
    if not is_open and (unknown := {field.name for field in attrs.fields(kind)} ^ kinds.keys()):
        raise TypeError(f'the explorer does not know what {sorted(unknown)} of {kind.__name__} mean: see fields.py')
    return _Layout(
        kinds,
        is_open,
        tuple(name for name, how in kinds.items() if how is Kind.SAME),
        tuple(name for name, how in kinds.items() if how is Kind.LINK),
        tuple((name, how) for name, how in kinds.items() if how not in {Kind.SAME, Kind.LINK}),
    )


def _order(key: Any) -> Any:
    return [str(part) for part in key.parts] if isinstance(key, Term) else str(key)
