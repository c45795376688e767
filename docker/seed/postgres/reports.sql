-- Database `reports`: `reports_read` may select.

SELECT 'CREATE DATABASE reports'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'reports')
\gexec
\connect reports
SET client_min_messages = warning;

REVOKE CONNECT, TEMPORARY ON DATABASE reports FROM PUBLIC;
GRANT CONNECT ON DATABASE reports TO reports_read, pgbridge;

CREATE SCHEMA IF NOT EXISTS finance;
CREATE TABLE IF NOT EXISTS finance.monthly_revenue (
    month date PRIMARY KEY,
    euros numeric(12, 2) NOT NULL
);
INSERT INTO finance.monthly_revenue (month, euros)
VALUES ('2025-11-01', 18250.00), ('2025-12-01', 31990.50), ('2026-01-01', 12480.75)
ON CONFLICT (month) DO NOTHING;

GRANT USAGE ON SCHEMA finance TO reports_read;
GRANT SELECT ON ALL TABLES IN SCHEMA finance TO reports_read;
