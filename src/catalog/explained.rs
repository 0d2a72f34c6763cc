//! What `pgveil explain` asks of the catalog beside the schema.
//!
//! In: the control connection. Out: a login's search path before it sets one; the index that leads with a column. Never: a
//! row of a user's table.

use tokio_postgres::Client;

use super::connect::control;
use crate::error::Result;

/// A login's own setting in this database, its own, the database's, everybody's (`process_settings` in PostgreSQL's
/// `postinit.c`); else the server's, which a control account with a setting of its own cannot see.
const SEARCH_PATH: &str = "
with own as (
  select r.setrole, r.setdatabase, substr(c, 13) as value
  from pg_db_role_setting r, unnest(r.setconfig) c
  where c like 'search_path=%' and r.setdatabase in (0, (select oid from pg_database where datname = current_database()))
)
select coalesce(
  (select value from own where setrole in (0, (select oid from pg_roles where rolname = $1))
   order by setrole <> 0 desc, setdatabase <> 0 desc limit 1),
  (select case when exists (select from own where setrole in (0, (select oid from pg_roles where rolname = current_user)))
          then boot_val else reset_val end
   from pg_settings where name = 'search_path'))";

/// A usable index whose first key is the column itself, over all rows.
const INDEX: &str = "
select i.indexrelid::regclass::text from pg_index i
where i.indrelid = $1 and i.indkey[0] = $2 and i.indisvalid and i.indpred is null
order by i.indisunique desc, i.indnkeyatts, 1 limit 1";

/// The search path that the login has after connecting, as PostgreSQL writes it.
///
/// # Errors
/// The connection failed.
pub async fn search_path(client: &Client, role: &str) -> Result<String> {
    let row = client.query_one(SEARCH_PATH, &[&role]).await.map_err(|e| control(&e))?;
    Ok(row.get::<_, Option<String>>(0).unwrap_or_default())
}

/// The index of a table (`pg_class.oid`) that leads with a column (`attnum`), by its name.
///
/// # Errors
/// The connection failed.
pub async fn leading_index(client: &Client, table: u32, attnum: i16) -> Result<Option<String>> {
    let row = client.query_opt(INDEX, &[&table, &attnum]).await.map_err(|e| control(&e))?;
    Ok(row.map(|row| row.get(0)))
}
