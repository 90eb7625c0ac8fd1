-- A history of schema 3, with two rows that it has taken over of connmapperl.
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
	key         INTEGER NOT NULL
);
INSERT INTO detailed_history VALUES(3,'2024-02-03 04:05:06','192.0.2.1',443,'10.0.0.5',50000,'firefox','a report',64496,'Example',52.52,13.405,508,154,7,'','unknown','','','','','','2024-02-03 04:05:06.000','2024-02-03 04:05:06.000','2024-02-03 04:05:06.000',0,0,0,0,3);
INSERT INTO detailed_history VALUES(4,'2024-02-03 04:05:06','192.0.2.1',443,'10.0.0.5',50000,'firefox','a report',64496,'Example',52.52,13.405,508,154,2,'','unknown','','','','','','2024-02-03 04:05:06.000','2024-02-03 04:05:06.000','2024-02-03 04:05:06.000',0,0,0,0,4);
INSERT INTO detailed_history VALUES(5,'2026-07-01 12:01:00','2001:db8::7',443,'192.0.2.1',40001,'curl','',64500,'Example',52.52,13.405,508,154,1,'laptop','out','tcp','/usr/bin/curl','','DE','HTTPS Out','2026-07-01 12:00:00.250','2026-07-01 12:00:00.250',NULL,100,2000,0,0,-2782517853342171250);
INSERT INTO detailed_history VALUES(6,'2026-07-01 12:00:02','203.0.113.9',5353,'192.0.2.2',53,'named','',NULL,'',NULL,NULL,NULL,NULL,1,'nas','in','udp','','','','','2026-07-01 12:00:01.250','2026-07-01 12:00:01.250','2026-07-01 12:00:03.250',5,0,0,0,-7509136326676111620);
CREATE TABLE places (
	lat   REAL    NOT NULL,
	lon   REAL    NOT NULL,
	count INTEGER NOT NULL,
	PRIMARY KEY (lat, lon)
) WITHOUT ROWID;
INSERT INTO places VALUES(52.52,13.405,10);
CREATE TABLE settings (
	name  TEXT PRIMARY KEY,
	value
) WITHOUT ROWID;
INSERT INTO settings VALUES('age',0);
INSERT INTO settings VALUES('disabled',0);
INSERT INTO settings VALUES('most_bytes',0);
INSERT INTO settings VALUES('most_rows',1000);
INSERT INTO settings VALUES('rows',4);
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
CREATE UNIQUE INDEX detailed_history_key ON detailed_history (ip, programname, key);
CREATE INDEX detailed_history_timestamp ON detailed_history (timestamp);
CREATE INDEX detailed_history_opened ON detailed_history (opened);
CREATE INDEX detailed_history_place ON detailed_history (lat, lon) WHERE lat IS NOT NULL;
INSERT INTO reports VALUES (X'01020000000000000000000000000000',9,'2026-07-01 12:00:00');
INSERT INTO losses VALUES ('2026-07-01 12:00:00','nas',7);
PRAGMA application_id = 1668112752;
PRAGMA user_version = 3;
