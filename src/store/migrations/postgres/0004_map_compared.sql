-- At each start it is asked too which of the maps that came were compared with the ones before them.
DROP INDEX audit_of_maps;
CREATE INDEX audit_of_maps ON audit (seq)
WHERE strpos(record, '"action":"broker.started"') > 0 OR strpos(record, '"action":"map.reloaded"') > 0
   OR strpos(record, '"action":"map.compared"') > 0;
