BEGIN TRANSACTION;
CREATE TABLE sync_audit (
	item VARCHAR NOT NULL, 
	date DATE NOT NULL, 
	node VARCHAR NOT NULL, 
	created_on TEXT NOT NULL, 
	PRIMARY KEY (item, date, node)
);
INSERT INTO "sync_audit" VALUES('p','2026-03-02','a','2026-11-24 23:48:18.951417');
CREATE TABLE sync_claim (
	item VARCHAR NOT NULL, 
	date DATE NOT NULL, 
	node VARCHAR NOT NULL, 
	created_on TEXT NOT NULL, 
	PRIMARY KEY (item, date, node)
);
INSERT INTO "sync_claim" VALUES('p','2026-03-02','a','2026-11-24 23:48:18.920927');
INSERT INTO "sync_claim" VALUES('x','2026-03-02','a','2026-11-24 23:48:18.920927');
CREATE TABLE sync_lock (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	token_id BIGINT, 
	task_id VARCHAR NOT NULL, 
	node_pattern VARCHAR NOT NULL, 
	patterns TEXT, 
	reason VARCHAR, 
	created_by VARCHAR DEFAULT '' NOT NULL, 
	created_at TEXT, 
	expires_at TEXT, 
	registered BIGINT DEFAULT '0' NOT NULL, 
	UNIQUE (task_id), 
	CHECK (created_at IS NULL OR (created_at LIKE '____-__-__%' AND datetime(created_at) IS NOT NULL)), 
	CHECK (expires_at IS NULL OR (expires_at LIKE '____-__-__%' AND datetime(expires_at) IS NOT NULL)), 
	CHECK (patterns IS NULL OR (json_valid(patterns) AND json_type(patterns) = 'array'))
);
INSERT INTO "sync_lock" VALUES(1,25,'p','a','["a", "b"]','why','me','2026-11-24 23:48:18.700971',NULL,4);
INSERT INTO "sync_lock" VALUES(2,26,'q','a','["a", "b"]','why','me','2026-11-24 23:48:18.728274',NULL,5);
INSERT INTO "sync_lock" VALUES(3,27,'r','a','["a", "b"]','why','me','2026-11-24 23:48:18.741637',NULL,6);
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
INSERT INTO "sync_node" VALUES('a','2026-11-24 23:48:18.647814','2026-11-24 23:48:18.647814','joined','run-a',2,0,0,'[]','[]',1.0,15.0,'',0);
INSERT INTO "sync_node" VALUES('b','2026-11-24 23:48:18.688977','2026-11-24 23:48:18.688977','joined','run-b',0,0,0,'[]','[]',1.0,15.0,'',0);
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
INSERT INTO "sync_rebalance" VALUES(1,'2026-11-24 23:48:18.785268','test','a',0,0,20,0);
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
	writer INTEGER NOT NULL, 
	builds_on TEXT NOT NULL, 
	members TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "sync_state" VALUES(1,1,24,'xxh3',1,0,'303f700df2c4444ca30761925e9173b1','65024:11174093',10,15432679248718626,10,15432679248718626,1,'a','run-a','2026-11-24 23:48:18.688977',8,0,'[[0, 0], [9, 3530889315944334212], [10, 15432679248718626]]','{"a": ["run-a", 15.0, 0], "b": ["run-b", 15.0, 0]}');
CREATE TABLE sync_token (
	token_id INTEGER NOT NULL, 
	node VARCHAR, 
	target VARCHAR, 
	home VARCHAR, 
	version BIGINT DEFAULT '0' NOT NULL, 
	changed BIGINT DEFAULT '0' NOT NULL, 
	task_id VARCHAR, 
	pattern VARCHAR, 
	PRIMARY KEY (token_id)
);
INSERT INTO "sync_token" VALUES(0,'a','b',NULL,9,10,NULL,NULL);
INSERT INTO "sync_token" VALUES(1,'a','b',NULL,9,10,NULL,NULL);
INSERT INTO "sync_token" VALUES(2,'a',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(3,'a',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(4,'a',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(5,'a',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(6,'a',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(7,'a',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(8,'a',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(9,'a',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(10,'b',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(11,'b',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(12,'b',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(13,'b',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(14,'b',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(15,'b',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(16,'b',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(17,'b',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(18,'b',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(19,'b',NULL,NULL,9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(20,NULL,NULL,'b',9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(21,NULL,NULL,'b',9,9,NULL,NULL);
INSERT INTO "sync_token" VALUES(25,'a',NULL,NULL,9,9,'p','a');
INSERT INTO "sync_token" VALUES(26,NULL,NULL,NULL,9,9,'q',NULL);
INSERT INTO "sync_token" VALUES(27,NULL,'b',NULL,9,9,'r',NULL);
CREATE INDEX sync_token_by_changed ON sync_token (changed);
CREATE INDEX sync_claim_by_time ON sync_claim (created_on);
CREATE INDEX sync_claim_by_date ON sync_claim (date);
CREATE INDEX sync_audit_by_time ON sync_audit (created_on);
CREATE INDEX sync_audit_by_date ON sync_audit (date);
CREATE TRIGGER sync_node_inserted AFTER INSERT ON sync_node WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; END;
CREATE TRIGGER sync_node_deleted AFTER DELETE ON sync_node WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; END;
CREATE TRIGGER sync_node_updated AFTER UPDATE OF name, created_on, state, incarnation, replaces, weight, timeout_sec ON sync_node WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; END;
CREATE TRIGGER sync_token_inserted AFTER INSERT ON sync_token WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; UPDATE sync_state SET version = revision, version_stamp = stamp, builds_on = '[]'; UPDATE sync_token SET version = (SELECT revision FROM sync_state) WHERE token_id = NEW.token_id; END;
CREATE TRIGGER sync_token_deleted AFTER DELETE ON sync_token WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; UPDATE sync_state SET version = revision, version_stamp = stamp, builds_on = '[]'; END;
CREATE TRIGGER sync_token_updated AFTER UPDATE ON sync_token WHEN NEW.changed = OLD.changed AND (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; UPDATE sync_state SET version = revision, version_stamp = stamp, builds_on = '[]'; UPDATE sync_token SET version = (SELECT revision FROM sync_state) WHERE token_id = NEW.token_id AND NEW.node IS NOT OLD.node; END;
CREATE TRIGGER sync_token_kept BEFORE DELETE ON sync_token WHEN OLD.task_id IS NOT NULL AND (SELECT writer FROM sync_state) = 0 BEGIN SELECT raise(IGNORE); END;
CREATE TRIGGER sync_token_still_kept BEFORE UPDATE OF token_id, task_id ON sync_token WHEN OLD.task_id IS NOT NULL AND (SELECT writer FROM sync_state) = 0 BEGIN SELECT raise(IGNORE); END;
CREATE TRIGGER sync_lock_inserted AFTER INSERT ON sync_lock WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; UPDATE sync_state SET locks_revision = revision; 
    UPDATE sync_lock SET
        token_id = NEW.id + (SELECT total_tokens FROM sync_state),
        patterns = coalesce(patterns, json_array(node_pattern)),
        created_at = coalesce(created_at, strftime('%Y-%m-%d %H:%M:%f000', 'now'))
    WHERE id = NEW.id; END;
CREATE TRIGGER sync_lock_deleted AFTER DELETE ON sync_lock WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; UPDATE sync_state SET locks_revision = revision; END;
CREATE TRIGGER sync_lock_updated AFTER UPDATE OF id, token_id, task_id, node_pattern, patterns, reason, created_by, expires_at ON sync_lock WHEN (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_state SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1; UPDATE sync_state SET locks_revision = revision; END;
CREATE TRIGGER sync_lock_repatterned AFTER UPDATE OF node_pattern ON sync_lock WHEN NEW.patterns IS OLD.patterns AND NEW.node_pattern <> OLD.node_pattern AND (SELECT writer FROM sync_state) = 0 BEGIN UPDATE sync_lock SET patterns = json_array(NEW.node_pattern) WHERE id = NEW.id; END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('sync_lock',4);
INSERT INTO "sqlite_sequence" VALUES('sync_rebalance',1);
COMMIT;
