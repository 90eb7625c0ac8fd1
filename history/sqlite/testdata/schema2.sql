-- A history of schema 2.
CREATE TABLE detailed_history (
	id          INTEGER PRIMARY KEY,
	timestamp   TEXT    NOT NULL,
	ip          TEXT    NOT NULL,
	port        INTEGER NOT NULL,
	local_ip    TEXT    NOT NULL,
	local_port  INTEGER NOT NULL,
	programname TEXT    NOT NULL,
	full_lookup TEXT    NOT NULL,
	asn         INTEGER,
	orgname     TEXT    NOT NULL,
	lat         REAL,
	lon         REAL,
	x           INTEGER,
	y           INTEGER,
	count       INTEGER NOT NULL,
	agent       TEXT    NOT NULL,
	direction   TEXT    NOT NULL,
	protocol    TEXT    NOT NULL,
	exe         TEXT    NOT NULL,
	container   TEXT    NOT NULL,
	country     TEXT    NOT NULL,
	rule        TEXT    NOT NULL,
	opened      TEXT    NOT NULL,
	last_opened TEXT    NOT NULL,
	closed      TEXT,
	tx          INTEGER NOT NULL,
	rx          INTEGER NOT NULL,
	tx_before   INTEGER NOT NULL,
	rx_before   INTEGER NOT NULL,
	place       INTEGER,
	key         INTEGER NOT NULL
);
CREATE UNIQUE INDEX detailed_history_key ON detailed_history (ip, programname, key);
CREATE INDEX detailed_history_timestamp ON detailed_history (timestamp);
CREATE INDEX detailed_history_opened ON detailed_history (opened);
CREATE INDEX detailed_history_place ON detailed_history (place) WHERE place IS NOT NULL;
CREATE TABLE places (
	id    INTEGER PRIMARY KEY,
	lat   REAL    NOT NULL,
	lon   REAL    NOT NULL,
	count INTEGER NOT NULL,
	UNIQUE (lat, lon)
);
CREATE VIRTUAL TABLE places_index USING rtree (id, min_lat, max_lat, min_lon, max_lon);
CREATE TABLE settings (
	name  TEXT PRIMARY KEY,
	value
) WITHOUT ROWID;
CREATE TABLE reports (
	run       BLOB    PRIMARY KEY,
	number    INTEGER NOT NULL,
	timestamp TEXT    NOT NULL
) WITHOUT ROWID;
CREATE TABLE losses (
	timestamp TEXT    NOT NULL,
	agent     TEXT    NOT NULL,
	count     INTEGER NOT NULL,
	PRIMARY KEY (timestamp, agent)
) WITHOUT ROWID;
INSERT INTO detailed_history VALUES (1,'2026-07-01 12:01:00','2001:db8::7',443,'192.0.2.1',40001,'curl','',64500,'Example',52.52,13.405,508,154,1,'laptop','out','tcp','/usr/bin/curl','','DE','HTTPS Out','2026-07-01 12:00:00.000','2026-07-01 12:00:00.000',NULL,100,2000,0,0,1,-2782517853342171250);
INSERT INTO detailed_history VALUES (2,'2026-07-01 12:00:01','203.0.113.9',5353,'192.0.2.2',53,'named','',NULL,'',NULL,NULL,NULL,NULL,1,'nas','in','udp','','','','','2026-07-01 12:00:01.000','2026-07-01 12:00:01.000','2026-07-01 13:00:00.000',5,0,0,0,NULL,-7509136326676111620);
INSERT INTO places VALUES (1,52.52,13.405,1);
INSERT INTO places_index VALUES (1,52.519996643066406,52.520000457763672,13.404999732971191,13.405000686645508);
INSERT INTO settings VALUES ('age',0);
INSERT INTO settings VALUES ('disabled',0);
INSERT INTO settings VALUES ('most_bytes',0);
INSERT INTO settings VALUES ('most_rows',1000);
INSERT INTO settings VALUES ('rows',2);
INSERT INTO reports VALUES (X'01020000000000000000000000000000',9,'2026-07-01 12:00:00');
INSERT INTO losses VALUES ('2026-07-01 12:00:00','nas',7);
PRAGMA application_id = 1668112752;
PRAGMA user_version = 2;
