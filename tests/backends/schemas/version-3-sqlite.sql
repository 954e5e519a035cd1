BEGIN TRANSACTION;
CREATE TABLE sync_audit (
	item VARCHAR NOT NULL, 
	date TEXT NOT NULL, 
	node VARCHAR NOT NULL, 
	created_on TEXT NOT NULL, 
	PRIMARY KEY (item, date, node), 
	CONSTRAINT date_is_sound CHECK ((date IS date(date) AND date >= '0001-01-01')), 
	CONSTRAINT created_on_is_sound CHECK ((typeof(created_on) = 'text' AND substr(created_on, 1, 10) IS date(substr(created_on, 1, 10)) AND created_on BETWEEN '0001-01-02' AND '9999-12-31' AND datetime(created_on) IS NOT NULL AND substr(created_on, 12, 2) < '24'))
);
INSERT INTO "sync_audit" VALUES('p','2026-03-02','a','2026-11-25 21:38:34.080675');
CREATE TABLE sync_change (
	revision BIGINT NOT NULL, 
	owner VARCHAR, 
	target VARCHAR, 
	home VARCHAR, 
	version BIGINT NOT NULL, 
	numbers TEXT NOT NULL, 
	members TEXT
);
INSERT INTO "sync_change" VALUES(6,NULL,NULL,NULL,6,'','{"a": ["inc-a", 15.0, 0], "b": ["inc-b", 15.0, 0]}');
INSERT INTO "sync_change" VALUES(7,'a',NULL,'b',6,'9',NULL);
CREATE TABLE sync_claim (
	item VARCHAR NOT NULL, 
	date TEXT NOT NULL, 
	node VARCHAR NOT NULL, 
	created_on TEXT NOT NULL, 
	PRIMARY KEY (item, date, node), 
	CONSTRAINT date_is_sound CHECK ((date IS date(date) AND date >= '0001-01-01')), 
	CONSTRAINT created_on_is_sound CHECK ((typeof(created_on) = 'text' AND substr(created_on, 1, 10) IS date(substr(created_on, 1, 10)) AND created_on BETWEEN '0001-01-02' AND '9999-12-31' AND datetime(created_on) IS NOT NULL AND substr(created_on, 12, 2) < '24'))
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
	CONSTRAINT created_at_is_sound CHECK (created_at IS NULL OR (typeof(created_at) = 'text' AND substr(created_at, 1, 10) IS date(substr(created_at, 1, 10)) AND created_at BETWEEN '0001-01-02' AND '9999-12-31' AND datetime(created_at) IS NOT NULL AND substr(created_at, 12, 2) < '24')), 
	CONSTRAINT expires_at_is_sound CHECK (expires_at IS NULL OR (typeof(expires_at) = 'text' AND substr(expires_at, 1, 10) IS date(substr(expires_at, 1, 10)) AND expires_at BETWEEN '0001-01-02' AND '9999-12-31' AND datetime(expires_at) IS NOT NULL AND substr(expires_at, 12, 2) < '24')), 
	CONSTRAINT patterns_is_sound CHECK (patterns IS NULL OR CASE WHEN json_valid(patterns) THEN json_type(patterns) = 'array' AND coalesce(json_type(patterns, '$[0]'), 'text') = 'text' ELSE 0 END AND instr(patterns, '"') > 0), 
	CONSTRAINT task_id_is_sound CHECK (typeof(task_id) = 'text'), 
	CONSTRAINT node_pattern_is_sound CHECK (typeof(node_pattern) = 'text'), 
	CONSTRAINT created_by_is_sound CHECK (typeof(created_by) = 'text'), 
	CONSTRAINT registered_is_sound CHECK (typeof(registered) = 'integer')
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
	candidate BOOLEAN NOT NULL, 
	PRIMARY KEY (name), 
	CHECK (state IN ('joined', 'left')), 
	CONSTRAINT created_on_is_sound CHECK ((typeof(created_on) = 'text' AND substr(created_on, 1, 10) IS date(substr(created_on, 1, 10)) AND created_on BETWEEN '0001-01-02' AND '9999-12-31' AND datetime(created_on) IS NOT NULL AND substr(created_on, 12, 2) < '24')), 
	CONSTRAINT last_heartbeat_is_sound CHECK (last_heartbeat IS NULL OR (typeof(last_heartbeat) = 'text' AND substr(last_heartbeat, 1, 10) IS date(substr(last_heartbeat, 1, 10)) AND last_heartbeat BETWEEN '0001-01-02' AND '9999-12-31' AND datetime(last_heartbeat) IS NOT NULL AND substr(last_heartbeat, 12, 2) < '24')), 
	CONSTRAINT holding_is_sound CHECK ((json_valid(holding) AND holding GLOB '[[]*]' AND substr(holding, 2, length(holding) - 2) NOT GLOB '*[^0-9, ]*')), 
	CONSTRAINT replaces_is_sound CHECK (CASE WHEN json_valid(replaces) THEN json_type(replaces) = 'array' AND coalesce(json_type(replaces, '$[0]'), 'text') = 'text' ELSE 0 END), 
	CONSTRAINT weight_is_sound CHECK ((typeof(weight) IN ('real', 'integer') AND weight >= 0 AND weight <= 1000000)), 
	CONSTRAINT timeout_sec_is_sound CHECK ((typeof(timeout_sec) IN ('real', 'integer') AND timeout_sec > 0 AND timeout_sec <= 604800)), 
	CONSTRAINT name_is_sound CHECK (typeof(name) = 'text'), 
	CONSTRAINT incarnation_is_sound CHECK (typeof(incarnation) = 'text'), 
	CONSTRAINT host_is_sound CHECK (typeof(host) = 'text'), 
	CONSTRAINT heartbeat_is_sound CHECK (typeof(heartbeat) = 'integer'), 
	CONSTRAINT seen_is_sound CHECK (typeof(seen) = 'integer'), 
	CONSTRAINT seen_stamp_is_sound CHECK (typeof(seen_stamp) = 'integer'), 
	CONSTRAINT pid_is_sound CHECK (typeof(pid) = 'integer'), 
	CONSTRAINT candidate_is_sound CHECK (typeof(candidate) = 'integer')
);
INSERT INTO "sync_node" VALUES('a','2026-11-25 21:38:34.003352','2026-11-25 21:38:34.003352','joined','inc-a',2,0,0,'[]','[]',1.0,15.0,'h',1,1);
INSERT INTO "sync_node" VALUES('b','2026-11-25 21:38:34.005867','2026-11-25 21:38:34.082344','joined','inc-b',1,7,10237689873903645,'[3]','[]',1.0,15.0,'h',1,1);
CREATE TABLE sync_rebalance (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	triggered_at TEXT NOT NULL, 
	trigger_reason VARCHAR NOT NULL, 
	leader_node VARCHAR NOT NULL, 
	nodes_before BIGINT NOT NULL, 
	nodes_after BIGINT NOT NULL, 
	tokens_moved BIGINT NOT NULL, 
	duration_ms BIGINT NOT NULL, 
	CONSTRAINT triggered_at_is_sound CHECK ((typeof(triggered_at) = 'text' AND substr(triggered_at, 1, 10) IS date(substr(triggered_at, 1, 10)) AND triggered_at BETWEEN '0001-01-02' AND '9999-12-31' AND datetime(triggered_at) IS NOT NULL AND substr(triggered_at, 12, 2) < '24'))
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
	members TEXT NOT NULL, longest_timeout_sec FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "sync_state" VALUES(1,3,24,'xxh3',1,0,'d5bbc5e5154c4e30a522bd0f6831295a','65024:11182429',7,10237689873903645,7,10237689873903645,1,'a','inc-a','2026-11-25 21:38:34.005867',5,4,0,'[[6, 2890915628517061070], [7, 10237689873903645]]','{"a":["inc-a",15.0,0],"b":["inc-b",15.0,0]}',15.0);
CREATE TABLE sync_token (
	token_id INTEGER NOT NULL, 
	node VARCHAR NOT NULL CHECK (node <> ''), 
	target VARCHAR, 
	home VARCHAR, 
	version BIGINT DEFAULT '0' NOT NULL, 
	changed BIGINT DEFAULT '0' NOT NULL, 
	task_id VARCHAR, 
	pattern VARCHAR, 
	PRIMARY KEY (token_id), 
	CONSTRAINT version_is_sound CHECK (typeof(version) = 'integer'), 
	CONSTRAINT changed_is_sound CHECK (typeof(changed) = 'integer'), 
	CONSTRAINT node_is_sound CHECK (typeof(node) = 'text')
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
    SELECT raise(ABORT, 'this token has no owner, and only the leader may give it to a node')
    WHERE EXISTS (SELECT 1 FROM sync_unowned WHERE token_id = NEW.token_id); END;
CREATE TRIGGER sync_token_renumbered BEFORE UPDATE OF token_id ON sync_token WHEN (SELECT writer FROM sync_state) = 0 BEGIN 
    SELECT raise(ABORT, 'this token has no owner, and only the leader may give it to a node')
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
