-- Which map was in force last is asked at each start, and may stand behind years of other records.
-- In a record quotes are escaped wherever they are a part of a text, so this is found nowhere else.
CREATE INDEX audit_of_maps ON audit (seq)
WHERE instr(record, '"action":"broker.started"') > 0 OR instr(record, '"action":"map.reloaded"') > 0;
