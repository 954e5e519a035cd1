CREATE FUNCTION the_schema.sync_announce() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('jobsync_' || TG_RELID, NEW.revision::text);
    RETURN NULL;
END
$$;
CREATE FUNCTION the_schema.sync_by_hand() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    kind CONSTANT text := TG_ARGV[0];
    here CONSTANT text := TG_RELID || ':' || txid_current();
BEGIN
    IF kind = 'token' AND TG_OP IN ('UPDATE', 'DELETE') THEN
        -- Without its pin's row a task would follow its hash, while the pin's holder may still be busy with it.
        IF OLD.task_id IS NOT NULL AND TG_OP = 'DELETE' THEN
            RETURN NULL;
        END IF;
        IF TG_OP = 'UPDATE' THEN
            IF OLD.task_id IS NOT NULL AND (NEW.token_id, NEW.task_id) IS DISTINCT FROM (OLD.token_id, OLD.task_id) THEN
                RETURN NULL;
            END IF;
        END IF;
    END IF;
    -- The token would be in both tables. With its row here deleted later, it would pass for unowned while a node may hold it.
    IF kind = 'token' AND TG_OP IN ('INSERT', 'UPDATE') THEN
        IF EXISTS (SELECT FROM the_schema.sync_unowned WHERE token_id = NEW.token_id) THEN
            RAISE EXCEPTION 'token % has no owner, and only the leader may give it to a node', NEW.token_id;
        END IF;
    END IF;
    IF coalesce(current_setting('jobsync.noted_' || kind, true), '') <> here THEN
        UPDATE the_schema.sync_state SET revision = revision + 1, stamp = floor(random() * 4611686018427387000)::bigint + 1;
        IF kind = 'token' THEN
            UPDATE the_schema.sync_state SET version = revision, version_stamp = stamp, builds_on = '[]';
        ELSIF kind = 'lock' THEN
            UPDATE the_schema.sync_state SET locks_revision = revision;
        END IF;
        PERFORM set_config('jobsync.noted_' || kind, here, true);
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        RETURN NULL;
    END IF;
    IF kind = 'token' THEN
        IF TG_OP = 'INSERT' THEN
            NEW.version := (SELECT revision FROM the_schema.sync_state);
        ELSIF NEW.node IS DISTINCT FROM OLD.node THEN
            NEW.version := (SELECT revision FROM the_schema.sync_state);
        END IF;
    ELSIF kind = 'lock' THEN
        IF TG_OP = 'INSERT' THEN
            UPDATE the_schema.sync_state SET last_lock = greatest(last_lock + 1, NEW.id) RETURNING last_lock INTO NEW.id;
        END IF;
        NEW.token_id := NEW.id + (SELECT total_tokens FROM the_schema.sync_state);
        NEW.created_at := coalesce(NEW.created_at, clock_timestamp());
        IF TG_OP = 'INSERT' THEN
            NEW.patterns := coalesce(NEW.patterns, json_build_array(NEW.node_pattern)::text);
        ELSIF NEW.patterns IS NOT DISTINCT FROM OLD.patterns AND NEW.node_pattern <> OLD.node_pattern THEN
            NEW.patterns := json_build_array(NEW.node_pattern)::text;
        END IF;
    END IF;
    RETURN NEW;
END
$$;
CREATE FUNCTION the_schema.sync_keep_out() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% is for jobsync alone to write: what may be edited is sync_token, sync_lock and sync_node',
        TG_TABLE_NAME;
END
$$;
CREATE FUNCTION the_schema.sync_keep_pins() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'the rows of pins must stay: use DELETE FROM %, which leaves them', TG_TABLE_NAME;
END
$$;
CREATE FUNCTION the_schema.sync_take_turn() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    -- Our own transactions lock the state first, and rows after it: in another order each would wait for the other.
    PERFORM 1 FROM the_schema.sync_state FOR UPDATE;
    RETURN NULL;
END
$$;
CREATE TABLE the_schema.sync_audit (
    item character varying NOT NULL,
    date date NOT NULL,
    node character varying NOT NULL,
    created_on timestamp with time zone NOT NULL
);
CREATE TABLE the_schema.sync_change (
    revision bigint NOT NULL,
    owner character varying,
    target character varying,
    home character varying,
    version bigint NOT NULL,
    numbers text NOT NULL,
    members text
);
CREATE TABLE the_schema.sync_claim (
    item character varying NOT NULL,
    date date NOT NULL,
    node character varying NOT NULL,
    created_on timestamp with time zone NOT NULL
);
CREATE TABLE the_schema.sync_lock (
    id bigint NOT NULL,
    token_id bigint,
    task_id character varying NOT NULL,
    node_pattern character varying NOT NULL,
    patterns text,
    reason character varying,
    created_by character varying DEFAULT ''::character varying NOT NULL,
    created_at timestamp with time zone,
    expires_at timestamp with time zone,
    registered bigint DEFAULT '0'::bigint NOT NULL,
    CONSTRAINT created_at_is_sound CHECK (((created_at >= '0001-01-02 00:00:00+00'::timestamp with time zone) AND (created_at <= '9999-12-31 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT expires_at_is_sound CHECK ((((expires_at >= '0001-01-02 00:00:00+00'::timestamp with time zone) AND (expires_at <= '9999-12-31 00:00:00+00'::timestamp with time zone)) OR (expires_at = 'infinity'::timestamp with time zone))),
    CONSTRAINT patterns_is_sound CHECK (((patterns ~ '^\s*\[\s*("([^"\\\x01-\x1f]|\\(["\\/bfnrt]|u[0-9a-fA-F]{4}))*"(\s*,\s*"([^"\\\x01-\x1f]|\\(["\\/bfnrt]|u[0-9a-fA-F]{4}))*")*)?\s*\]\s*$'::text) AND (strpos(patterns, '"'::text) > 0)))
);
CREATE TABLE the_schema.sync_node (
    name character varying NOT NULL,
    created_on timestamp with time zone NOT NULL,
    last_heartbeat timestamp with time zone,
    state character varying NOT NULL,
    incarnation character varying NOT NULL,
    heartbeat bigint NOT NULL,
    seen bigint NOT NULL,
    seen_stamp bigint NOT NULL,
    holding text NOT NULL,
    replaces text NOT NULL,
    weight double precision NOT NULL,
    timeout_sec double precision NOT NULL,
    host character varying NOT NULL,
    pid bigint NOT NULL,
    candidate boolean NOT NULL,
    CONSTRAINT created_on_is_sound CHECK (((created_on >= '0001-01-02 00:00:00+00'::timestamp with time zone) AND (created_on <= '9999-12-31 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT holding_is_sound CHECK ((holding ~ '^\[((0|[1-9][0-9]*)(, ?(0|[1-9][0-9]*))*)?\]$'::text)),
    CONSTRAINT last_heartbeat_is_sound CHECK (((last_heartbeat >= '0001-01-02 00:00:00+00'::timestamp with time zone) AND (last_heartbeat <= '9999-12-31 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT replaces_is_sound CHECK ((replaces ~ '^\s*\[\s*("([^"\\\x01-\x1f]|\\(["\\/bfnrt]|u[0-9a-fA-F]{4}))*"(\s*,\s*"([^"\\\x01-\x1f]|\\(["\\/bfnrt]|u[0-9a-fA-F]{4}))*")*)?\s*\]\s*$'::text)),
    CONSTRAINT sync_node_state_check CHECK (((state)::text = ANY (ARRAY[('joined'::character varying)::text, ('left'::character varying)::text]))),
    CONSTRAINT timeout_sec_is_sound CHECK (((timeout_sec > (0)::double precision) AND (timeout_sec <= (604800)::double precision))),
    CONSTRAINT weight_is_sound CHECK (((weight >= (0)::double precision) AND (weight <= (1000000)::double precision)))
);
CREATE TABLE the_schema.sync_rebalance (
    id bigint NOT NULL,
    triggered_at timestamp with time zone NOT NULL,
    trigger_reason character varying NOT NULL,
    leader_node character varying NOT NULL,
    nodes_before bigint NOT NULL,
    nodes_after bigint NOT NULL,
    tokens_moved bigint NOT NULL,
    duration_ms bigint NOT NULL
);
ALTER TABLE the_schema.sync_rebalance ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME the_schema.sync_rebalance_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE the_schema.sync_state (
    id integer NOT NULL,
    schema_version integer NOT NULL,
    total_tokens bigint NOT NULL,
    hash_function character varying NOT NULL,
    format integer NOT NULL,
    generation bigint NOT NULL,
    timeline character varying NOT NULL,
    store character varying NOT NULL,
    revision bigint NOT NULL,
    stamp bigint NOT NULL,
    version bigint NOT NULL,
    version_stamp bigint NOT NULL,
    epoch bigint NOT NULL,
    leader character varying,
    leader_incarnation character varying,
    last_created timestamp with time zone,
    locks_revision bigint NOT NULL,
    last_lock bigint NOT NULL,
    writer integer NOT NULL,
    builds_on text NOT NULL,
    members text NOT NULL,
    longest_timeout_sec double precision NOT NULL,
    CONSTRAINT sync_state_id_check CHECK ((id = 1))
);
CREATE TABLE the_schema.sync_token (
    token_id bigint NOT NULL,
    node character varying NOT NULL,
    target character varying,
    home character varying,
    version bigint DEFAULT '0'::bigint NOT NULL,
    changed bigint DEFAULT '0'::bigint NOT NULL,
    task_id character varying,
    pattern character varying,
    CONSTRAINT sync_token_node_check CHECK (((node)::text <> ''::text))
)
WITH (fillfactor='85');
CREATE TABLE the_schema.sync_unowned (
    token_id bigint NOT NULL,
    target character varying,
    home character varying,
    version bigint NOT NULL,
    task_id character varying,
    pattern character varying
);
INSERT INTO the_schema.sync_audit VALUES ('p', '2026-03-02', 'a', '2026-11-25 21:38:34.909442+00');
INSERT INTO the_schema.sync_change VALUES (6, NULL, NULL, NULL, 6, '', '{"a": ["inc-a", 15.0, 0], "b": ["inc-b", 15.0, 0]}');
INSERT INTO the_schema.sync_change VALUES (7, 'a', NULL, 'b', 6, '9', NULL);
INSERT INTO the_schema.sync_claim VALUES ('p', '2026-03-02', 'a', '2026-11-25 21:38:34.9074+00');
INSERT INTO the_schema.sync_claim VALUES ('x', '2026-03-02', 'a', '2026-11-25 21:38:34.907562+00');
INSERT INTO the_schema.sync_lock VALUES (1, 25, 'p', 'a', '["a", "other%"]', NULL, 'a', '2026-11-25 21:38:34.865792+00', NULL, 4);
INSERT INTO the_schema.sync_lock VALUES (2, 26, 'q', 'none', '["none", "other%"]', NULL, 'a', '2026-11-25 21:38:34.865792+00', NULL, 4);
INSERT INTO the_schema.sync_lock VALUES (3, 27, 'r', 'b', '["b", "other%"]', NULL, 'a', '2026-11-25 21:38:34.865792+00', NULL, 4);
INSERT INTO the_schema.sync_node VALUES ('a', '2026-11-25 21:38:34.853986+00', '2026-11-25 21:38:34.853986+00', 'joined', 'inc-a', 2, 0, 0, '[]', '[]', 1, 15, 'h', 1, true);
INSERT INTO the_schema.sync_node VALUES ('b', '2026-11-25 21:38:34.859202+00', '2026-11-25 21:38:34.913616+00', 'joined', 'inc-b', 1, 7, 4106792451689243041, '[3]', '[]', 1, 15, 'h', 1, true);
INSERT INTO the_schema.sync_rebalance VALUES (1, '2026-11-25 21:38:34.881092+00', 'start', 'a', 0, 2, 21, 0);
INSERT INTO the_schema.sync_state VALUES (1, 3, 24, 'xxh3', 1, 0, '489b008c27ef45b89409eaac77750e41', '7712226732575992080:00000001:5:16497', 7, 4106792451689243041, 7, 4106792451689243041, 1, 'a', 'inc-a', '2026-11-25 21:38:34.859202+00', 5, 4, 0, '[[6, 3934344112137922397], [7, 4106792451689243041]]', '{"a": ["inc-a", 15.0, 0], "b": ["inc-b", 15.0, 0]}', 15);
INSERT INTO the_schema.sync_token VALUES (0, 'a', 'b', NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (1, 'a', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (2, 'a', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (3, 'a', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (4, 'a', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (5, 'a', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (6, 'a', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (7, 'a', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (8, 'a', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (10, 'b', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (11, 'b', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (12, 'b', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (13, 'b', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (14, 'b', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (15, 'b', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (16, 'b', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (17, 'b', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (18, 'b', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (19, 'b', NULL, NULL, 6, 6, NULL, NULL);
INSERT INTO the_schema.sync_token VALUES (25, 'a', NULL, NULL, 6, 6, 'p', 'a');
INSERT INTO the_schema.sync_token VALUES (9, 'a', NULL, 'b', 6, 7, NULL, NULL);
INSERT INTO the_schema.sync_unowned VALUES (20, NULL, 'b', 6, NULL, NULL);
INSERT INTO the_schema.sync_unowned VALUES (21, NULL, 'b', 6, NULL, NULL);
INSERT INTO the_schema.sync_unowned VALUES (26, NULL, NULL, 6, 'q', NULL);
INSERT INTO the_schema.sync_unowned VALUES (27, 'b', NULL, 6, 'r', NULL);
SELECT pg_catalog.setval('the_schema.sync_rebalance_id_seq', 1, false);
ALTER TABLE the_schema.sync_audit
    ADD CONSTRAINT created_on_is_sound CHECK (((created_on >= '0001-01-02 00:00:00+00'::timestamp with time zone) AND (created_on <= '9999-12-31 00:00:00+00'::timestamp with time zone))) NOT VALID;
ALTER TABLE the_schema.sync_claim
    ADD CONSTRAINT created_on_is_sound CHECK (((created_on >= '0001-01-02 00:00:00+00'::timestamp with time zone) AND (created_on <= '9999-12-31 00:00:00+00'::timestamp with time zone))) NOT VALID;
ALTER TABLE the_schema.sync_audit
    ADD CONSTRAINT date_is_sound CHECK (((date >= '0001-01-01'::date) AND (date <= '9999-12-31'::date))) NOT VALID;
ALTER TABLE the_schema.sync_claim
    ADD CONSTRAINT date_is_sound CHECK (((date >= '0001-01-01'::date) AND (date <= '9999-12-31'::date))) NOT VALID;
ALTER TABLE ONLY the_schema.sync_audit
    ADD CONSTRAINT sync_audit_pkey PRIMARY KEY (item, date, node);
ALTER TABLE ONLY the_schema.sync_claim
    ADD CONSTRAINT sync_claim_pkey PRIMARY KEY (item, date, node);
ALTER TABLE ONLY the_schema.sync_lock
    ADD CONSTRAINT sync_lock_pkey PRIMARY KEY (id);
ALTER TABLE ONLY the_schema.sync_lock
    ADD CONSTRAINT sync_lock_task_id_key UNIQUE (task_id);
ALTER TABLE ONLY the_schema.sync_node
    ADD CONSTRAINT sync_node_pkey PRIMARY KEY (name);
ALTER TABLE ONLY the_schema.sync_rebalance
    ADD CONSTRAINT sync_rebalance_pkey PRIMARY KEY (id);
ALTER TABLE ONLY the_schema.sync_state
    ADD CONSTRAINT sync_state_pkey PRIMARY KEY (id);
ALTER TABLE ONLY the_schema.sync_token
    ADD CONSTRAINT sync_token_pkey PRIMARY KEY (token_id);
ALTER TABLE ONLY the_schema.sync_unowned
    ADD CONSTRAINT sync_unowned_pkey PRIMARY KEY (token_id);
ALTER TABLE the_schema.sync_rebalance
    ADD CONSTRAINT triggered_at_is_sound CHECK (((triggered_at >= '0001-01-02 00:00:00+00'::timestamp with time zone) AND (triggered_at <= '9999-12-31 00:00:00+00'::timestamp with time zone))) NOT VALID;
CREATE INDEX sync_audit_by_date ON the_schema.sync_audit USING brin (date);
CREATE INDEX sync_audit_by_time ON the_schema.sync_audit USING brin (created_on);
CREATE INDEX sync_claim_by_date ON the_schema.sync_claim USING brin (date);
CREATE INDEX sync_claim_by_time ON the_schema.sync_claim USING brin (created_on);
CREATE INDEX sync_token_pins ON the_schema.sync_token USING btree (token_id) WHERE (task_id IS NOT NULL);
CREATE TRIGGER sync_change_kept BEFORE INSERT OR DELETE OR UPDATE ON the_schema.sync_change FOR EACH ROW WHEN ((COALESCE(current_setting('jobsync.writer'::text, true), ''::text) <> 'sync_'::text)) EXECUTE FUNCTION the_schema.sync_keep_out();
CREATE TRIGGER sync_change_truncated BEFORE TRUNCATE ON the_schema.sync_change FOR EACH STATEMENT EXECUTE FUNCTION the_schema.sync_keep_out();
CREATE TRIGGER sync_lock_by_hand BEFORE INSERT OR DELETE OR UPDATE ON the_schema.sync_lock FOR EACH ROW WHEN ((COALESCE(current_setting('jobsync.writer'::text, true), ''::text) <> 'sync_'::text)) EXECUTE FUNCTION the_schema.sync_by_hand('lock');
CREATE TRIGGER sync_lock_truncated BEFORE TRUNCATE ON the_schema.sync_lock FOR EACH STATEMENT EXECUTE FUNCTION the_schema.sync_by_hand('lock');
CREATE TRIGGER sync_lock_turn BEFORE INSERT OR DELETE OR UPDATE ON the_schema.sync_lock FOR EACH STATEMENT WHEN ((COALESCE(current_setting('jobsync.writer'::text, true), ''::text) <> 'sync_'::text)) EXECUTE FUNCTION the_schema.sync_take_turn();
CREATE TRIGGER sync_node_by_hand BEFORE INSERT OR DELETE OR UPDATE OF name, created_on, state, incarnation, replaces, weight, timeout_sec ON the_schema.sync_node FOR EACH ROW WHEN ((COALESCE(current_setting('jobsync.writer'::text, true), ''::text) <> 'sync_'::text)) EXECUTE FUNCTION the_schema.sync_by_hand('node');
CREATE TRIGGER sync_node_truncated BEFORE TRUNCATE ON the_schema.sync_node FOR EACH STATEMENT EXECUTE FUNCTION the_schema.sync_by_hand('node');
CREATE TRIGGER sync_node_turn BEFORE INSERT OR DELETE OR UPDATE OF name, created_on, state, incarnation, replaces, weight, timeout_sec ON the_schema.sync_node FOR EACH STATEMENT WHEN ((COALESCE(current_setting('jobsync.writer'::text, true), ''::text) <> 'sync_'::text)) EXECUTE FUNCTION the_schema.sync_take_turn();
CREATE TRIGGER sync_revised AFTER UPDATE OF revision ON the_schema.sync_state FOR EACH ROW WHEN ((old.revision <> new.revision)) EXECUTE FUNCTION the_schema.sync_announce();
CREATE TRIGGER sync_token_by_hand BEFORE INSERT OR DELETE OR UPDATE ON the_schema.sync_token FOR EACH ROW WHEN ((COALESCE(current_setting('jobsync.writer'::text, true), ''::text) <> 'sync_'::text)) EXECUTE FUNCTION the_schema.sync_by_hand('token');
CREATE TRIGGER sync_token_truncated BEFORE TRUNCATE ON the_schema.sync_token FOR EACH STATEMENT EXECUTE FUNCTION the_schema.sync_keep_pins();
CREATE TRIGGER sync_token_turn BEFORE INSERT OR DELETE OR UPDATE ON the_schema.sync_token FOR EACH STATEMENT WHEN ((COALESCE(current_setting('jobsync.writer'::text, true), ''::text) <> 'sync_'::text)) EXECUTE FUNCTION the_schema.sync_take_turn();
CREATE TRIGGER sync_unowned_kept BEFORE INSERT OR DELETE OR UPDATE ON the_schema.sync_unowned FOR EACH ROW WHEN ((COALESCE(current_setting('jobsync.writer'::text, true), ''::text) <> 'sync_'::text)) EXECUTE FUNCTION the_schema.sync_keep_out();
CREATE TRIGGER sync_unowned_truncated BEFORE TRUNCATE ON the_schema.sync_unowned FOR EACH STATEMENT EXECUTE FUNCTION the_schema.sync_keep_out();
