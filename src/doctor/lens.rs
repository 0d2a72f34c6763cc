//! Lenses: each view the policy wants is there, is the policy's to the last operator, and belongs to nobody.
//!
//! In: the views as compiled, the catalog. Out: a check for each. Never: trust in a comment; what PostgreSQL makes of
//! the policy's text, in a temporary view that is rolled back, is compared with the view that is there.

use tokio_postgres::Client;

use super::{Check, Unanswered, ask};
use crate::policy::lens::{OWNER, View};
use crate::policy::rules::Rules;
use crate::sql::literal::quoted as literal;
use crate::sql::name::quoted;

const THERE: &str = "select w.at::int8, v.oid is not null, coalesce(pg_get_viewdef(v.oid), ''), \
       coalesce(obj_description(v.oid, 'pg_class'), ''), coalesce(o.rolname::text, ''), \
       coalesce('security_barrier=true' = any(v.reloptions), false), \
       coalesce('check_option=cascaded' = any(v.reloptions), false), \
       coalesce(has_any_column_privilege(r.oid, v.oid, 'SELECT'), false), \
       coalesce(has_any_column_privilege(r.oid, w.base, 'SELECT') or has_any_column_privilege(r.oid, w.base, 'UPDATE') \
         or has_table_privilege(r.oid, w.base, 'DELETE'), false) \
     from unnest($1::text[], $2::text[], $3::oid[], $4::text[]) with ordinality as w(schema, name, base, grantee, at) \
     left join pg_roles r on r.rolname = w.grantee \
     left join (pg_class v join pg_namespace n on n.oid = v.relnamespace join pg_roles o on o.oid = v.relowner) \
       on v.relkind = 'v' and n.nspname = w.schema and v.relname = w.name order by w.at";

/// A view as it is.
struct There {
    exists: bool,
    definition: String,
    comment: String,
    owner: String,
    barrier: bool,
    checked: bool,
    /// Its role reads it.
    read: bool,
    /// Its role has the table itself.
    base: bool,
}

/// Every lens of every role.
pub(super) async fn views(client: &Client, rules: &Rules, found: &mut Vec<Check>) {
    if rules.views.is_empty() {
        return;
    }
    let (there, expected) = match compare(client, &rules.views).await {
        Ok(answer) => answer,
        Err(error) => {
            let message = format!("the lenses could not be compared with the policy: {}", error.said);
            found.push(Check::warning("lens", message).sql("grant temporary on database DATABASE to CONTROL"));
            return;
        }
    };
    for ((view, there), expected) in rules.views.iter().zip(&there).zip(&expected) {
        let table = rules.schema.relation(view.base).map(|base| base.qualified()).unwrap_or_default();
        found.push(judge(view, there, expected).table(&table).role(&view.role));
    }
}

fn judge(view: &View, there: &There, expected: &str) -> Check {
    let name = format!("{}.{}", quoted(&view.schema), quoted(&view.name));
    let grantee = quoted(&view.grantee);
    if !there.exists {
        if there.base {
            let message =
                format!("{} has no lens and has rights on the table: a direct connection sees it", view.grantee);
            return Check::hole("lens", message).run("pgveil apply --lenses");
        }
        let message = format!("{} has no lens, and no right on the table either: it sees nothing", view.grantee);
        let check = Check::warning("lens", message).run("pgveil apply --lenses");
        let check = check.sql(format!("grant select on {name} to {grantee}"));
        return check
            .todo_by_hand("rights to write that went with the view are among the statements of pgveil.lens_undo");
    }
    let wrong = match () {
        () if there.owner != OWNER => Some(format!("belongs to {}", there.owner)),
        () if there.definition != expected => Some("does not show what the policy says".to_owned()),
        () if there.barrier && (there.checked || !view.filtered) => None,
        () => Some("has lost an option that keeps hidden rows hidden".to_owned()),
    };
    match wrong {
        Some(wrong) => {
            let message = format!("the lens {name} {wrong}");
            let exposed = there.read || there.base;
            let check = if exposed { Check::hole("lens", message) } else { Check::warning("lens", message) };
            if there.owner != OWNER {
                let sql = format!("alter view {name} owner to {}", quoted(OWNER));
                return check.sql(sql).run("pgveil doctor");
            }
            check.sql(format!("comment on view {name} is null")).run("pgveil apply --lenses")
        }
        None if there.comment != view.mark => {
            let message = format!("the lens {name} is right and is not marked so: pgveil does not use it");
            let sql = format!("comment on view {name} is {}", literal(&view.mark));
            Check::warning("lens", message).sql(sql)
        }
        None if there.base => {
            let message = format!("{} has its lens, and rights on the table beside it", view.grantee);
            Check::hole("lens", message).run("pgveil apply --lenses")
        }
        None if !there.read => {
            Check::ok("lens", format!("the lens is the policy's, and {} has no right to read it", view.grantee))
        }
        None => Check::ok("lens", format!("{} sees it through its lens, as the policy has it", view.grantee)),
    }
}

async fn compare(client: &Client, views: &[View]) -> Result<(Vec<There>, Vec<String>), Unanswered> {
    let schemas: Vec<&str> = views.iter().map(|view| &*view.schema).collect();
    let names: Vec<&str> = views.iter().map(|view| &*view.name).collect();
    let bases: Vec<u32> = views.iter().map(|view| view.base).collect();
    let grantees: Vec<&str> = views.iter().map(|view| &*view.grantee).collect();
    let rows = ask(client, THERE, &[&schemas, &names, &bases, &grantees]).await?;
    let there = rows.iter().map(|row| There {
        exists: row.get(1),
        definition: row.get(2),
        comment: row.get(3),
        owner: row.get(4),
        barrier: row.get(5),
        checked: row.get(6),
        read: row.get(7),
        base: row.get(8),
    });
    let there = there.collect();
    client.batch_execute("begin").await?;
    let expected = definitions(client, views).await;
    client.batch_execute("rollback").await?;
    Ok((there, expected?))
}

/// How PostgreSQL prints the policy's views.
async fn definitions(client: &Client, views: &[View]) -> Result<Vec<String>, Unanswered> {
    let mut expected = Vec::with_capacity(views.len());
    for view in views {
        client.batch_execute(&format!("create temporary view pgveil_doctor as {}", view.select)).await?;
        let rows = ask(client, "select pg_get_viewdef('pg_temp.pgveil_doctor'::regclass)", &[]).await?;
        expected.push(rows.first().map_or(String::new(), |row| row.get(0)));
        client.batch_execute("drop view pg_temp.pgveil_doctor").await?;
    }
    Ok(expected)
}
