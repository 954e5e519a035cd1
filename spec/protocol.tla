------------------------------ MODULE protocol ------------------------------
(* How jobsync keeps one owner for each task, in the small, for readers.       *)
(* One task; its hash token and its pin; names, each of which several runs may *)
(* have; one store. The titles between dashes are those of docs/protocol.md.   *)
(* protocol.pml is the same for SPIN, which checks it and needs each rule.     *)
(* docs/contribute/specification.md says what both leave out.                  *)
EXTENDS Naturals, FiniteSets

CONSTANTS Runs, Names, \* every incarnation there will ever be; the names of nodes
          NameOf,      \* [Runs -> Names]
          None,        \* no run, no name, no call, no plan
          Timeout,     \* ticks of silence after which a run may be taken for dead
          Lease        \* ticks that a heartbeat is good for: Timeout less the margin

ASSUME Lease < Timeout
Places == {"hash", "pin"}   \* what the task may be owned by

VARIABLES
  \* The records of the store. Each action below changes them at once, as a store does.
  record,     \* [Names -> Runs \cup {None}]: the run that is registered
  left,       \* SUBSET Runs: those of which the record says that they are over
  beats,      \* [Runs -> Nat]: the counter of heartbeats
  seen,       \* [Runs -> Nat]: the version that the run has acknowledged
  over,       \* [Runs -> SUBSET Runs]: the runs that its record declares over
  owner,      \* [Places -> Names \cup {None}]
  target,     \* [Places -> Names \cup {None}]: to which the owner is to hand over
  asked,      \* [Places -> Nat]: the version since which each one has requested that of the owner
  meant,      \* [Names -> Runs \cup {None}]: the run that a name means as an owner
  pinned,     \* BOOLEAN: the pin exists
  version,    \* Nat: rises with each commit
  leader,     \* Runs \cup {None}
  epoch,      \* Nat: rises with each leader
  timeline,   \* Nat: the history that the records belong to
  history,    \* Nat: the history that the store is in
  \* Each run.
  clock,      \* [Runs -> Nat]: its own clock, in ticks
  until,      \* [Runs -> Nat]: the end of its lease, by that clock
  mine,       \* [Runs -> BOOLEAN]: it claims the task while its lease runs
  gains,      \* [Runs -> BOOLEAN]: it will, once it has acknowledged what it has read
  known,      \* [Runs -> Nat]: the version it has read
  lives,      \* [Runs -> Nat]: the timeline it is registered in; 0: not yet in any, or not any more
  dead,       \* SUBSET Runs: those whose process has ended
  call,       \* [Runs -> heartbeat under way, or None]
  read,       \* [Runs -> [Names -> what it last read of a record, and since when it reads so]]
  absent,     \* [Runs -> Nat \cup {None}]: since when it reads that the owner has no record
  plan        \* [Runs -> commit under way, or None]

nodes == <<record, left, beats, seen, over>>
assignment == <<owner, target, asked, meant, pinned, version>>
term == <<leader, epoch>>  past == <<timeline, history>>
lease == <<until, mine, gains, known>>  life == <<lives, dead>>  eyes == <<read, absent>>
vars == <<nodes, assignment, term, past, lease, life, eyes, clock, call, plan>>

Recorded(r) == r # None /\ record[NameOf[r]] = r  Joined(r) == Recorded(r) /\ r \notin left
Member(r) == Joined(r) /\ lives[r] = timeline /\ history = timeline /\ r \notin dead
HasLease(r) == clock[r] < until[r]  Claims(r) == mine[r] /\ HasLease(r) /\ r \notin dead

(* P1. A process that is stopped counts: it may stand between the answer and the work.  *)
OneOwner == \A r, s \in Runs : Claims(r) /\ Claims(s) => r = s

---- (* Lease: when a node may answer True *) ----
(* R1. A lease is counted from before the heartbeat is sent.                            *)
Send(r) ==
  /\ call[r] = None /\ lives[r] # 0 /\ r \notin dead
  /\ call' = [call EXCEPT ![r] = [sent |-> clock[r], version |-> known[r], reply |-> "none"]]
  /\ UNCHANGED <<nodes, assignment, term, past, lease, life, eyes, clock, plan>>

Arrive(r) ==
  /\ call[r] # None /\ call[r].reply = "none"
  /\ IF Joined(r) /\ lives[r] = timeline
     THEN /\ beats' = [beats EXCEPT ![r] = @ + 1]
          /\ seen' = [seen EXCEPT ![r] = call[r].version]
          /\ call' = [call EXCEPT ![r].reply = IF history = timeline THEN "done" ELSE "sign"]
     ELSE call' = [call EXCEPT ![r].reply = "evicted"] /\ UNCHANGED <<beats, seen>>
  /\ UNCHANGED <<record, left, over, assignment, term, past, lease, life, eyes, clock, plan>>

(* R3. Gain after the acknowledgement of the version that gives.                        *)
Answer(r) ==
  /\ call[r] # None /\ call[r].reply = "done"
  /\ IF clock[r] < call[r].sent + Lease
     THEN /\ until' = [until EXCEPT ![r] = IF @ > call[r].sent + Lease THEN @ ELSE call[r].sent + Lease]
          /\ mine' = [mine EXCEPT ![r] = IF call[r].version = known[r] THEN gains[r] ELSE @]
     ELSE UNCHANGED <<until, mine>>
  /\ call' = [call EXCEPT ![r] = None]
  /\ UNCHANGED <<nodes, assignment, term, past, gains, known, life, eyes, clock, plan>>

Drop(r) ==
  /\ until' = [until EXCEPT ![r] = 0] /\ mine' = [mine EXCEPT ![r] = FALSE] /\ gains' = [gains EXCEPT ![r] = FALSE]
  /\ known' = [known EXCEPT ![r] = 0] /\ lives' = [lives EXCEPT ![r] = 0] /\ absent' = [absent EXCEPT ![r] = None]
  /\ call' = [call EXCEPT ![r] = None] /\ plan' = [plan EXCEPT ![r] = None]

Evicted(r) ==
  /\ call[r] # None /\ call[r].reply = "evicted" /\ Drop(r)
  /\ UNCHANGED <<nodes, assignment, term, past, dead, read, clock>>

---- (* Hand-over: how a token changes hands *) ----
(* R3. Lose when a version is read. R5: a name owns for the run that it means.          *)
Shows(p, r) == owner[p] = NameOf[r] /\ meant[NameOf[r]] = r /\ target[p] = None

Read(r) ==
  /\ Member(r) /\ known[r] # version
  /\ LET has == IF pinned THEN Shows("pin", r) ELSE Shows("hash", r)   \* R7
     IN gains' = [gains EXCEPT ![r] = has] /\ mine' = [mine EXCEPT ![r] = @ /\ has]
  /\ known' = [known EXCEPT ![r] = version]
  /\ UNCHANGED <<nodes, assignment, term, past, until, life, eyes, clock, call, plan>>

Released(p) == owner[p] # None /\ target[p] # None /\ Joined(meant[owner[p]]) /\ seen[meant[owner[p]]] >= asked[p]

(* R3. A run that leaves lets go first; a leader then gives what it owns away, and leaves. *)
LetGo(r) == Member(r) /\ mine' = [mine EXCEPT ![r] = FALSE] /\ gains' = [gains EXCEPT ![r] = FALSE]
  /\ UNCHANGED <<nodes, assignment, term, past, until, known, life, eyes, clock, call, plan>>

Leave(r) == Member(r) /\ ~mine[r] /\ ~gains[r] /\ left' = left \cup {r}
  /\ UNCHANGED <<record, beats, seen, over, assignment, term, past, lease, life, eyes, clock, call, plan>>

---- (* Leader and commit *) ----
(* R2. Silence is counted from the first reading of a heartbeat, on the reader's clock. *)
Beat(n) == IF record[n] = None THEN <<None, 0>> ELSE <<record[n], beats[record[n]]>>

Look(r, n) ==
  /\ lives[r] \in {0, timeline} /\ history = timeline /\ r \notin dead /\ read[r][n].beat # Beat(n)
  /\ read' = [read EXCEPT ![r][n] = [beat |-> Beat(n), since |-> clock[r]]]
  /\ UNCHANGED <<nodes, assignment, term, past, lease, life, absent, clock, call, plan>>

Silent(r, n) == record[n] # None /\ read[r][n].beat = Beat(n) /\ clock[r] >= read[r][n].since + Timeout

(* R4. A term is taken by comparing the epoch. Which run is to lead is left out.        *)
Lead(r) ==
  /\ Member(r) /\ HasLease(r) /\ leader # r
  /\ leader' = r /\ epoch' = epoch + 1 /\ absent' = [absent EXCEPT ![r] = None]
  /\ UNCHANGED <<nodes, assignment, past, lease, life, read, clock, call, plan>>

(* R5. Absent is not left: the wait begins when the leader reads that the owner has no   *)
(* record. R8: the first commit of a timeline waits as long.                             *)
Unseen(p) == owner[p] # None /\ ~Recorded(meant[owner[p]])  First == meant = [n \in Names |-> None]

Notice(r) ==
  /\ Member(r) /\ leader = r /\ absent[r] = None /\ (First \/ \E p \in Places : Unseen(p))
  /\ absent' = [absent EXCEPT ![r] = clock[r]]
  /\ UNCHANGED <<nodes, assignment, term, past, lease, life, read, clock, call, plan>>

Waited(r) == absent[r] # None /\ clock[r] >= absent[r] + Timeout
Replaced(p) == record[owner[p]] # None /\ meant[owner[p]] \in over[record[owner[p]]]

(* What may be planned of place p for name n. Nothing of it holds before the commit.     *)
May(r, what, p, n) ==
  \/ what = "ask" /\ owner[p] # None /\ Joined(meant[owner[p]]) /\ target[p] = None /\ n # owner[p]
  \/ what = "keep" /\ owner[p] # None /\ Joined(meant[owner[p]]) /\ target[p] # None
  \/ what = "give" /\ Released(p) /\ n = target[p] /\ record[n] # None
  \/ what = "give" /\ Shows(p, r) /\ ~mine[r] /\ ~gains[r] /\ n # owner[p] /\ record[n] # None
  \/ what = "evict" /\ owner[p] # None /\ Joined(meant[owner[p]]) /\ Silent(r, owner[p]) /\ n # owner[p] /\ record[n] # None
  \/ what = "remove" /\ owner[p] # None /\ Recorded(meant[owner[p]]) /\ meant[owner[p]] \in left /\ n # owner[p] /\ record[n] # None
  \/ what = "take" /\ Unseen(p) /\ (Waited(r) \/ Replaced(p)) /\ record[n] # None
  \/ what = "take" /\ p = "hash" /\ First /\ Waited(r) /\ record[n] # None
  \/ what = "pin" /\ p = "pin" /\ ~pinned /\ owner["hash"] # None
  \/ what = "unpin" /\ p = "pin" /\ pinned /\ (owner["pin"] = owner["hash"] \/ Released("pin"))

Decide(r) ==
  /\ Member(r) /\ leader = r /\ HasLease(r) /\ known[r] = version /\ plan[r] = None
  /\ \E what \in {"ask", "keep", "give", "evict", "remove", "take", "pin", "unpin"}, p \in Places, n \in Names :
       /\ (p = "hash" \/ pinned \/ what = "pin") /\ May(r, what, p, n)
       /\ plan' = [plan EXCEPT ![r] =
            [what |-> what, place |-> p, name |-> n, run |-> record[n], version |-> version, epoch |-> epoch,
             timeline |-> timeline, beat |-> IF what \in {"evict", "remove"} THEN Beat(owner[p]) ELSE <<None, 0>>]]
  /\ UNCHANGED <<nodes, assignment, term, past, lease, life, eyes, clock, call>>

(* R5. All or nothing, if timeline, epoch, version and the heartbeat are what they were. *)
Holds(r, c) ==
  /\ Joined(r) /\ leader = r /\ epoch = c.epoch /\ version = c.version /\ timeline = c.timeline /\ history = timeline
  /\ c.what \in {"evict", "remove"} => Beat(owner[c.place]) = c.beat
  /\ c.what = "take" /\ ~First => Unseen(c.place)

Commit(r) ==
  /\ plan[r] # None
  /\ LET c == plan[r]
         from == IF c.what \in {"evict", "remove"} THEN owner[c.place] ELSE None
         moves == {p \in Places : (c.what \in {"give", "take"} /\ p = c.place) \/ (from # None /\ owner[p] = from)}
     IN IF Holds(r, c)
        THEN /\ version' = version + 1
             /\ pinned' = (c.what = "pin" \/ (pinned /\ c.what # "unpin"))
             /\ owner' = [p \in Places |-> IF p \in moves THEN c.name
                                           ELSE IF p = "pin" /\ c.what = "pin" THEN owner["hash"]   \* R7: the first owner
                                           ELSE IF p = "pin" /\ c.what = "unpin" THEN None ELSE owner[p]]
             /\ target' = [p \in Places |-> IF c.what = "ask" /\ p = c.place THEN c.name
                                            ELSE IF p \in moves \/ p = c.place THEN None ELSE target[p]]
             /\ asked' = [p \in Places |-> IF target[p] = None \/ target'[p] = None \/ (p = "hash" /\ c.what = "unpin") THEN version + 1 ELSE asked[p]]
             /\ meant' = IF moves = {} THEN meant ELSE [meant EXCEPT ![c.name] = c.run]
             /\ record' = IF from = None THEN record ELSE [record EXCEPT ![from] = None] /\ absent' = [q \in Runs |-> None]
        ELSE UNCHANGED <<version, pinned, owner, target, asked, meant, record, absent>>
  /\ plan' = [plan EXCEPT ![r] = None]
  /\ UNCHANGED <<left, beats, seen, over, term, past, lease, life, read, clock, call>>

---- (* Names *) ----
(* R6. A free name is taken; a registered one only after a timeout of silence, or if its *)
(* run is known to be over. A run registers once; its process goes on as another run.    *)
Join(r) ==
  /\ lives[r] = 0 /\ beats[r] = 0 /\ r \notin dead /\ history = timeline
  /\ LET there == record[NameOf[r]] IN
       /\ there # r /\ (there = None \/ there \in left \/ there \in dead \/ Silent(r, NameOf[r]))
       /\ over' = [over EXCEPT ![r] = IF there = None THEN {} ELSE over[there] \cup {there}]
  /\ record' = [record EXCEPT ![NameOf[r]] = r] /\ lives' = [lives EXCEPT ![r] = timeline]
  /\ UNCHANGED <<left, beats, seen, assignment, term, past, lease, dead, eyes, clock, call, plan>>

---- (* A death that is known *) ----
Die(r) == dead' = dead \cup {r} /\ UNCHANGED <<nodes, assignment, term, past, lease, lives, eyes, clock, call, plan>>

(* The proof is of an incarnation, never of a name. Another run declares it in the store. *)
Declare(r) ==
  /\ r \in dead /\ Joined(r) /\ history = timeline /\ left' = left \cup {r}
  /\ UNCHANGED <<record, beats, seen, over, assignment, term, past, lease, life, eyes, clock, call, plan>>

---- (* A store that goes back in time *) ----
(* R8. A run that reads a sign begins a timeline without records, if none has done so.   *)
Renew(r) ==
  /\ call[r] # None /\ call[r].reply = "sign" /\ r \notin dead /\ Drop(r)
  /\ IF history = timeline
     THEN UNCHANGED <<record, owner, target, asked, meant, pinned, version, leader, timeline>>
     ELSE /\ timeline' = history /\ record' = [n \in Names |-> None] /\ leader' = None /\ version' = version + 1
          /\ owner' = [p \in Places |-> None] /\ target' = owner' /\ asked' = asked /\ meant' = [n \in Names |-> None] /\ pinned' = FALSE
  /\ UNCHANGED <<left, beats, seen, over, epoch, history, dead, read, clock>>

GoBack == (* The records are older ones; as none of them counts any more, they are left as they were. *)
  /\ history = timeline /\ history' = history + 1
  /\ UNCHANGED <<nodes, assignment, term, timeline, lease, life, eyes, clock, call, plan>>

---- (* What is assumed *) ----
(* A pause is a run that does nothing; a lost call is one that stays under way.           *)
Drift == \A r, s \in Runs : clock'[r] <= clock'[s] + Timeout - Lease
Tick ==
  /\ \E slow \in SUBSET Runs : clock' = [r \in Runs |-> IF r \in slow THEN clock[r] ELSE clock[r] + 1]
  /\ Drift /\ UNCHANGED <<nodes, assignment, term, past, lease, life, eyes, call, plan>>

Delete(n) == record' = [record EXCEPT ![n] = None]
  /\ UNCHANGED <<left, beats, seen, over, assignment, term, past, lease, life, eyes, clock, call, plan>>

Init == (* Before the first commit. Runs and names are numbers or strings, None is neither. *)
  /\ record = [n \in Names |-> None] /\ left = {} /\ beats = [r \in Runs |-> 0] /\ seen = beats /\ over = [r \in Runs |-> {}]
  /\ owner = [p \in Places |-> None] /\ target = owner /\ asked = [p \in Places |-> 0] /\ meant = record /\ pinned = FALSE /\ version = 1
  /\ leader = None /\ epoch = 0 /\ timeline = 1 /\ history = 1
  /\ clock = beats /\ until = beats /\ known = beats /\ lives = beats /\ dead = {}
  /\ mine = [r \in Runs |-> FALSE] /\ gains = mine /\ call = [r \in Runs |-> None] /\ absent = call /\ plan = call
  /\ read = [r \in Runs |-> [n \in Names |-> [beat |-> <<None, 0>>, since |-> 0]]]

Next ==
  \/ Tick \/ GoBack \/ \E n \in Names : Delete(n)
  \/ \E r \in Runs : Send(r) \/ Arrive(r) \/ Answer(r) \/ Evicted(r) \/ Read(r) \/ LetGo(r) \/ Leave(r) \/ Lead(r) \/ Notice(r)
                     \/ Decide(r) \/ Commit(r) \/ Join(r) \/ Die(r) \/ Declare(r) \/ Renew(r) \/ \E n \in Names : Look(r, n)

Spec == Init /\ [][Next]_vars
=============================================================================
