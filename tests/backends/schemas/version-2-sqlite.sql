BEGIN TRANSACTION;
CREATE TABLE sync_audit (
	item VARCHAR NOT NULL, 
	date DATE NOT NULL, 
	node VARCHAR NOT NULL, 
	created_on TEXT NOT NULL, 
	PRIMARY KEY (item, date, node)
);
INSERT INTO "sync_audit" VALUES('p','2026-03-02','a','2026-11-25 21:38:34.080675');
CREATE TABLE sync_change (
	revision BIGINT NOT NULL, 
	owner VARCHAR, 
	target VARCHAR, 
	home VARCHAR, 
	version BIGINT NOT NULL, 
	size BIGINT NOT NULL, 
	numbers TEXT NOT NULL, 
	members TEXT
);
INSERT INTO "sync_change" VALUES(6,NULL,NULL,NULL,6,0,'','{"a": ["inc-a", 15.0, 0], "b": ["inc-b", 15.0, 0]}');
INSERT INTO "sync_change" VALUES(7,'a',NULL,'b',6,1,'9',NULL);
CREATE TABLE sync_claim (
	item VARCHAR NOT NULL, 
	date DATE NOT NULL, 
	node VARCHAR NOT NULL, 
	created_on TEXT NOT NULL, 
	PRIMARY KEY (item, date, node)
);
INSERT INTO "sync_claim" VALUES('p','2026-03-02','a','2026-11-25 21:38:34.078605');
INSERT INTO "sync_claim" VALUES('x','2026-03-02','a','2026-11-25 21:38:34.078605');
CREATE TABLE sync_lock (
	id INTEGER NOT NULL, 
	token_id BIGINT, 
	task_id VARCHAR NOT NULL, 
	node_pattern VARCHAR NOT NULL, 
	patterns TEXT, 
	reason VARCHAR, 
	created_by VARCHAR DEFAULT '' NOT NULL, 
	created_at TEXT, 
	expires_at TEXT, 
	registered BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (task_id), 
	CHECK (created_at IS NULL OR (created_at LIKE '____-__-__%' AND datetime(created_at) IS NOT NULL)), 
	CHECK (expires_at IS NULL OR (expires_at LIKE '____-__-__%' AND datetime(expires_at) IS NOT NULL)), 
	CHECK (patterns IS NULL OR (json_valid(patterns) AND json_type(patterns) = 'array'))
);
INSERT INTO "sync_lock" VALUES(1,25,'p','a','["a", "other%"]',NULL,'a','2026-11-25 21:38:34.008718',NULL,4);
INSERT INTO "sync_lock" VALUES(2,26,'q','none','["none", "other%"]',NULL,'a','2026-11-25 21:38:34.008718',NULL,4);
INSERT INTO "sync_lock" VALUES(3,27,'r','b','["b", "other%"]',NULL,'a','2026-11-25 21:38:34.008718',NULL,4);
CREATE TABLE sync_node (
	name VARCHAR NOT NULL, 
	created_on TEXT NOT NULL, 
	last_heartbeat TEXT, 
	state VARCHAR NOT NULL, 
	incarnation VARCHAR NOT NULL, 
	heartbeat BIGINT NOT NULL, 
	seen BIGINT NOT NULL, 
	seen_stamp BIGINT NOT NULL, 
	holding TEXT NOT NULL, 
	replaces TEXT NOT NULL, 
	weight FLOAT NOT NULL, 
	timeout_sec FLOAT NOT NULL, 
	host VARCHAR NOT NULL, 
	pid BIGINT NOT NULL, 
	PRIMARY KEY (name), 
	CHECK (state IN ('joined', 'left')), 
	CHECK (created_on IS NULL OR (created_on LIKE '____-__-__%' AND datetime(created_on) IS NOT NULL)), 
	CHECK (last_heartbeat IS NULL OR (last_heartbeat LIKE '____-__-__%' AND datetime(last_heartbeat) IS NOT NULL)), 
	CHECK (json_valid(holding) AND json_valid(replaces))
);
INSERT INTO "sync_node" VALUES('a','2026-11-25 21:38:34.003352','2026-11-25 21:38:34.003352','joined','inc-a',2,0,0,'[]','[]',1.0,15.0,'h',1);
INSERT INTO "sync_node" VALUES('b','2026-11-25 21:38:34.005867','2026-11-25 21:38:34.082344','joined','inc-b',1,7,10237689873903645,'[3]','[]',1.0,15.0,'h',1);
CREATE TABLE sync_rebalance (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	triggered_at TEXT NOT NULL, 
	trigger_reason VARCHAR NOT NULL, 
	leader_node VARCHAR NOT NULL, 
	nodes_before BIGINT NOT NULL, 
	nodes_after BIGINT NOT NULL, 
	tokens_moved BIGINT NOT NULL, 
	duration_ms BIGINT NOT NULL
);
INSERT INTO "sync_rebalance" VALUES(1,'2026-11-25 21:38:34.016159','start','a',0,2,21,0);
CREATE TABLE sync_state (
	id INTEGER NOT NULL CHECK (id = 1), 
	schema_version INTEGER NOT NULL, 
	total_tokens BIGINT NOT NULL, 
	hash_function VARCHAR NOT NULL, 
	format INTEGER NOT NULL, 
	generation BIGINT NOT NULL, 
	timeline VARCHAR NOT NULL, 
	store VARCHAR NOT NULL, 
	revision BIGINT NOT NULL, 
	stamp BIGINT NOT NULL, 
	version BIGINT NOT NULL, 
	version_stamp BIGINT NOT NULL, 
	epoch BIGINT NOT NULL, 
	leader VARCHAR, 
	leader_incarnation VARCHAR, 
	last_created TEXT, 
	locks_revision BIGINT NOT NULL, 
	last_lock BIGINT NOT NULL, 
	writer INTEGER NOT NULL, 
	builds_on TEXT NOT NULL, 
	members TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "sync_state" VALUES(1,2,24,'xxh3',1,0,'d5bbc5e5154c4e30a522bd0f6831295a','65024:11182429',7,10237689873903645,7,10237689873903645,1,'a','inc-a','2026-11-25 21:38:34.005867',5,4,0,'[[6, 2890915628517061070], [7, 10237689873903645]]','{"a":["inc-a",15.0,0],"b":["inc-b",15.0,0]}');
CREATE TABLE sync_token (
	token_id INTEGER NOT NULL, 
	node VARCHAR NOT NULL CHECK (node <> ''), 
	target VARCHAR, 
	home VARCHAR, 
	version BIGINT DEFAULT '0' NOT NULL, 
	changed BIGINT DEFAULT '0' NOT NULL, 
	task_id VARCHAR, 
	pattern VARCHAR, 
	PRIMARY KEY (token_id)
);
INSERT INTO "sync_token" VALUES(0,'a','b',NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(1,'a',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(2,'a',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(3,'a',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(4,'a',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(5,'a',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(6,'a',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(7,'a',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(8,'a',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(9,'a',NULL,'b',6,7,NULL,NULL);
INSERT INTO "sync_token" VALUES(10,'b',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(11,'b',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(12,'b',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(13,'b',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(14,'b',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(15,'b',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(16,'b',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(17,'b',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(18,'b',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(19,'b',NULL,NULL,6,6,NULL,NULL);
INSERT INTO "sync_token" VALUES(25,'a',NULL,NULL,6,6,'p','a');
CREATE TABLE sync_unowned (
	token_id INTEGER NOT NULL, 
	target VARCHAR, 
	home VARCHAR, 
	version BIGINT NOT NULL, 
	task_id VARCHAR, 
	pattern VARCHAR, 
	PRIMARY KEY (token_id)
);
INSERT INTO "sync_unowned" VALUES(20,NULL,'b',6,NULL,NULL);
INSERT INTO "sync_unowned" VALUES(21,NULL,'b',6,NULL,NULL);
INSERT INTO "sync_unowned" VALUES(26,NULL,NULL,6,'q',NULL);
INSERT INTO "sync_unowned" VALUES(27,'b',NULL,6,'r',NULL);
CREATE INDEX sync_token_pins ON sync_token (token_id) WHERE task_id IS NOT NULL;
CREATE INDEX sync_claim_by_date ON sync_claim (date);
CREATE INDEX sync_claim_by_time ON sync_claim (created_on);
CREATE INDEX sync_audit_by_date ON sync_audit (date);
CREATE INDEX sync_audit_by_time ON sync_audit (created_on);
CREATE TRIGGER sync_node_inserted AFTER INSERT ON sync_node WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; END;
CREATE TRIGGER sync_node_deleted AFTER DELETE ON sync_node WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; END;
CREATE TRIGGER sync_node_updated AFTER UPDATE OF name, created_on, state, incarnation, replaces, weight, timeout_sec ON sync_node WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; END;
CREATE TRIGGER sync_token_inserted AFTER INSERT ON sync_token WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; UPDATE sync_state SET version = revision, version_stamp = stamp, builds_on = '[]'; UPDATE sync_token SET version = (SELECT revision FROM sync_state) WHERE token_id = NEW.token_id; END;
CREATE TRIGGER sync_token_deleted AFTER DELETE ON sync_token WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; UPDATE sync_state SET version = revision, version_stamp = stamp, builds_on = '[]'; END;
CREATE TRIGGER sync_token_updated AFTER UPDATE ON sync_token WHEN NEW.changed = OLD.changed AND (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; UPDATE sync_state SET version = revision, version_stamp = stamp, builds_on = '[]'; UPDATE sync_token SET version = (SELECT revision FROM sync_state) WHERE token_id = NEW.token_id AND NEW.node IS NOT OLD.node; END;
CREATE TRIGGER sync_token_kept BEFORE DELETE ON sync_token WHEN OLD.task_id IS NOT NULL AND (SELECT writer FROM sync_state) = 0 BEGIN SELECT raise(IGNORE); END;
CREATE TRIGGER sync_token_still_kept BEFORE UPDATE OF token_id, task_id ON sync_token WHEN OLD.task_id IS NOT NULL AND (SELECT writer FROM sync_state) = 0 BEGIN SELECT raise(IGNORE); END;
CREATE TRIGGER sync_token_claimed BEFORE INSERT ON sync_token WHEN (SELECT writer FROM sync_state) = 0 BEGIN 
    SELECT raise(ABORT, 'this token is nobody''s, and only the leader may give it to a node')
    WHERE EXISTS (SELECT 1 FROM sync_unowned WHERE token_id = NEW.token_id); END;
CREATE TRIGGER sync_token_renumbered BEFORE UPDATE OF token_id ON sync_token WHEN (SELECT writer FROM sync_state) = 0 BEGIN 
    SELECT raise(ABORT, 'this token is nobody''s, and only the leader may give it to a node')
    WHERE EXISTS (SELECT 1 FROM sync_unowned WHERE token_id = NEW.token_id); END;
CREATE TRIGGER sync_unowned_inserted BEFORE INSERT ON sync_unowned WHEN (SELECT writer FROM sync_state) = 0 BEGIN SELECT raise(ABORT, 'sync_unowned is for jobsync alone to write'); END;
CREATE TRIGGER sync_unowned_deleted BEFORE DELETE ON sync_unowned WHEN (SELECT writer FROM sync_state) = 0 BEGIN SELECT raise(ABORT, 'sync_unowned is for jobsync alone to write'); END;
CREATE TRIGGER sync_unowned_updated BEFORE UPDATE ON sync_unowned WHEN (SELECT writer FROM sync_state) = 0 BEGIN SELECT raise(ABORT, 'sync_unowned is for jobsync alone to write'); END;
CREATE TRIGGER sync_change_inserted BEFORE INSERT ON sync_change WHEN (SELECT writer FROM sync_state) = 0 BEGIN SELECT raise(ABORT, 'sync_change is for jobsync alone to write'); END;
CREATE TRIGGER sync_change_deleted BEFORE DELETE ON sync_change WHEN (SELECT writer FROM sync_state) = 0 BEGIN SELECT raise(ABORT, 'sync_change is for jobsync alone to write'); END;
CREATE TRIGGER sync_change_updated BEFORE UPDATE ON sync_change WHEN (SELECT writer FROM sync_state) = 0 BEGIN SELECT raise(ABORT, 'sync_change is for jobsync alone to write'); END;
CREATE TRIGGER sync_lock_inserted AFTER INSERT ON sync_lock WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; UPDATE sync_state SET locks_revision = revision; 
    UPDATE sync_state SET last_lock = max(last_lock + 1, NEW.id);
    UPDATE sync_lock SET
        id = (SELECT last_lock FROM sync_state),
        token_id = (SELECT last_lock + total_tokens FROM sync_state),
        patterns = coalesce(patterns, json_array(node_pattern)),
        created_at = coalesce(created_at, strftime('%Y-%m-%d %H:%M:%f000', 'now'))
    WHERE id = NEW.id; END;
CREATE TRIGGER sync_lock_deleted AFTER DELETE ON sync_lock WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; UPDATE sync_state SET locks_revision = revision; END;
CREATE TRIGGER sync_lock_updated AFTER UPDATE OF id, token_id, task_id, node_pattern, patterns, reason, created_by, expires_at ON sync_lock WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; UPDATE sync_state SET locks_revision = revision; END;
CREATE TRIGGER sync_lock_repatterned AFTER UPDATE OF node_pattern ON sync_lock WHEN NEW.patterns IS OLD.patterns AND NEW.node_pattern <> OLD.node_pattern AND (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_lock SET patterns = json_array(NEW.node_pattern) WHERE id = NEW.id; END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('sync_rebalance',1);
COMMIT;
