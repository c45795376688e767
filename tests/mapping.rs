//! The ident map against real servers: what PostgreSQL makes of a pattern, and of a file.
//!
//! Cases are random. A failure prints the seed; `PGBRIDGE_SEED` repeats it, and `PGBRIDGE_CASES`
//! asks for more than the usual number of patterns, files or logins.

mod anything;
mod case;
mod certificate;
mod corpus;
mod differential;
mod edges;
mod generator;
mod hostile;
mod login;
mod oracle;
mod patterns;
mod promises;
mod rows;
mod upstream;

use std::env;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::Postgres;

/// A database where PostgreSQL is as at login: bytes, and the C collation.
const DATABASE: &str = "bytes";
const MAKE_DATABASE: &str =
    "CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'";

/// Text to and from the server as hexadecimal digits, so that any byte can be sent.
const FUNCTIONS: &str = r#"
CREATE FUNCTION plain(hex text) RETURNS text LANGUAGE sql
AS $$ SELECT convert_from(decode(hex, 'hex'), 'SQL_ASCII') $$;

CREATE FUNCTION hex(plain text) RETURNS text LANGUAGE sql
AS $$ SELECT encode(convert_to(plain, 'SQL_ASCII'), 'hex') $$;

-- What the pattern says of the subject: error, no, unset (no group 1, or none that took part), or
-- = and group 1.
CREATE FUNCTION ask(pattern text, subject text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    groups text[];
BEGIN
    groups := regexp_match(plain(subject) COLLATE "C", plain(pattern));
    RETURN CASE
        WHEN groups IS NULL THEN 'no'
        -- A pattern that is meant literally has no groups, whatever is put behind it.
        WHEN plain(pattern) ~ '^(\*\*\*=|(\*\*\*:)?\(\?[a-z]*q)' THEN 'unset'
        -- Without a group there is the whole match instead: one more group tells. A comment of
        -- (?x), which would hide it, ends with its line.
        WHEN cardinality(regexp_match(plain(subject) COLLATE "C", plain(pattern) || CASE
                WHEN plain(pattern) ~ '^(\*\*\*:)?\(\?[a-z]*x[a-su-z]*\)' THEN E'\n()' ELSE '()'
            END)) = 1
            THEN 'unset'
        ELSE coalesce('=' || hex(groups[1]), 'unset')
    END;
EXCEPTION WHEN invalid_regular_expression THEN
    RETURN 'error ' || SQLERRM;
END $$;
"#;

fn server(major: u32) -> Postgres {
    let server = Postgres::start(major);
    server.sql("postgres", MAKE_DATABASE);
    server.sql(DATABASE, FUNCTIONS);
    server
}

/// The random numbers of a test, from a seed that is printed when it fails.
fn dice() -> StdRng {
    let seed = env::var("PGBRIDGE_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or_else(|| rand::rng().random::<u64>());
    println!("PGBRIDGE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

fn cases(usual: usize) -> usize {
    env::var("PGBRIDGE_CASES").map_or(usual, |cases| cases.parse().expect("a number"))
}

fn hex(text: &str) -> String {
    data_encoding::HEXLOWER.encode(text.as_bytes())
}

fn unhex(digits: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(digits.as_bytes()).expect("hexadecimal digits")
}
