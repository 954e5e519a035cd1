/* How jobsync keeps one owner for each task: the protocol in a small world, for SPIN. protocol.tla says the same for readers.
 *
 * One task. Two names: A, of run 0, and B, of run 1 and of run 2, another process. SPIN visits every state of this world, and in
 * each at most one run claims the task (P1). The titles between dashes are those of docs/protocol.md. Each flag that begins with
 * the number of a rule or with KNOWN_DEATHS takes that rule away, and SPIN must find two owners: tests/spec/test_spec.py.
 *
 * - Any step may come at any moment, or never: no pause, lost call or slow answer needs a step of its own. Nothing grows: of a
 *   version the model keeps whether it is the present one; of a time, how many ticks have passed or are left.
 * - There is no leader. Any plan that any run could make may be committed at any later moment at which the commit's comparisons
 *   hold, and every observer reads a record at once when it changes. Both are worse than what the protocol allows. A plan that
 *   the store would certainly refuse is dropped at once: so one at a time is enough.
 */
#ifndef TIMEOUT
#define TIMEOUT 2        /* ticks of silence after which a run may be taken for dead */
#endif
#ifndef FIRST_RUN
#define FIRST_RUN 0      /* 1: there is no A, and the runs of B are alone */
#endif
#ifndef LAST_RUN
#define LAST_RUN 1       /* 2: there is run 2 */
#endif
#ifndef PIN
#define PIN 0            /* 1: an operator locks the task, so that it has a pin. Place 0 is the task's hash token, place 1 the pin. */
#endif
#ifndef DEATHS
#define DEATHS 0         /* how many processes die */
#endif
#ifndef LEAVES
#define LEAVES 0         /* how many runs leave in good order */
#endif
#ifndef DELETIONS
#define DELETIONS 0      /* how many rows of nodes are deleted manually */
#endif
#ifndef SLOW_TICKS
#define SLOW_TICKS 0     /* how often a clock falls behind by one tick: at most once in each timeout */
#endif
#ifndef RESTORES
#define RESTORES 0       /* how often the store goes back to where it began */
#endif

/* BROKEN(FLAG) is 1 if the flag is given, and else 0. */
#define BROKEN(flag) BROKEN_1(flag)
#define BROKEN_1(value) BROKEN_2(GIVEN_##value)
#define BROKEN_2(given) BROKEN_3(given 1, 0)
#define BROKEN_3(skipped, value, ...) value
#define GIVEN_1 0,

#define LEASE (TIMEOUT - !BROKEN(R1_NO_MARGIN))  /* ticks that a heartbeat is good for */
#define PLANS (1 + BROKEN(R5_VERSION_NOT_COMPARED))
#define NOBODY 3
#define NAME(r) ((r) > 0)
#define EACH(i, n) i = 0; do :: i < n ->
#define NEXT(i) i++ :: else -> break od; i = 0

mtype = { off, member, leaving, dead };                                          /* what a run is */
mtype = { idle, sent, done };                                           /* where its heartbeat is */
mtype = { nothing, ask, keep, give, evict, depart, take, pin, unpin };  /* what a plan does */

/* The store. */
byte owner[PIN + 1] = NOBODY;      /* the run that the assignment means */
bit asked[PIN + 1];                /* the owner is to hand over */
bit acked[PIN + 1];                /* and has acknowledged this request: a version since which each one has it */
bit pinned;                        /* the pin exists */
byte record[2] = NOBODY;           /* the run registered under each name */
bit left[2];                       /* that run is over, says the record */
bit replaces;                      /* and so is B's other run, says B's record */
byte quiet[2];                     /* ticks since the record changed */
byte missing;                      /* ticks for which the token has had no owner with a record */
bit gone_back;                     /* the store has gone back, and the timeline is not renewed yet */
mtype plan[PLANS] = nothing;       /* on their way to the store */
byte place[PLANS], to[PLANS];      /* what passes to which run */
/* Each run. */
mtype phase[3] = off, beat[3] = idle;
byte lease[3];                     /* ticks left */
bit mine[3];                       /* claims the task while the lease runs */
bit gains[3];                      /* will do so once what it has read is acknowledged */
bit current[3];                    /* has read the present version */
bit knows[3 * (PIN + 1)];          /* has read the request for a place, by its present or an earlier version */
bit old[3];                        /* is of a timeline that is over */
byte age[3];                       /* ticks since its heartbeat was sent */
bit acks[3 * (PIN + 1)], same[3];  /* the heartbeat acknowledges that request; is of the version that the run knows */
byte slack[3];                     /* ticks until the clock may fall behind again */
byte deaths, leaves, deletions, slow_ticks, restores;  /* Of the world. */
byte k, p, was;                    /* Of the loops: always 0 between two steps. */

#define CLAIMS(r) (mine[r] && lease[r] > 0)
#define RECORDED(r) (r != NOBODY && record[NAME(r)] == r)
#define JOINED(r) (RECORDED(r) && !left[NAME(r)])
#ifndef P1
#define P1 (CLAIMS(0) + CLAIMS(1) + CLAIMS(2) <= 1)
#endif
#define AT(r, p) ((r) * (PIN + 1) + (p))
#define CLEAR(bits, r) bits[AT(r, 0)] = 0; bits[AT(r, PIN)] = 0
inline rest(r) { beat[r] = idle; age[r] = 0; CLEAR(acks, r); same[r] = 0 }
inline drop(r) { CLEAR(knows, r); mine[r] = 0; gains[r] = 0; lease[r] = 0; current[r] = 0; old[r] = 0; slack[r] = 0; rest(r) }
inline out(r) { phase[r] = (phase[r] == member -> off : phase[r]) }
#define ACK(r, p) acks[AT(r, p)] = knows[AT(r, p)] && !old[r]
inline forget(s) { plan[s] = nothing; place[s] = 0; to[s] = 0 }

inline forget_request(p) { EACH(k, 3) knows[AT(k, p)] = 0; acks[AT(k, p)] = 0; NEXT(k); acked[p] = acked[p] && BROKEN(R3_EVERY_VERSION_ACKNOWLEDGED) }
inline new_version() {
    EACH(k, 3) current[k] = 0; NEXT(k);
    EACH(p, PIN + 1) if :: !asked[p] -> forget_request(p) :: else fi; NEXT(p);
    if :: !BROKEN(R5_VERSION_NOT_COMPARED) -> forget(0) :: else fi; missing = 0
}

/* A record has changed: its silence begins anew, and no commit evicts its run as it was. */
inline changed(name) {
    quiet[name] = 0; EACH(k, PLANS)
    if :: plan[k] == evict && NAME(owner[place[k]]) == name && !BROKEN(R5_EVICTION_NOT_COMPARED) -> forget(k) :: else fi; NEXT(k)
}

/* --- A store that goes back in time --- */
inline begin() {
    owner[0] = 1; asked[0] = 0; record[0] = (FIRST_RUN -> NOBODY : 0); record[1] = 1; left[0] = 0; left[1] = 0; replaces = 0;
    changed(0); changed(1); new_version()
}

inline go_back() {
    restores < RESTORES && !gone_back -> restores++; begin(); gone_back = !BROKEN(R8_SIGNS_IGNORED);
    EACH(k, 3) old[k] = gone_back && phase[k] == member; NEXT(k)
}
inline renew() {
    gone_back = 0; record[0] = NOBODY; record[1] = NOBODY; left[0] = 0; left[1] = 0; replaces = 0; owner[0] = NOBODY; asked[0] = 0;
    changed(0); changed(1); new_version()
}

/* --- Lease: when a node may answer True --- */
#define GOOD(r) (BROKEN(R1_LEASE_FROM_THE_ANSWER) -> LEASE : LEASE - age[r])
inline send(r) { phase[r] == member && beat[r] == idle -> beat[r] = sent; ACK(r, 0); ACK(r, PIN); same[r] = 1 }

inline arrive(r) {
    beat[r] == sent ->
    if
    :: old[r] && gone_back -> drop(r); out(r); renew()  /* it reads a sign */
    :: old[r] && !gone_back || !JOINED(r) -> drop(r); out(r)  /* refused */
    :: else ->
        EACH(p, PIN + 1) acked[p] = acked[p] || asked[p] && owner[p] == r && acks[AT(r, p)]; NEXT(p);
        beat[r] = done; CLEAR(acks, r); changed(NAME(r)); if :: GOOD(r) == 0 -> rest(r) :: else fi
    fi
}

inline answer(r) {
    beat[r] == done ->
    if :: GOOD(r) > lease[r] -> lease[r] = GOOD(r) :: else fi; if :: GOOD(r) > 0 && same[r] -> mine[r] = gains[r] :: else fi;
    rest(r); assert(P1)
}

/* --- Hand-over: how a token changes hands --- */
#define OWNS(p, r) (owner[p] == r || BROKEN(R5_NAME_OWNS) && owner[p] != NOBODY && NAME(owner[p]) == NAME(r))
#define SHOWN(p, r) (OWNS(p, r) && (!asked[p] || BROKEN(R3_KEEPS_WHAT_IT_GIVES_UP)))
#define GIVEN(r) (pinned && SHOWN(PIN, r) || (!pinned || BROKEN(R7_PINNED_TASKS_BY_HASH)) && SHOWN(0, r))
#define KNOW(r, p) knows[AT(r, p)] = asked[p] && owner[p] == r
inline read(r) {
    phase[r] == member && !old[r] && !gone_back && JOINED(r) && !current[r] ->
    current[r] = 1; KNOW(r, 0); KNOW(r, PIN); same[r] = 0; gains[r] = GIVEN(r); mine[r] = mine[r] && gains[r]
}
#define RELEASED(p) (JOINED(owner[p]) && asked[p] && (acked[p] || BROKEN(R3_NO_ACKNOWLEDGEMENT)))

/* --- Leader and commit --- */
#define SILENT(name) (quiet[name] >= TIMEOUT || BROKEN(R2_BY_THE_CLOCK_OF_THE_STORE))
#define REPLACED(r) (NAME(r) && record[1] != NOBODY && replaces)
#define LOST(r) (r != NOBODY && !RECORDED(r) && (missing >= TIMEOUT || REPLACED(r) || BROKEN(R5_ABSENT_IS_LEFT)))
#define FREE(r) (r == NOBODY && (missing >= TIMEOUT || BROKEN(R8_FIRST_COMMIT_AT_ONCE)))
#define UNUSED (owner[PIN] == owner[0] || RELEASED(PIN) || BROKEN(R7_UNPIN_AT_ONCE))
#define PLAN(s, p, q, what, when) \
    :: d_step { plan[s] == nothing && !gone_back && (p == 0 || pinned) && (when) -> plan[s] = what; place[s] = p; to[s] = q }
#define GIVE(s, p, q) \
    PLAN(s, p, q, give, JOINED(q) && q != owner[p] && (RELEASED(p) || JOINED(owner[p]) && phase[owner[p]] == leaving)) \
    PLAN(s, p, q, evict, JOINED(q) && q != owner[p] && JOINED(owner[p]) && SILENT(NAME(owner[p]))) \
    PLAN(s, p, q, depart, JOINED(q) && RECORDED(owner[p]) && left[NAME(owner[p])]) \
    PLAN(s, p, q, take, JOINED(q) && (LOST(owner[p]) || FREE(owner[p])))
#define DECIDE(s, p) GIVE(s, p, 0) GIVE(s, p, 1) GIVE(s, p, 2) \
    PLAN(s, p, 0, ask, JOINED(owner[p])) PLAN(s, p, 0, keep, JOINED(owner[p]) && asked[p]) \
    :: d_step { commit(s) }

inline commit(s) {
    plan[s] != nothing && !gone_back ->
    if
    :: plan[s] == ask || plan[s] == keep -> asked[place[s]] = (plan[s] == ask)
    :: plan[s] == give || plan[s] == take -> owner[place[s]] = to[s]; asked[place[s]] = 0
    :: plan[s] == evict || plan[s] == depart ->
        was = owner[place[s]]; record[NAME(was)] = NOBODY; left[NAME(was)] = 0; replaces = (NAME(was) -> 0 : replaces);
        EACH(p, PIN + 1) if :: owner[p] == was -> owner[p] = to[s]; asked[p] = 0 :: else fi; NEXT(p);
        changed(NAME(was))
    :: plan[s] == pin -> pinned = 1; owner[PIN] = (BROKEN(R7_FIRST_OWNER) -> 1 - owner[0] : owner[0])
    :: plan[s] == unpin -> pinned = 0; owner[PIN] = NOBODY; asked[PIN] = 0; forget_request(PIN * BROKEN(R3_REQUESTS_OUTLIVE_A_PIN))
    fi;
    forget(s); was = 0; new_version()
}

/* --- Names --- */
#define EMPTY(name) (record[name] == NOBODY || left[name])
#define VACANT(name) (EMPTY(name) || phase[record[name]] == dead || SILENT(name) || BROKEN(R6_TAKES_NAMES_AT_ONCE))
inline join(r) {
    phase[r] == off && !gone_back && record[NAME(r)] != r && VACANT(NAME(r)) ->
    replaces = (NAME(r) -> record[1] != NOBODY : replaces); record[NAME(r)] = r; left[NAME(r)] = 0; phase[r] = member;
    if :: plan[0] == depart && NAME(owner[place[0]]) == NAME(r) || plan[0] == take && owner[place[0]] == r -> forget(0) :: else fi;
    if :: owner[0] == r -> missing = 0 :: else fi;
    changed(NAME(r))
}

/* --- A death that is known --- */
#define OVER(r) (phase[r] == dead || phase[r] == leaving || BROKEN(KNOWN_DEATHS_WITHOUT_PROOF))
#define NAMED(r) (JOINED(r) || BROKEN(KNOWN_DEATHS_OF_NAMES) && record[NAME(r)] != NOBODY)
inline die(r) { deaths < DEATHS && phase[r] == member -> deaths++; drop(r); phase[r] = dead }
#define STILL(claims) (claims && BROKEN(R3_CLAIMS_UNTIL_IT_HAS_LEFT))
inline leave(r) { leaves < LEAVES && phase[r] == member -> leaves++; mine[r] = STILL(mine[r]); gains[r] = 0; phase[r] = leaving }
inline declare(r) { OVER(r) && NAMED(r) && !left[NAME(r)] && !gone_back -> left[NAME(r)] = 1 }
inline delete(n) { deletions < DELETIONS && record[n] != NOBODY -> deletions++; record[n] = NOBODY; left[n] = 0; changed(n) }

/* --- Why no wall clock --- */
inline tick(slow) {
    EACH(k, 3)
        if
        :: k == slow -> slack[k] = TIMEOUT - 1
        :: else ->
            lease[k] = lease[k] - (lease[k] > 0 && !BROKEN(R1_LEASE_NEVER_ENDS));
            age[k] = age[k] + (beat[k] != idle && age[k] < LEASE); slack[k] = slack[k] - (slack[k] > 0);
            if :: beat[k] == done && GOOD(k) == 0 -> rest(k) :: else fi
        fi; NEXT(k);
    EACH(k, 2) quiet[k] = quiet[k] + (record[k] != NOBODY && quiet[k] < TIMEOUT); NEXT(k);
    missing = (RECORDED(owner[0]) -> 0 : missing + (missing < TIMEOUT))
}

#define STEPS(r) :: d_step { send(r) } :: d_step { arrive(r) } :: d_step { answer(r) } :: d_step { beat[r] != idle -> rest(r) } \
    :: d_step { read(r) } :: d_step { join(r) } :: d_step { die(r) } :: d_step { leave(r) } :: d_step { declare(r) } \
    :: d_step { slow_ticks < SLOW_TICKS && phase[r] == member && slack[r] == 0 -> slow_ticks++; tick(r) }

init {
    d_step {
        begin(); phase[0] = (FIRST_RUN -> off : member); phase[1] = member; mine[1] = 1; gains[1] = 1;
        EACH(k, 2) current[k] = (phase[k] == member); lease[k] = (phase[k] == member -> LEASE : 0); NEXT(k)
    }
    do
    STEPS(1) :: d_step { tick(3) } :: d_step { delete(0) } :: d_step { delete(1) } :: d_step { go_back() } DECIDE(0, 0)
#if FIRST_RUN == 0
    STEPS(0)
#endif
#if LAST_RUN == 2
    STEPS(2)
#endif
#if PLANS == 2
    DECIDE(1, 0)
#endif
#if PIN
    DECIDE(0, PIN) PLAN(0, 0, 0, pin, !pinned && RECORDED(owner[0])) PLAN(0, PIN, 0, unpin, UNUSED)
#endif
    od
}
