-- What a DBA has set up before anybody holds a lease: others, who own and are given things.
CREATE ROLE eve LOGIN PASSWORD 'eve';
CREATE ROLE tom NOLOGIN;
CREATE ROLE steward NOLOGIN;
CREATE ROLE hostile NOLOGIN;
GRANT orders_write TO hostile;
GRANT CONNECT, CREATE, TEMPORARY ON DATABASE orders, reports TO hostile;
GRANT CONNECT ON DATABASE orders TO eve;
-- So that it can take over whatever a lease role may make.
GRANT CREATE ON DATABASE orders, reports TO pgbridge_attic;
