-- A history of schema 1, as sqlite3's .dump writes it.
PRAGMA application_id = 0x636d6170;
PRAGMA user_version = 1;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
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
	tx_before   INTEGER NOT NULL DEFAULT 0,
	rx_before   INTEGER NOT NULL DEFAULT 0,
	UNIQUE (ip, programname, port, local_port, protocol, local_ip, agent)
);
INSERT INTO detailed_history VALUES(1,'2026-07-01 12:00:30','198.51.100.7',443,'192.0.2.1',40000,'curl','a report',64496,'Example Networks',NULL,NULL,NULL,NULL,2,'nas','out','tcp','/usr/bin/curl','c0ffee','DE','Other','2026-07-01 12:00:00.000','2026-07-01 12:00:01.000','2026-07-01 12:00:30.000',200,2000,100,1000);
INSERT INTO detailed_history VALUES(2,'2026-07-01 12:01:30','2001:db8::7',443,'192.0.2.1',40001,'curl','a report',64496,'Example Networks',52.520000000000003127,13.40499999999999936,508,154,1,'laptop','out','tcp','/usr/bin/curl','','DE','Other','2026-07-01 12:01:00.000','2026-07-01 12:01:00.000',NULL,100,1000,0,0);
INSERT INTO detailed_history VALUES(3,'2026-07-01 12:02:30','198.51.100.7',443,'192.0.2.1',40002,'curl','a report',64496,'Example Networks',52.520000000000003127,13.40499999999999936,508,154,1,'nas','out','tcp','/usr/bin/curl','','DE','Other','2026-07-01 12:02:00.000','2026-07-01 12:02:00.000',NULL,100,1000,0,0);
INSERT INTO detailed_history VALUES(4,'2026-07-01 12:03:30','2001:db8::7',443,'192.0.2.1',40003,'curl','a report',64496,'Example Networks',NULL,NULL,NULL,NULL,1,'laptop','out','tcp','/usr/bin/curl','','DE','Other','2026-07-01 12:03:00.000','2026-07-01 12:03:00.000',NULL,100,1000,0,0);
INSERT INTO detailed_history VALUES(5,'2026-07-01 12:04:30','198.51.100.7',443,'192.0.2.1',40004,'curl','a report',64496,'Example Networks',52.520000000000003127,13.40499999999999936,508,154,1,'nas','out','tcp','/usr/bin/curl','c0ffee','DE','Other','2026-07-01 12:04:00.000','2026-07-01 12:04:00.000','2026-07-01 12:04:30.000',100,1000,0,0);
INSERT INTO detailed_history VALUES(6,'2026-07-01 12:05:30','2001:db8::7',443,'192.0.2.1',40005,'curl','a report',64496,'Example Networks',52.520000000000003127,13.40499999999999936,508,154,2,'laptop','out','tcp','/usr/bin/curl','','DE','Other','2026-07-01 12:05:00.000','2026-07-01 12:05:01.000',NULL,200,2000,100,1000);
INSERT INTO detailed_history VALUES(7,'2026-07-01 12:06:30','198.51.100.7',443,'192.0.2.1',40006,'curl','a report',64496,'Example Networks',NULL,NULL,NULL,NULL,1,'nas','out','tcp','/usr/bin/curl','','DE','Other','2026-07-01 12:06:00.000','2026-07-01 12:06:00.000',NULL,100,1000,0,0);
INSERT INTO detailed_history VALUES(8,'2026-07-01 12:07:30','2001:db8::7',443,'192.0.2.1',40007,'curl','a report',64496,'Example Networks',52.520000000000003127,13.40499999999999936,508,154,1,'laptop','out','tcp','/usr/bin/curl','','DE','Other','2026-07-01 12:07:00.000','2026-07-01 12:07:00.000',NULL,100,1000,0,0);
INSERT INTO detailed_history VALUES(9,'2026-07-01 12:08:30','198.51.100.7',443,'192.0.2.1',40008,'curl','a report',64496,'Example Networks',52.520000000000003127,13.40499999999999936,508,154,1,'nas','out','tcp','/usr/bin/curl','c0ffee','DE','Other','2026-07-01 12:08:00.000','2026-07-01 12:08:00.000','2026-07-01 12:08:30.000',100,1000,0,0);
INSERT INTO detailed_history VALUES(10,'2026-07-01 12:09:30','2001:db8::7',443,'192.0.2.1',40009,'curl','a report',64496,'Example Networks',NULL,NULL,NULL,NULL,1,'laptop','out','tcp','/usr/bin/curl','','DE','Other','2026-07-01 12:09:00.000','2026-07-01 12:09:00.000',NULL,100,1000,0,0);
INSERT INTO detailed_history VALUES(11,'2026-07-01 12:10:30','198.51.100.7',443,'192.0.2.1',40010,'curl','a report',64496,'Example Networks',52.520000000000003127,13.40499999999999936,508,154,2,'nas','out','tcp','/usr/bin/curl','','DE','Other','2026-07-01 12:10:00.000','2026-07-01 12:10:01.000',NULL,200,2000,100,1000);
INSERT INTO detailed_history VALUES(12,'2026-07-01 12:11:30','2001:db8::7',443,'192.0.2.1',40011,'curl','a report',64496,'Example Networks',52.520000000000003127,13.40499999999999936,508,154,1,'laptop','out','tcp','/usr/bin/curl','','DE','Other','2026-07-01 12:11:00.000','2026-07-01 12:11:00.000',NULL,100,1000,0,0);
CREATE TABLE places (
	id    INTEGER PRIMARY KEY,
	lat   REAL    NOT NULL,
	lon   REAL    NOT NULL,
	count INTEGER NOT NULL,
	UNIQUE (lat, lon)
);
INSERT INTO places VALUES(1,52.520000000000003127,13.40499999999999936,10);
CREATE INDEX detailed_history_timestamp ON detailed_history (timestamp);
CREATE TRIGGER detailed_history_insert AFTER INSERT ON detailed_history
WHEN new.lat IS NOT NULL BEGIN
	INSERT INTO places (lat, lon, count) VALUES (new.lat, new.lon, new.count)
		ON CONFLICT (lat, lon) DO UPDATE SET count = count + excluded.count;
END;
CREATE TRIGGER detailed_history_update AFTER UPDATE OF lat, lon, count ON detailed_history
WHEN old.count <> new.count OR old.lat IS NOT new.lat OR old.lon IS NOT new.lon BEGIN
	INSERT INTO places (lat, lon, count) SELECT new.lat, new.lon, new.count WHERE new.lat IS NOT NULL
		ON CONFLICT (lat, lon) DO UPDATE SET count = count + excluded.count;
	UPDATE places SET count = count - old.count WHERE lat = old.lat AND lon = old.lon;
	DELETE FROM places WHERE lat = old.lat AND lon = old.lon AND count <= 0;
END;
CREATE TRIGGER detailed_history_delete AFTER DELETE ON detailed_history
WHEN old.lat IS NOT NULL BEGIN
	UPDATE places SET count = count - old.count WHERE lat = old.lat AND lon = old.lon;
	DELETE FROM places WHERE lat = old.lat AND lon = old.lon AND count <= 0;
END;
COMMIT;
