-- A history of schema 6, as its last version has written it.
CREATE TABLE agents (
	agent  TEXT    PRIMARY KEY,
	rows   INTEGER NOT NULL,
	bytes  INTEGER NOT NULL,
	pruned INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO agents VALUES('nas',1,314,0);
INSERT INTO agents VALUES('pi',1,310,0);
CREATE TABLE detailed_history (
	id          INTEGER PRIMARY KEY,
	timestamp   INTEGER NOT NULL,
	ip          TEXT,
	port        INTEGER,
	local_ip    TEXT,
	local_port  INTEGER,
	programname TEXT,
	full_lookup TEXT,
	asn         TEXT,
	orgname     TEXT,
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
	opened      REAL    NOT NULL,
	last_opened REAL    NOT NULL,
	closed      REAL,
	tx          INTEGER NOT NULL,
	rx          INTEGER NOT NULL,
	tx_before   INTEGER NOT NULL,
	rx_before   INTEGER NOT NULL,
	key         INTEGER NOT NULL
, precision TEXT NOT NULL DEFAULT '');
INSERT INTO detailed_history VALUES(1,1782907260,'198.51.100.7',443,'192.0.2.1',40001,'curl','','AS64496','Example Networks',52.520000000000003127,13.40499999999999936,508,154,1,'nas','out','tcp','/usr/bin/curl','','DE','Web',1782907200.0,1782907200.0,1782907260.0,10,20,0,0,-2545203683191507287,'country');
INSERT INTO detailed_history VALUES(2,1782907260,'2001:db8::7',53,'192.0.2.1',40001,'curl','','AS64496','Example Networks',NULL,NULL,NULL,NULL,1,'pi','out','tcp','/usr/bin/curl','','DE','Web',1782907200.0,1782907200.0,NULL,10,20,0,0,3807224662703850972,'');
CREATE TABLE losses (
	timestamp INTEGER NOT NULL,
	agent     TEXT    NOT NULL,
	count     INTEGER NOT NULL,
	PRIMARY KEY (timestamp, agent)
) WITHOUT ROWID;
INSERT INTO losses VALUES(1782907200,'nas',7);
CREATE TABLE places (
	lat   REAL    NOT NULL,
	lon   REAL    NOT NULL,
	count INTEGER NOT NULL,
	PRIMARY KEY (lat, lon)
) WITHOUT ROWID;
INSERT INTO places VALUES(52.520000000000003127,13.40499999999999936,1);
CREATE TABLE reports (
	run       BLOB    PRIMARY KEY,
	number    INTEGER NOT NULL,
	timestamp INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO reports VALUES(X'01020000000000000000000000000000',9,1782907200);
CREATE TABLE settings (
	name  TEXT PRIMARY KEY,
	value
) WITHOUT ROWID;
INSERT INTO settings VALUES('age',0);
INSERT INTO settings VALUES('disabled',0);
INSERT INTO settings VALUES('most_bytes',0);
INSERT INTO settings VALUES('most_rows',1000);
INSERT INTO settings VALUES('rows',2);
CREATE TABLE unended (
	row    INTEGER NOT NULL,
	opened INTEGER NOT NULL,
	tx     INTEGER NOT NULL,
	rx     INTEGER NOT NULL,
	PRIMARY KEY (row, opened)
) WITHOUT ROWID;
CREATE UNIQUE INDEX detailed_history_key ON detailed_history (ip, programname, key);
CREATE INDEX detailed_history_timestamp ON detailed_history (timestamp);
CREATE INDEX detailed_history_opened ON detailed_history (opened);
CREATE INDEX detailed_history_place ON detailed_history (lat, lon) WHERE lat IS NOT NULL;
CREATE INDEX detailed_history_agent ON detailed_history (agent, timestamp);
CREATE INDEX detailed_history_open ON detailed_history (key) WHERE closed IS NULL;
PRAGMA application_id = 1668112752;
PRAGMA user_version = 6;
